"""Filters: each operator on each type of field, groups, lists, Json, relations."""

from typing import Any

from tests.contract.cases.build import Case, base64, call, case, json, moment

# Model, its order, and fields with values that are there, near and far.
SCALARS: list[tuple[str, str, str, list[Any]]] = [
    ("teamtable", "team_id", "team_alias", ["Alpha", "beta", "", "50%_off", "zzz"]),
    ("teamtable", "team_id", "team_id", ["team-1", "team-9"]),
    ("verificationtoken", "token", "key_alias", ["second", 'it\'s "quoted" \\ 100%', "Ünï"]),
    ("verificationtoken", "token", "max_parallel_requests", [0, 2, -7, 2147483647]),
    ("verificationtoken", "token", "tpm_limit", [100, -1, 9223372036854775807, "100"]),
    ("verificationtoken", "token", "spend", [0, 0.1, 20.25, 3, 1e21]),
    ("verificationtoken", "token", "max_budget", [0, 10.0, 2.5]),
    (
        "verificationtoken",
        "token",
        "expires",
        [
            moment("2030-01-01T00:00:00+00:00"),
            "2020-01-01T00:00:00.001Z",
            moment("2025-06-15T14:30:45.123456+02:00"),
            moment("2022-01-01T00:00:00"),
        ],
    ),
    ("teamtable", "team_id", "created_at", [moment("2024-01-03T00:00:00"), "2024-01-02T01:00:00+01:00"]),
    ("cronjob", "cronjob_id", "status", ["ACTIVE", {"$enum": "INACTIVE"}]),
    ("managedfilecontenttable", "id", "content", [base64("AAH+/w=="), base64("")]),
    ("skillstable", "skill_id", "file_content", [base64("UEsDBA=="), "UEsDBA=="]),
]
BOOLEANS = [("teamtable", "team_id", "blocked"), ("verificationtoken", "token", "blocked")]
NULLABLE = {
    "team_alias",
    "key_alias",
    "max_parallel_requests",
    "tpm_limit",
    "max_budget",
    "expires",
    "file_content",
    "blocked",
}
COMPARISONS = ("equals", "not", "lt", "lte", "gt", "gte")
TEXTS = ("contains", "startswith", "endswith", "startsWith", "endsWith")


def find(model: str, order: str, where: Any) -> Any:
    """Find, and keep of the rows no more than which they are."""
    return {**call(f"{model}.find_many", where=where, order={order: "asc"}), "keep": order}


def one_line(value: Any) -> str:
    return next(iter(value.values())) if isinstance(value, dict) else repr(value)


def scalars() -> list[Case]:
    made = []
    for model, order, field, values in SCALARS:
        is_text, no_order = (
            isinstance(values[0], str) and field != "status",
            field in {"status", "content", "file_content"},
        )
        for value in values:
            filters: list[Any] = [value, *({name: value} for name in COMPARISONS[: 2 if no_order else 6])]
            filters += [{"in": [value]}, {"not_in": [value]}, {"not": {"equals": value}}]
            if is_text:
                filters += [{name: value} for name in TEXTS[:3]]
                filters += [
                    {"contains": value, "mode": "insensitive"},
                    {"equals": value, "mode": "insensitive"},
                    {"in": [value], "mode": "insensitive"},
                ]
            if not no_order:
                filters.append({"not": {"gt": value}})
            made.append(
                case(f"{model}.{field} {one_line(value)}", *(find(model, order, {field: one}) for one in filters))
            )
        every: list[Any] = [{"in": []}, {"not_in": []}, {}, {"in": values}, {"not_in": values}, {"notIn": values}]
        if field in NULLABLE:
            every += [
                None,
                {"not": None},
                {"equals": None},
                {"in": [*values, None]},
                {"not": {"not": None}},
                {"not": {"not": values[0]}},
            ]
        made += [
            case(f"{model}.{field} #{number} {one}"[:90], find(model, order, {field: one}))
            for number, one in enumerate(every)
        ]
    for model, order, field in BOOLEANS:
        filters = [True, False, {"equals": True}, {"not": True}, {"not": False}, {"not": {"equals": False}}]
        made += [case(f"{model}.{field} {one}", find(model, order, {field: one})) for one in filters]
    made += [
        case(f"verificationtoken.blocked {one}", find("verificationtoken", "token", {"blocked": one}))
        for one in (None, {"not": None}, {"equals": None})
    ]
    return made


TEXT_MATCHES = ["%", "_", "50%", "\\", "%off", "a", "A", "AL", "É", "ü", "'", '"', ""]


def texts() -> list[Case]:
    made = []
    for needle in TEXT_MATCHES:
        for name in TEXTS[:3]:
            made.append(  # noqa: PERF401
                case(
                    f"team_alias {name} {needle!r}",
                    *(
                        find("teamtable", "team_id", {"team_alias": one})
                        for one in (
                            {name: needle},
                            {name: needle, "mode": "insensitive"},
                            {"not": {name: needle}},
                            {"not": {name: needle}, "mode": "insensitive"},
                        )
                    ),
                )
            )
    combined: list[Any] = [
        {"contains": "a", "startswith": "A"},
        {"gt": "A", "lt": "c"},
        {"contains": "ALPHA", "mode": "default"},
        {"gt": "a", "mode": "insensitive"},
        {"not": "ALPHA", "mode": "insensitive"},
        {"not_in": ["ALPHA", "BETA"], "mode": "insensitive"},
        {"startsWith": "A"},
        {"endsWith": "a"},
        {"contains": "a", "not": None},
        {"not": {"contains": "a", "startswith": "b"}},
    ]
    made += [case(f"team_alias {one}", find("teamtable", "team_id", {"team_alias": one})) for one in combined]
    return made


A: Any = {"team_alias": "Alpha"}
B: Any = {"blocked": True}
GROUPS: list[Any] = [
    {},
    {"AND": []},
    {"OR": []},
    {"NOT": []},
    {"AND": {}},
    {"NOT": {}},
    {"OR": [{}]},
    {"AND": [{}]},
    {"NOT": [{}]},
    {"AND": [A, B]},
    {"AND": A},
    {"OR": [A, B]},
    {"OR": [A]},
    {"NOT": A},
    {"NOT": [A]},
    {"NOT": [A, B]},
    {"NOT": {**A, **B}},
    {"OR": [{"OR": []}, A]},
    {"OR": [{"AND": []}, A]},
    {"OR": [{"NOT": []}, A]},
    {"AND": [{"OR": []}, A]},
    {"AND": [{"NOT": []}, A]},
    {"NOT": {"OR": []}},
    {"NOT": {"AND": []}},
    {"NOT": {"NOT": []}},
    {"NOT": {"OR": [A, B]}},
    {"NOT": {"AND": [A, B]}},
    {"NOT": {"NOT": A}},
    {"NOT": [{"NOT": A}, B]},
    {"OR": [A, B], "team_id": "team-2"},
    {"OR": [A, B], "AND": [B], "NOT": [A]},
    {"AND": [{"OR": [A, B]}, {"OR": [{"spend": 5}, {"spend": {"gt": 5}}]}]},
    {"OR": [{"AND": [A, {"spend": {"gt": 0}}]}, {"team_alias": None}]},
    {"team_alias": None, "organization_id": None},
    {"NOT": {"team_alias": None}},
    {"NOT": {"team_alias": "Alpha"}, "organization_id": None},
    {"OR": [{"team_alias": {"in": []}}, {"team_id": {"not_in": ["team-1"]}}]},
    {"OR": [{"team_id": "team-1"}, {"team_id": None}]},
    {"AND": [A, A]},
]

LISTS: list[Any] = [
    {"has": "gpt-4o"},
    {"has": "none"},
    {"has": None},
    {"has_every": ["gpt-4o", "claude"]},
    {"has_every": []},
    {"has_some": ["claude", "x"]},
    {"hasSome": ["claude", "x"]},
    {"hasEvery": ["gpt-4o"]},
    {"has_some": []},
    {"hasSome": []},
    {"is_empty": True},
    {"is_empty": False},
    {"isEmpty": True},
    {"equals": ["gpt-4o", "claude"]},
    {"equals": ["claude", "gpt-4o"]},
    {"equals": []},
    {"equals": None},
    ["gpt-4o"],
    [],
    None,
    {"has": "gpt-4o", "is_empty": False},
    {"has": "é"},
    {"has": 'c"d'},
    {"has": "a,b"},
    {},
]

JSONS: list[Any] = [
    {"equals": json({"a": {"b": ["x", "y"]}, "c": "Text with % and _"})},
    {"equals": json(None)},
    {"equals": json("Text")},
    {"equals": json(12.5)},
    {"equals": json(False)},
    {"equals": json([1, "two", None, {"three": 3}])},
    {"equals": '"Text"'},
    {"equals": "12.5"},
    {"not": json(None)},
    {"not": json("Text")},
    {"not": json({})},
    {"path": ["a", "b"], "equals": json(["x", "y"])},
    {"path": ["a", "b", "0"], "equals": json("x")},
    {"path": ["a", "b", "1"], "not": json("x")},
    {"path": ["c"], "string_contains": "Text"},
    {"path": ["c"], "string_contains": "%"},
    {"path": ["c"], "string_starts_with": "Text"},
    {"path": ["c"], "string_ends_with": "_"},
    {"string_contains": "ex"},
    {"string_starts_with": "T"},
    {"string_ends_with": "t"},
    {"path": ["missing"], "equals": json("x")},
    {"path": ["missing"], "equals": json(None)},
    {"path": [], "equals": json("Text")},
    {"path": ["0"], "equals": json(1)},
    {"path": ["3", "three"], "equals": json(3)},
    {"array_contains": json([1])},
    {"array_contains": json(["two"])},
    {"path": ["a", "b"], "array_contains": json(["x"])},
    {"path": ["a", "b"], "array_starts_with": json("x")},
    {"path": ["a", "b"], "array_ends_with": json("y")},
    {"array_starts_with": json(1)},
    {"gt": json(10)},
    {"gte": json(12.5)},
    {"lt": json(100)},
    {"lte": json("Text")},
    {"gt": json("A")},
    {"path": ["3", "three"], "gt": json(2)},
    {"path": ["c"], "gt": json("A")},
    {"path": ["2"], "equals": json(None)},
    {"path": ["2"], "not": json(1)},
    None,
    {"equals": None},
    {"not": None},
    {},
    json("Text"),
    "text",
    {"a": 1},
    {"equals": {"a": 1}},
    {"path": "a", "equals": json(1)},
    {"path": ["c"]},
    {"equals": "no json"},
    {"contains": "x"},
]

RELATIONS: dict[tuple[str, str], list[Any]] = {
    ("teamtable", "team_id"): [
        {"litellm_organization_table": {"is": {"organization_alias": "Acme"}}},
        {"litellm_organization_table": {"is_not": {"organization_alias": "Acme"}}},
        {"litellm_organization_table": {"isNot": {"organization_alias": "Acme"}}},
        {"litellm_organization_table": {"organization_alias": "Acme"}},
        {"litellm_organization_table": None},
        {"litellm_organization_table": {"is": None}},
        {"litellm_organization_table": {"is_not": None}},
        {"litellm_organization_table": {}},
        {"litellm_organization_table": {"is": {}}},
        {"litellm_organization_table": {"is_not": {}}},
        {"NOT": {"litellm_organization_table": {"is": {"organization_alias": "Acme"}}}},
        {"NOT": {"litellm_organization_table": {"organization_alias": {"not": "Acme"}}}},
        {"OR": [{"litellm_organization_table": {"is": {"spend": {"gt": 1}}}}, {"team_alias": None}]},
        {"litellm_model_table": {"is": {"model_aliases": {"path": ["fast"], "equals": json("gpt-4o-mini")}}}},
        {"litellm_organization_table": {"is": {"litellm_budget_table": {"is": {"max_budget": {"gt": 1}}}}}},
        {"object_permission": {"is": {"mcp_servers": {"has": "mcp-1"}}}},
        {"litellm_organization_table": {"is": {"metadata": {"path": ["tier"], "equals": json("gold")}}}},
        {"litellm_organization_table": {"is": {"object_permission_id": None}}},
        {"litellm_organization_table": {"is": {"NOT": {"organization_alias": "Acme"}}}},
        {"litellm_organization_table": {"is": {"organization_alias": "Acme"}, "is_not": {"spend": 3}}},
    ],
    ("organizationtable", "organization_id"): [
        {"teams": {"some": {"blocked": True}}},
        {"teams": {"every": {"blocked": True}}},
        {"teams": {"none": {"blocked": True}}},
        {"teams": {"some": {}}},
        {"teams": {"none": {}}},
        {"teams": {"every": {}}},
        {"teams": {"some": {"blocked": True}, "none": {"team_alias": "zzz"}}},
        {"NOT": {"teams": {"some": {"blocked": True}}}},
        {"NOT": {"teams": {"every": {"blocked": False}}}},
        {"teams": {"every": {"team_alias": {"contains": "a"}}}},
        {"members": {"some": {"user_role": "org_admin"}}},
        {"members": {"some": {"user": {"is": {"user_alias": "Ann"}}}}},
        {"members": {"none": {"budget_id": None}}},
        {"members": {"every": {"spend": {"gt": 1}}}},
        {"users": {"some": {"user_email": {"contains": "EXAMPLE", "mode": "insensitive"}}}},
        {"keys": {"some": {"litellm_budget_table": {"is": {"budget_id": "budget-1"}}}}},
        {"teams": {"some": {"OR": [{"blocked": True}, {"spend": {"gt": 1}}]}}},
        {"teams": {"some": {"OR": []}}},
    ],
    ("agentstable", "agent_id"): [
        {"identity": {"is": {"active": True}}},
        {"identity": {"is_not": {"active": True}}},
        {"identity": None},
        {"identity": {"is": None}},
        {"identity": {"is_not": None}},
        {"NOT": {"identity": {"is": {"provider": "entra"}}}},
    ],
    ("organizationmembership", "user_id"): [
        {"user": {"is": {"user_alias": "Ann"}}},
        {"user": {"is_not": {"user_alias": "Ann"}}},
        {"user": {"user_alias": {"not": "Ann"}}},
        {"organization": {"is": {"teams": {"some": {"blocked": True}}}}},
    ],
}


def groups() -> list[Case]:
    return [case(f"teamtable {one}", find("teamtable", "team_id", one)) for one in GROUPS]


def lists() -> list[Case]:
    made = [case(f"models {one}", find("verificationtoken", "token", {"models": one})) for one in LISTS]
    made += [
        case(f"not models {one}", find("verificationtoken", "token", {"NOT": {"models": one}})) for one in LISTS[:17]
    ]
    made += [
        case(f"NULL list {one}", find("mcpservertable", "server_id", {"mcp_access_groups": one})) for one in LISTS[:15]
    ]
    return made


def jsons() -> list[Case]:
    made = [case(f"param_value {one}", find("config", "param_name", {"param_value": one})) for one in JSONS]
    made += [
        case(f"not param_value {one}", find("config", "param_name", {"NOT": {"param_value": one}}))
        for one in JSONS[:37]
    ]
    nested: list[Any] = [
        {"metadata": {"path": ["deep", "list", "1"], "equals": json(2)}},
        {"metadata": {"path": ["tags"], "array_contains": json(["prod"])}},
        {"metadata": {"path": ["tags"], "equals": json([])}},
        {"metadata": {"path": ["score"], "gte": json(1.5)}},
        {"OR": [{"metadata": {"equals": json("plain")}}, {"aliases": {"path": ["a"], "equals": json("b")}}]},
        {"metadata": {"equals": json(None)}},
        {"metadata": None},
        {"metadata": {"not": json(None)}},
    ]
    return made + [case(f"verificationtoken {one}", find("verificationtoken", "token", one)) for one in nested]


def relations() -> list[Case]:
    return [
        case(f"{model} {one}", find(model, order, one))
        for (model, order), wanted in RELATIONS.items()
        for one in wanted
    ]


CASES = [*scalars(), *texts(), *groups(), *lists(), *jsons(), *relations()]
