"""Raw statements: types of parameters, types of results, errors; transactions and batches have them as well."""

from typing import Any

from tests.contract.cases.build import Case, base64, call, case, each, json, moment

PARAMETERS: list[Any] = [
    1, -1, 0, 2147483647, 2147483648, 9223372036854775807, 9223372036854775808, 1.5, 1.0, 1e100, 0.1, "text", "", "é😀", "a'b\"c\\d", "line\nbreak", "2024-01-01", "2024-01-01T00:00:00Z", "12", True, False, None,
    moment("2024-01-01T00:00:00.123456+02:00"), moment("2024-01-01T00:00:00"), [1, 2], [1.5, 2], ["a", "b"], [], [True], [None], ["a", None], [[1, 2], [3]], {"a": 1}, {}, [{"a": 1}], json({"a": [1]}), json("text"), json(None), base64("AAH/"), {"$decimal": "1.50"}, {"$enum": "ACTIVE"}, {"$bytes": "AAE="}, {"$date": "2024-01-01"}, {"$set": ["a"]}, {"$tuple": [1, 2]}, {"$float": "nan"},
]  # fmt: skip
CASTS = [
    "",
    "::text",
    "::int",
    "::bigint",
    "::float8",
    "::timestamp",
    "::timestamptz",
    "::jsonb",
    "::boolean",
    "::text[]",
    "::int[]",
    "::date",
    "::numeric",
]


def parameters() -> list[Case]:
    """Each value with each cast: also those that PostgreSQL refuses."""
    return [
        case(f"parameter {value!r}", *(call("query_raw", f"SELECT $1{cast} AS value", value) for cast in CASTS))
        for value in PARAMETERS
    ]


TYPES = [
    "1::smallint", "1::int", "1::bigint", "9223372036854775807::bigint", "1.5::real", "1.5::float8", "0.1::float8 + 0.2", "'NaN'::float8", "'Infinity'::float8", "1.50::numeric", "123456789012345678901234567890::numeric", "0::numeric", "1.0::numeric(10,2)", "'a'::text", "'a'::varchar(5)", "'a'::char(3)", "true", "NULL", "NULL::int", "'2024-01-01'::date", "'10:11:12'::time", "'10:11:12.5+02'::timetz", "'2024-01-01 10:11:12'::timestamp", "'2024-01-01 10:11:12.123456'::timestamp", "'2024-01-01 10:11:12.1'::timestamp", "'2024-01-01 10:11:12+02'::timestamptz", "'2024-01-01 10:11:12.123456+00'::timestamptz", "'0044-03-15 BC'::timestamp", "'infinity'::timestamp",
    "'{\"a\": [1, 2.0, null]}'::jsonb", "'{\"a\":  1}'::json", "'null'::jsonb", "'\"text\"'::jsonb", "'5'::jsonb", "'\\x00ff'::bytea", "'6f1f8b0e-5f0e-4b0e-8b0e-0123456789ab'::uuid", "'127.0.0.1'::inet", "'1 day 02:03:04'::interval", "'{1,2}'::int[]", "'{a,NULL}'::text[]", "'{}'::text[]", "'{1.5}'::float8[]", "'{1.5}'::numeric[]", "'{t,f}'::bool[]", "'{2024-01-01 10:00:00}'::timestamp[]", "ARRAY['{\"a\":1}'::jsonb]", "'ACTIVE'::\"JobStatus\"", "ARRAY['ACTIVE'::\"JobStatus\"]", "'a'::name", "'a'::\"char\"", "1::oid", "'pg_class'::regclass", "'<a/>'::xml", "B'101'::bit(3)", "'$1.50'::money", "'(1,2)'::point", "int4range(1,5)", "count(*)", "sum(1)", "avg(1)", "sum(1.5::float8)", "max('2024-01-01'::timestamp)", "now() IS NOT NULL", "ROW(1,'a')", "'a,b'::citext", "pg_sleep(0)",
]  # fmt: skip

STATEMENTS = [
    call("query_raw", 'SELECT * FROM "LiteLLM_TeamTable" ORDER BY team_id'), call("query_raw", 'SELECT * FROM "LiteLLM_SpendLogs" ORDER BY request_id LIMIT 1'), call("query_raw", 'SELECT * FROM "LiteLLM_ManagedFileContentTable" ORDER BY id'), call("query_raw", 'SELECT * FROM "LiteLLM_CronJob" ORDER BY cronjob_id'), call("query_first", 'SELECT team_id FROM "LiteLLM_TeamTable" ORDER BY team_id'), call("query_first", 'SELECT team_id FROM "LiteLLM_TeamTable" WHERE false'), call("query_raw", 'SELECT team_id FROM "LiteLLM_TeamTable" WHERE false'), call("query_raw", "SELECT 1 AS a, 2 AS a"), call("query_raw", "SELECT 1, 'x'"), call("query_raw", "SELECT"),
    call("query_raw", 'SELECT team_id FROM "LiteLLM_TeamTable" WHERE team_id = ANY($1) ORDER BY 1', ["team-1", "team-2"]), call("query_raw", 'SELECT team_id FROM "LiteLLM_TeamTable" WHERE spend > $1 AND tpm_limit <= $2 ORDER BY 1', 0.2, 1000), call("query_raw", 'SELECT request_id FROM "LiteLLM_SpendLogs" WHERE "startTime" >= $1::timestamp ORDER BY 1', "2024-01-02"), call("query_raw", 'SELECT request_id FROM "LiteLLM_SpendLogs" WHERE "startTime" >= $1 ORDER BY 1', moment("2024-01-02T00:00:00")), call("query_raw", 'SELECT request_id FROM "LiteLLM_SpendLogs" WHERE "startTime" >= ($1::timestamptz AT TIME ZONE \'UTC\') ORDER BY 1', "2024-01-02T00:00:00+00:00"), call("query_raw", 'SELECT request_id FROM "LiteLLM_SpendLogs" ORDER BY 1 LIMIT $1 OFFSET $2', 2, 1), call("query_raw", 'SELECT date_trunc(\'day\', "startTime") AS day, SUM(spend) AS spend, COUNT(*) AS n FROM "LiteLLM_SpendLogs" GROUP BY 1 ORDER BY 1'), call("query_raw", 'SELECT DATE("startTime") AS day, SUM(total_tokens) AS tokens FROM "LiteLLM_SpendLogs" GROUP BY 1 ORDER BY 1'), call("query_raw", 'SELECT jsonb_array_elements_text(request_tags) AS tag, COUNT(*) FROM "LiteLLM_SpendLogs" WHERE jsonb_typeof(request_tags) = \'array\' GROUP BY 1 ORDER BY 1'), call("query_raw", "SELECT metadata->>'level' AS level FROM \"LiteLLM_TeamTable\" WHERE metadata ? 'level' ORDER BY team_id"), call("query_raw", "SELECT '$1' AS literal, $1::text AS value -- $2", "x"), call("query_raw", "SELECT $1::text || $1::text AS twice", "x"), call("query_raw", "SELECT '100%' AS percent, 'a' LIKE '%a%' AS liked"), call("query_raw", "SELECT 1 AS a;"), call("query_raw", "SELECT 1 AS a; SELECT 2 AS b"), call("query_raw", "SELECT E'it\\'s' AS escaped, $$dollar$$ AS quoted"), call("query_raw", "SELECT :a"), call("query_raw", "SELECT $2::int AS second", 1, 2), call("query_raw", "SELECT $1::int AS a", 1, 2), call("query_raw", "SELECT $1::int AS a"), call("query_raw", "SELECT interval '1 day' * $1 AS span", 2), call("query_raw", "SELECT NOW() - ($1 || ' days')::interval < NOW() AS past", "30"), call("query_raw", "SELECT make_interval(days => $1) AS span", 3), call("query_raw", "SELECT COALESCE($1, 'x') AS a", None), call("query_raw", "SELECT $1 IS NULL AS absent", None), call("query_raw", "VALUES (1, 'a'), (2, NULL)"), call("query_raw", "SHOW transaction_read_only"), call("query_raw", "EXPLAIN SELECT 1"),
    call("query_raw", "SELEC 1"), call("query_raw", 'SELECT * FROM "NoSuchTable"'), call("query_raw", 'SELECT nothing FROM "LiteLLM_TeamTable"'), call("query_raw", "SELECT 1/0"), call("query_raw", "SELECT 'x'::int"), call("query_raw", "SELECT no_such_function()"), call("query_raw", ""), call("query_raw", "SELECT $1::int", "x"), call("execute_raw", 'INSERT INTO "LiteLLM_Config" (param_name) VALUES ($1)', "array"), call("execute_raw", 'INSERT INTO "LiteLLM_Config" (param_name) VALUES (NULL)'), call("execute_raw", 'UPDATE "LiteLLM_VerificationToken" SET budget_id = $1', "none"), call("execute_raw", 'DELETE FROM "LiteLLM_BudgetTable"'),
    call("execute_raw", 'UPDATE "LiteLLM_TeamTable" SET spend = spend + $1 WHERE team_id = $2', 1.5, "team-1"), call("execute_raw", 'UPDATE "LiteLLM_TeamTable" SET spend = 0'), call("execute_raw", 'UPDATE "LiteLLM_TeamTable" SET spend = 0 WHERE false'), call("execute_raw", 'INSERT INTO "LiteLLM_Config" (param_name, param_value) VALUES ($1, $2::jsonb), (\'n2\', NULL)', "n1", '{"a": 1}'), call("execute_raw", 'INSERT INTO "LiteLLM_Config" (param_name, param_value) VALUES ($1, $2)', "n1", {"a": 1}), call("execute_raw", 'INSERT INTO "LiteLLM_Config" (param_name) SELECT * FROM unnest($1::text[])', ["n1", "n2"]), call("execute_raw", 'DELETE FROM "LiteLLM_TeamMembership" WHERE user_id = $1', "user-2"), call("execute_raw", "SELECT 1"), call("execute_raw", "CREATE TEMPORARY TABLE t (a int)"), call("execute_raw", "SET LOCAL statement_timeout = 0"), call("execute_raw", "SELECT 1; SELECT 2"), call("query_raw", 'INSERT INTO "LiteLLM_Config" (param_name) VALUES ($1) RETURNING *', "n1"), call("query_raw", 'UPDATE "LiteLLM_TeamTable" SET spend = 1'), call("query_raw", 'DELETE FROM "LiteLLM_TeamMembership" WHERE user_id = $1 RETURNING spend, team_id', "user-1"), call("query_raw", 'WITH gone AS (DELETE FROM "LiteLLM_TeamMembership" RETURNING *) SELECT count(*) AS n FROM gone'), call("execute_raw", 'INSERT INTO "LiteLLM_Config" (param_name) VALUES ($1) ON CONFLICT DO NOTHING', "array"), call("execute_raw", 'UPDATE "LiteLLM_TeamTable" SET budget_reset_at = $1::timestamp, models = $2::text[], blocked = $3, max_budget = $4 WHERE team_id = \'team-1\'', moment("2024-05-05T00:00:00"), ["m"], True, None), call("execute_raw", 'UPDATE "LiteLLM_TeamTable" SET budget_reset_at = $1 WHERE team_id = \'team-1\'', moment("2024-05-05T00:00:00")), call("execute_raw", 'UPDATE "LiteLLM_TeamTable" SET tpm_limit = $1, max_parallel_requests = $1 WHERE team_id = \'team-1\'', 5),
    call("teamtable.query_raw", 'SELECT * FROM "LiteLLM_TeamTable" ORDER BY team_id'), call("teamtable.query_first", 'SELECT * FROM "LiteLLM_TeamTable" WHERE team_id = $1', "team-1"), call("teamtable.query_first", 'SELECT * FROM "LiteLLM_TeamTable" WHERE false'), call("teamtable.query_raw", 'SELECT team_id FROM "LiteLLM_TeamTable"'), call("config.query_raw", 'SELECT * FROM "LiteLLM_Config" ORDER BY 1'), call("managedfilecontenttable.query_raw", 'SELECT * FROM "LiteLLM_ManagedFileContentTable" ORDER BY 1'),
]  # fmt: skip

CASES = [
    *parameters(),
    *(case(f"result {one}", call("query_raw", f"SELECT {one} AS value")) for one in TYPES),
    *each("raw", STATEMENTS),
]
