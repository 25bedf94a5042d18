"""Transactions, batches, life of the client, and what row objects do."""

from typing import Any

from tests.contract.cases.build import Case, call, case, json, moment
from tests.contract.cases.reads import MODELS


def add(name: str) -> Any:
    return call("config.create", data={"param_name": name})


COUNT = call("config.count")
DUPLICATE = add("array")
WRONG = call("config.create", data={"nothing": 1})
MISSING = call("teamtable.update", where={"team_id": "none"}, data={"spend": 1})
MISSING_DELETE = call("teamtable.delete", where={"team_id": "none"})
RAW = call("execute_raw", 'UPDATE "LiteLLM_TeamTable" SET spend = $1', 7)
BAD_SQL = call("query_raw", "SELEC 1")

TRANSACTIONS = [
    case("tx commits", {"tx": [add("a"), COUNT, add("b")]}, COUNT),
    case("tx rolls back at an exception", {"tx": [add("a"), COUNT], "fail": True}, COUNT),
    case("tx without queries", {"tx": []}, COUNT),
    case("tx that fails without queries", {"tx": [], "fail": True}),
    case("tx goes on after an error of the database", {"tx": [add("a"), DUPLICATE, COUNT, add("b")]}, COUNT),
    case("tx ends at an error of the database", {"tx": [add("a"), DUPLICATE, COUNT], "strict": True}, COUNT),
    case("tx goes on after a wrong argument", {"tx": [add("a"), WRONG, COUNT, add("b")]}, COUNT),
    case("tx goes on after a missing row", {"tx": [add("a"), MISSING, MISSING_DELETE, COUNT]}, COUNT),
    case("tx goes on after bad SQL", {"tx": [add("a"), BAD_SQL, COUNT]}, COUNT),
    case(
        "tx with raw statements",
        {"tx": [RAW, call("query_raw", 'SELECT spend FROM "LiteLLM_TeamTable" LIMIT 1')], "fail": True},
        call("teamtable.find_unique", where={"team_id": "team-2"}),
    ),
    case(
        "tx with an upsert and a nested write",
        {
            "tx": [
                call(
                    "teammembership.upsert",
                    where={"user_id_team_id": {"user_id": "n", "team_id": "team-1"}},
                    data={"create": {"user_id": "n", "team_id": "team-1"}, "update": {}},
                ),
                call(
                    "verificationtoken.create",
                    data={"token": "n", "litellm_budget_table": {"create": {"created_by": "a", "updated_by": "b"}}},
                ),
            ]
        },
    ),
    case(
        "tx with a nested write, rolled back",
        {
            "tx": [
                call(
                    "verificationtoken.create",
                    data={"token": "n", "litellm_budget_table": {"create": {"created_by": "a", "updated_by": "b"}}},
                )
            ],
            "fail": True,
        },
    ),
    case("tx expires before a query", {"tx": [add("a"), {"sleep": 0.5}, add("b"), COUNT], "timeout": 0.2}, COUNT),
    case("tx expires before its end", {"tx": [add("a"), {"sleep": 0.5}], "timeout": 0.2}, COUNT),
    case(
        "tx expires and is left by an exception",
        {"tx": [add("a"), {"sleep": 0.5}], "timeout": 0.2, "fail": True},
        COUNT,
    ),
    case("tx with a batch", {"tx": [{"batch": [add("a"), add("b")]}, COUNT]}, COUNT),
    case("tx with a batch, rolled back", {"tx": [{"batch": [add("a"), add("b")]}], "fail": True}, COUNT),
    case("tx with a batch that fails", {"tx": [{"batch": [add("a"), DUPLICATE]}, COUNT]}, COUNT),
    case("tx within a tx", {"tx": [{"tx": [add("inner")]}, add("outer")]}, COUNT),
    case(
        "tx with an isolated read",
        {
            "tx": [
                call("teamtable.update_many", where={}, data={"spend": 3}),
                call("teamtable.group_by", by=["spend"], count=True),
            ]
        },
    ),
]

BATCHES = [
    case("batch of creates", {"batch": [add("a"), add("b")]}, COUNT),
    case("batch with an error at its end", {"batch": [add("a"), add("b"), DUPLICATE]}, COUNT),
    case("batch with an error at its beginning", {"batch": [DUPLICATE, add("a")]}, COUNT),
    case("batch with a wrong argument", {"batch": [add("a"), WRONG]}, COUNT),
    case("batch with a missing row", {"batch": [add("a"), MISSING]}, COUNT),
    case("batch with a missing row to delete", {"batch": [add("a"), MISSING_DELETE]}, COUNT),
    case("batch left by an exception", {"batch": [add("a")], "fail": True}, COUNT),
    case("batch of nothing", {"batch": []}),
    case(
        "batch of all methods",
        {
            "batch": [
                add("a"),
                call("config.create_many", data=[{"param_name": "b"}], skip_duplicates=True),
                call("config.update", where={"param_name": "array"}, data={"reload_revision": {"increment": 1}}),
                call("config.update_many", where={"param_name": "object"}, data={"param_value": json(1)}),
                call("config.delete", where={"param_name": "false"}),
                call("config.delete_many", where={"param_name": "number"}),
                call("config.upsert", where={"param_name": "c"}, data={"create": {"param_name": "c"}, "update": {}}),
                RAW,
            ]
        },
    ),
    case(
        "batch with an include",
        {
            "batch": [
                call(
                    "verificationtoken.update",
                    where={"token": "key-1"},
                    data={"spend": 0},
                    include={"litellm_budget_table": True},
                )
            ]
        },
    ),
    case(
        "batch whose foreign key is missing",
        {"batch": [call("verificationtoken.create", data={"token": "n", "budget_id": "none"})]},
    ),
    case("batch with bad SQL", {"batch": [add("a"), call("execute_raw", "SELEC 1")]}, COUNT),
    case("batch with an unknown model", {"batch": [call("nothing.create", data={})]}),
    case("batch with a read", {"batch": [call("config.find_many")]}),
    case(
        "batch of budget resets",
        {
            "batch": [
                call(
                    "verificationtoken.update",
                    where={"token": token},
                    data={"spend": 0.0, "budget_reset_at": moment("2030-01-01T00:00:00+00:00")},
                )
                for token in ("key-1", "key-2")
            ]
        },
    ),
]

LIFE = [
    case(
        "a client that is not connected",
        {"disconnected": call("config.count")},
        {"disconnected": call("query_raw", "SELECT 1")},
        {"disconnected": {"batch": [add("a")]}},
        {"disconnected": {"tx": [add("a")]}},
        {"disconnected": call("disconnect")},
        {"disconnected": call("is_connected")},
    ),
    case("a client that is connected", call("is_connected"), call("is_transaction"), call("is_registered")),
    case("a second connect", call("connect")),
    case(
        "unknown names",
        call("nothing.find_many"),
        call("config.find_all"),
        call("config.create"),
        call("config.find_unique"),
        call("config.find_many", {"param_name": "array"}),
        call("no_such_method"),
    ),
]

DROPPED = 'ALTER TABLE "LiteLLM_UserNotifications" RENAME TO "Gone"'
RESTORED = 'ALTER TABLE "Gone" RENAME TO "LiteLLM_UserNotifications"'
DATABASE = [
    case(
        "a table that is not there",
        call("usernotifications.find_many"),
        call("usernotifications.create", data={"request_id": "a", "user_id": "b", "justification": "c", "status": "d"}),
        call("usernotifications.count"),
        call("query_raw", 'SELECT * FROM "LiteLLM_UserNotifications"'),
        {"batch": [call("usernotifications.delete_many")]},
        {"tx": [call("usernotifications.find_first")]},
        sql=DROPPED,
        undo=RESTORED,
    ),
    case(
        "a column that is not there",
        call("usernotifications.find_many"),
        call("usernotifications.create", data={"request_id": "a", "user_id": "b", "justification": "c", "status": "d"}),
        call("usernotifications.update_many", data={"status": "x"}, where={}),
        sql='ALTER TABLE "LiteLLM_UserNotifications" RENAME status TO other',
        undo='ALTER TABLE "LiteLLM_UserNotifications" RENAME other TO status',
    ),
    case(
        "a check that fails",
        call("config.update", where={"param_name": "array"}, data={"reload_revision": -1}),
        call("config.create", data={"param_name": "x", "reload_revision": -1}),
        sql='ALTER TABLE "LiteLLM_Config" ADD CONSTRAINT positive CHECK (reload_revision >= 0)',
        undo='ALTER TABLE "LiteLLM_Config" DROP CONSTRAINT positive',
    ),
    case(
        "a trigger that raises",
        call("config.update", where={"param_name": "array"}, data={"reload_revision": 5}),
        sql="CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'refused' USING DETAIL = 'because'; END$$; CREATE TRIGGER refuse BEFORE UPDATE ON \"LiteLLM_Config\" FOR EACH ROW EXECUTE FUNCTION refuse()",
        undo='DROP TRIGGER refuse ON "LiteLLM_Config"',
    ),
    case(
        "NULL in a column that must not have one",
        call("organizationtable.find_many", order={"organization_id": "asc"}),
        sql='ALTER TABLE "LiteLLM_OrganizationTable" ALTER spend DROP NOT NULL; UPDATE "LiteLLM_OrganizationTable" SET spend = NULL',
        undo='UPDATE "LiteLLM_OrganizationTable" SET spend = 0; ALTER TABLE "LiteLLM_OrganizationTable" ALTER spend SET NOT NULL',
    ),
    case(
        "special numbers",
        call("teamtable.find_many", order={"team_id": "asc"}),
        sql="UPDATE \"LiteLLM_TeamTable\" SET spend = 1e-300, max_budget = 1.7976931348623157e308 WHERE team_id = 'team-1'; UPDATE \"LiteLLM_TeamTable\" SET budget_reset_at = '9999-12-31 23:59:59.999', spend = -0.0 WHERE team_id = 'team-2'",
    ),
    case(
        "an enum's value that the schema has not",
        call("cronjob.find_many", order={"cronjob_id": "asc"}),
        sql="ALTER TYPE \"JobStatus\" RENAME VALUE 'ACTIVE' TO 'PAUSED'",
        undo="ALTER TYPE \"JobStatus\" RENAME VALUE 'PAUSED' TO 'ACTIVE'",
    ),
]

ROW_ACTIONS = [
    "dict", "model_dump", "model_dump exclude_none", "model_dump exclude_unset", "model_dump json", "json", "model_dump_json", "names", "equals its copy", "equals its dump", "repr", "hash", "get", "subscript", "unknown attribute", "set attribute", "set unknown attribute", "fields set", "validate its dump", "construct",
]  # fmt: skip


def rows() -> list[Case]:
    made = [
        case(f"row of {model}", {"rows": call(f"{model}.find_unique", where=where), "do": ROW_ACTIONS})
        for model, where in MODELS.items()
    ]
    made.append(
        case(
            "row with relations",
            {
                "rows": call(
                    "verificationtoken.find_unique",
                    where={"token": "key-1"},
                    include={"litellm_budget_table": True, "jwt_key_mappings": True},
                ),
                "do": ROW_ACTIONS,
            },
        )
    )
    names = sorted(
        {
            "LiteLLM_" + name
            for name in (
                "VerificationToken",
                "TeamTable",
                "UserTable",
                "BudgetTable",
                "OrganizationTable",
                "SpendLogs",
                "Config",
                "MCPServerTable",
                "ManagedFileContentTable",
                "CronJob",
                "AgentsTable",
                "WorkflowRun",
                "TeamMembership",
                "SkillsTable",
            )
        }
    )
    return made + [case(f"fields of {name}", {"attributes": name}) for name in names]


CASES = [*TRANSACTIONS, *BATCHES, *LIFE, *DATABASE, *rows()]
