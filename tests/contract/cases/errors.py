"""Wrong arguments of each method, and values of a wrong type for each type of field."""

from typing import Any

from tests.contract.cases.build import Case, base64, call, case, each, json, moment

FIELDS: dict[str, tuple[str, Any]] = {
    "String": ("team_alias", "x"), "Int": ("max_parallel_requests", 1), "BigInt": ("tpm_limit", 1), "Float": ("max_budget", 1.5), "Boolean": ("blocked", True), "DateTime": ("budget_reset_at", moment("2024-01-01T00:00:00")), "Json": ("metadata", json({})), "String[]": ("models", ["a"]),
}  # fmt: skip
VALUES: list[Any] = ["x", "", "1", "1.5", "true", "2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01 00:00:00", "2024-01-01T00:00:00.123456789+01:00", "2024-13-01T00:00:00Z", 1, -1, 0, 1.5, 1.0, 1e300, 2147483648, 9223372036854775807, True, False, None, [], ["x"], [1], [None], {}, {"a": 1}, json({"a": 1}), json(1), json("x"), moment("2024-01-01T00:00:00"), base64("AA=="), {"$decimal": "1.5"}, {"$enum": "x"}, {"$float": "nan"}, {"$float": "inf"}, {"$bytes": "AA=="}, {"$date": "2024-01-01"}, {"$set": ["x"]}, {"$tuple": ["x"]}]  # fmt: skip


def types() -> list[Case]:
    """Give each value to each type of field: to create, to update, to find by."""
    made = []
    for kind, (field, _) in FIELDS.items():
        for value in VALUES:
            steps = [
                call("teamtable.create", data={"team_id": "new", field: value}),
                call("teamtable.update", where={"team_id": "new"}, data={field: value}),
                {**call("teamtable.find_many", where={field: value}, order={"team_id": "asc"}), "keep": "team_id"},
                {
                    **call("teamtable.find_many", where={field: {"equals": value}}, order={"team_id": "asc"}),
                    "keep": "team_id",
                },
            ]
            made.append(case(f"{value!r} for {kind}", *steps))
    return made


OPERATORS = [
    "equals",
    "not",
    "in",
    "not_in",
    "lt",
    "contains",
    "startswith",
    "has",
    "has_some",
    "is_empty",
    "path",
    "string_contains",
    "mode",
    "is",
    "some",
    "increment",
    "nothing",
]


def operators() -> list[Case]:
    """Give each operator to each type of field, also those that it has not."""
    return [
        case(
            f"{operator} of {kind}",
            {
                **call(
                    "teamtable.find_many",
                    where={field: {operator: [value] if operator in {"in", "not_in", "has_some"} else value}},
                    order={"team_id": "asc"},
                ),
                "keep": "team_id",
            },
        )
        for kind, (field, value) in FIELDS.items()
        for operator in OPERATORS
    ]


BUDGET = {"created_by": "me", "updated_by": "me"}
CALLS = [
    call("budgettable.create", data={}), call("budgettable.create", data={"created_by": "x"}), call("budgettable.create", data={**BUDGET, "nothing": 1}), call("budgettable.create", data={**BUDGET, "created_by": None}), call("budgettable.create", data={**BUDGET, "budget_id": "budget-1"}), call("budgettable.create", data=None), call("budgettable.create", data=[BUDGET]), call("budgettable.create", data="x"), call("budgettable.create", data=BUDGET, include={"nothing": True}), call("budgettable.create", data={**BUDGET, "keys": {"connect": [{"token": "none"}]}}), call("budgettable.create", data={**BUDGET, "keys": {"connect": [{"key_alias": "first"}]}}), call("budgettable.create", data={**BUDGET, "keys": {"nothing": {}}}), call("budgettable.create", data={**BUDGET, "keys": {"create": [{"nothing": 1}]}}), call("budgettable.create", data={**BUDGET, "keys": {"create": [{}]}}), call("budgettable.create", data={**BUDGET, "keys": {}}), call("budgettable.create", data={**BUDGET, "keys": None}), call("budgettable.create", data={**BUDGET, "tpm_limit": {"increment": 1}}), call("budgettable.create", data={**BUDGET, "a b": 1}), call("budgettable.create", data={**BUDGET, "created_at": None}), call("budgettable.create", data={**BUDGET, "budget_id": None}),
    call("usertable.create", data={"user_id": "user-1"}), call("usertable.create", data={"user_id": "n", "sso_user_id": "sso-1"}), call("usertable.create", data={"user_id": "n", "organization_id": "none"}), call("usertable.create", data={}), call("organizationmembership.create", data={"user_id": "user-1", "organization_id": "org-1"}), call("organizationmembership.create", data={"user_id": "none", "organization_id": "org-1"}), call("workflowevent.create", data={"run_id": "run-1", "event_type": "e", "step_name": "s", "sequence_number": 1}), call("workflowevent.create", data={"run_id": "none", "event_type": "e", "step_name": "s", "sequence_number": 1}), call("jwtkeymapping.create", data={"jwt_claim_name": "sub", "jwt_claim_value": "ann", "token": "key-2"}), call("dailyuserspend.create", data={"user_id": "user-1", "date": "2024-01-01", "api_key": "key-1", "model": "gpt-4o", "custom_llm_provider": "openai", "mcp_namespaced_tool_name": "", "endpoint": "/chat/completions"}),
    call("teamtable.find_many", where="x"), call("teamtable.find_many", where=[]), call("teamtable.find_many", where={"AND": "x"}), call("teamtable.find_many", where={"OR": {"blocked": True}}), call("teamtable.find_many", where={"or": []}), call("teamtable.find_many", where={"litellm_organization_table": {"some": {}}}), call("teamtable.find_many", where={"litellm_organization_table": {"nothing": 1}}), call("teamtable.find_many", where={"litellm_organization_table": "org-1"}), call("organizationtable.find_many", where={"teams": {"is": {}}}), call("organizationtable.find_many", where={"teams": {"blocked": True}}), call("organizationtable.find_many", where={"teams": {}}), call("organizationtable.find_many", where={"teams": None}), call("organizationtable.find_many", where={"teams": {"some": {"nothing": 1}}}), call("teamtable.find_many", where={"a b": 1}), call("teamtable.find_many", include={"nothing": True}), call("teamtable.find_many", include="x"), call("teamtable.find_many", include={"projects": {"take": "x"}}),
    call("teamtable.update", where={}, data={}), call("teamtable.update", where={"team_id": "team-1"}, data=None), call("teamtable.update", where=None, data={}), call("teamtable.update", data={"spend": 1}, where={"nothing": 1}), call("teamtable.update", where={"team_id": "team-1"}, data={"litellm_organization_table": {"connect": {"organization_id": "none"}}}), call("teamtable.update", where={"team_id": "team-1"}, data={"litellm_organization_table": {"connect": {}}}), call("teamtable.update", where={"team_id": "team-1"}, data={"litellm_organization_table": {"update": {"spend": {"increment": 1}}}}), call("teamtable.update", where={"team_id": "team-2"}, data={"litellm_model_table": {"disconnect": True}}), call("teamtable.delete", where={}), call("teamtable.delete", where={"nothing": 1}), call("teamtable.delete_many", where={"team_id": {"nothing": 1}}), call("teamtable.upsert", where={}, data={"create": {}, "update": {}}), call("teamtable.upsert", where={"team_id": "x"}, data={}), call("teamtable.create_many", data=None), call("teamtable.create_many", data="x"), call("teamtable.create_many", data=[1]), call("teamtable.create_many", data=[{"team_id": "team-1"}]), call("teamtable.count", where={"team_id": 5}), call("teamtable.group_by", by=None), call("teamtable.group_by", by=["team_id"], having={"nothing": 1}), call("teamtable.group_by", by=["team_id"], order={"nothing": "asc"}), call("teamtable.group_by", by=["team_id"], sum={"team_alias": True}), call("teamtable.find_first", order={"team_id": 1}), call("teamtable.find_unique", where={"team_id": 5}), call("teamtable.find_unique", where={"team_id": ["team-1"]}), call("teamtable.find_unique"),
    call("teamtable.create", data={"team_id": "\u0000"}), call("teamtable.create", data={"metadata": json("\u0000")}), call("teamtable.create", data={"models": ["\u0000"]}), call("teamtable.find_many", where={"team_alias": "\u0000"}), call("config.create", data={"param_name": {"$repeat": 70000}}), call("teamtable.create", data={"team_id": "new", "object_permission": {"connect": {"object_permission_id": "none"}}}), call("verificationtoken.find_many", where={"token": {"in": {"$range": 40000}}}), call("verificationtoken.find_many", where={"token": {"in": {"$range": 3000}}}, order={"token": "asc"}),
]  # fmt: skip

CASES = [*types(), *operators(), *each("call", CALLS)]
