"""roles/postgres17/files/privileges.sql: it says what is to be done, and after that has nothing to say."""

from contextlib import nullcontext

import pytest
from sqlalchemy.exc import DBAPIError

from tests.fix_postgres import (
    APPLICATION_PASSWORD,
    LEDGER_PASSWORD,
    MAINTENANCE_PASSWORD,
    OWNER_PASSWORD,
    READER_PASSWORD,
    Database,
    bring_privileges_into_force,
    run_db_init,
)

DIRT = {
    "GRANT ALL ON DATABASE {database} TO PUBLIC": "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC CASCADE",
    "GRANT CREATE ON SCHEMA public TO litellm": "REVOKE CREATE ON SCHEMA public FROM litellm CASCADE",
    "GRANT TRUNCATE ON requests TO litellm_ledger": "REVOKE TRUNCATE ON TABLE requests FROM litellm_ledger CASCADE",
    "GRANT INSERT ON responses TO litellm_reader": "REVOKE INSERT ON TABLE responses FROM litellm_reader CASCADE",
    "GRANT SELECT ON responses TO PUBLIC": "REVOKE SELECT ON TABLE responses FROM PUBLIC CASCADE",
    "GRANT SELECT ON requests TO litellm, litellm_ledger_a": (
        "REVOKE SELECT ON TABLE requests FROM litellm_ledger_a CASCADE"
    ),
    "GRANT SELECT (body) ON requests TO litellm_ledger": (
        "REVOKE SELECT (body) ON TABLE requests FROM litellm_ledger CASCADE"
    ),
    # What is taken of a table is taken of its columns as well: they are given anew.
    "GRANT UPDATE ON responses TO litellm_ledger": "GRANT UPDATE (status) ON TABLE responses TO litellm_ledger",
    "GRANT SELECT ON usages TO litellm_reader WITH GRANT OPTION": (
        "REVOKE GRANT OPTION FOR SELECT ON TABLE usages FROM litellm_reader CASCADE"
    ),
    "REVOKE SELECT ON requests FROM litellm_reader": "GRANT SELECT ON TABLE requests TO litellm_reader",
    "REVOKE ALL ON requests FROM litellm_owner, litellm_ledger": "GRANT INSERT ON TABLE requests TO litellm_ledger",
    "ALTER DEFAULT PRIVILEGES FOR ROLE litellm_owner IN SCHEMA public GRANT DELETE ON TABLES TO litellm_reader": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE litellm_owner IN SCHEMA public"
        " REVOKE DELETE ON TABLES FROM litellm_reader CASCADE"
    ),
    "ALTER DEFAULT PRIVILEGES FOR ROLE litellm_owner GRANT EXECUTE ON FUNCTIONS TO PUBLIC": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE litellm_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC CASCADE"
    ),
    "GRANT EXECUTE ON FUNCTION make_days() TO PUBLIC": "REVOKE EXECUTE ON ROUTINE make_days() FROM PUBLIC CASCADE",
    "GRANT EXECUTE ON FUNCTION drop_days() TO litellm": "REVOKE EXECUTE ON ROUTINE drop_days() FROM litellm CASCADE",
    "GRANT EXECUTE ON FUNCTION forget_end_user(text) TO litellm_ledger": (
        "REVOKE EXECUTE ON ROUTINE forget_end_user(text) FROM litellm_ledger CASCADE"
    ),
    "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC": (
        "REVOKE EXECUTE ON ROUTINE lo_create(oid) FROM PUBLIC CASCADE"
    ),
    "GRANT USAGE ON SCHEMA partman TO litellm": "REVOKE USAGE ON SCHEMA partman FROM litellm CASCADE",
    "GRANT UPDATE ON partman.part_config TO litellm": (
        "REVOKE UPDATE ON TABLE partman.part_config FROM litellm CASCADE"
    ),
    "GRANT INSERT ON exchanges TO litellm_reader": "REVOKE INSERT ON TABLE exchanges FROM litellm_reader CASCADE",
    "GRANT pg_read_all_data TO litellm": "REVOKE pg_read_all_data FROM litellm",
    "GRANT litellm_owner TO litellm_a": "REVOKE litellm_owner FROM litellm_a",
    "GRANT litellm_reader TO litellm_ledger_a": "REVOKE litellm_reader FROM litellm_ledger_a",
    "REVOKE litellm FROM litellm_a": "GRANT litellm TO litellm_a WITH ADMIN FALSE, INHERIT TRUE, SET FALSE",
    "GRANT litellm TO litellm_a WITH SET TRUE": (
        "GRANT litellm TO litellm_a WITH ADMIN FALSE, INHERIT TRUE, SET FALSE"
    ),
    "ALTER ROLE litellm_reader_a SET default_transaction_read_only = off": (
        "ALTER ROLE litellm_reader_a SET default_transaction_read_only = 'on'"
    ),
    "ALTER ROLE litellm_a SET search_path = elsewhere": "ALTER ROLE litellm_a RESET search_path",
    "ALTER ROLE litellm_a IN DATABASE {database} SET search_path = elsewhere": (
        "ALTER ROLE litellm_a IN DATABASE {database} RESET ALL"
    ),
}


def test_all_is_well(ledger_database: Database) -> None:
    assert bring_privileges_into_force(ledger_database.cluster, ledger_database.name) == []


@pytest.mark.parametrize("dirt", DIRT)
def test_dirt_is_cleaned(ledger_database: Database, dirt: str) -> None:
    ledger_database.cluster.execute(dirt.format(database=ledger_database.name), ledger_database.name)
    done = bring_privileges_into_force(ledger_database.cluster, ledger_database.name)
    assert DIRT[dirt].format(database=ledger_database.name) in [" ".join(statement.split()) for statement in done]
    assert bring_privileges_into_force(ledger_database.cluster, ledger_database.name) == []


REQUEST = (
    "INSERT INTO requests (received_at, id, call_id, method, path, stream, headers, body_size, body_complete, end_user)"
    " VALUES (now() + {} * interval '1 day', gen_random_uuid(), 'c', 'GET', '/', false, '{{}}', 0, true, 'anna')"
)
TO_READ = {  # how many rows there are to see of two requests without answers
    "TABLE exchanges": 2,
    "TABLE spend": 2,
    "TABLE slowest": 0,
    "TABLE errors": 0,
    "SELECT * FROM exchange('c')": 2,
    "SELECT * FROM exchanges_between('-infinity', 'infinity')": 2,
}
PASSWORDS = {
    "litellm_a": APPLICATION_PASSWORD,
    "litellm_ledger_a": LEDGER_PASSWORD,
    "litellm_reader_a": READER_PASSWORD,
    "litellm_maintenance": MAINTENANCE_PASSWORD,
}
NOBODYS = [
    "CREATE TABLE mine ()",
    "CREATE FUNCTION mine() RETURNS int RETURN 1",
    "DROP VIEW exchanges",
    "TRUNCATE usages",
    "DELETE FROM responses",
    "UPDATE requests SET path = '/'",
    "SELECT partman.run_maintenance()",
    "SELECT lo_create(0)",
    "TABLE pg_stat_statements",
]
MAINTENANCES = ["SELECT make_days()", "SELECT drop_days()", "SELECT * FROM forget_end_user('anna')"]
REFUSED = {
    "litellm_a": [
        *(*NOBODYS, *MAINTENANCES, REQUEST.format(0), "TABLE exchanges", "TABLE ledger_alembic_version"),
        *("SELECT count(*) FROM requests", "SELECT * FROM exchange('c')", "CREATE TEMPORARY TABLE mine ()"),
    ],
    "litellm_ledger_a": [
        *(*NOBODYS, *MAINTENANCES, "SELECT body FROM requests", "TABLE responses", "SELECT count(*) FROM usages"),
        *(
            "TABLE exchanges",
            "UPDATE responses SET id = id",
            'SELECT FROM "LiteLLM"',
            'INSERT INTO "LiteLLM" VALUES (1)',
        ),
    ],
    "litellm_reader_a": [
        *(*NOBODYS, *MAINTENANCES, REQUEST.format(0), 'SELECT FROM "LiteLLM"', "CREATE TEMPORARY TABLE mine ()"),
        "UPDATE partman.part_config SET retention = '1 day'",
    ],
    "litellm_maintenance": [*NOBODYS, REQUEST.format(0), "SELECT FROM requests", "TABLE exchanges", 'TABLE "LiteLLM"'],
}


@pytest.fixture
def with_litellm(ledger_database: Database) -> Database:
    """A table of LiteLLM's beside the ledger's."""
    owner = ledger_database.engine("litellm_owner", OWNER_PASSWORD)
    with owner.begin() as connection:
        connection.exec_driver_sql('CREATE TABLE "LiteLLM" (one serial)')
    owner.dispose()
    bring_privileges_into_force(ledger_database.cluster, ledger_database.name)
    return ledger_database


def test_each_does_its_own(with_litellm: Database) -> None:
    drain = with_litellm.engine()
    with drain.begin() as connection:
        for day in (0, -3):
            connection.exec_driver_sql(REQUEST.format(day))
    drain.dispose()
    application = with_litellm.engine("litellm_a", APPLICATION_PASSWORD)
    with application.begin() as connection:
        connection.exec_driver_sql('INSERT INTO "LiteLLM" DEFAULT VALUES')
        connection.exec_driver_sql('UPDATE "LiteLLM" SET one = 2')
        assert connection.exec_driver_sql('DELETE FROM "LiteLLM" RETURNING one').scalar() == 2
    application.dispose()
    maintenance = with_litellm.engine("litellm_maintenance", MAINTENANCE_PASSWORD)
    with maintenance.begin() as connection:
        assert connection.exec_driver_sql("SELECT make_days()").scalar() == 1
    # A day that is made is nobody's: it is reached by its table.
    assert bring_privileges_into_force(with_litellm.cluster, with_litellm.name) == []
    for query, rows in TO_READ.items():
        assert len(with_litellm.rows(query)) == rows
    reader = run_db_init(with_litellm, "--check", "--user=litellm_reader_a", password=READER_PASSWORD)
    assert (reader.returncode, reader.stderr) == (0, "")
    with maintenance.begin() as connection:
        removed = connection.exec_driver_sql("SELECT * FROM forget_end_user('anna')").all()
    assert [tuple(row) for row in removed] == [("requests", 2), ("responses", 0), ("usages", 0)]
    maintenance.dispose()


@pytest.mark.parametrize(
    ("role", "statement"), [(role, statement) for role, statements in REFUSED.items() for statement in statements]
)
def test_nobody_may_do_more(with_litellm: Database, role: str, statement: str) -> None:
    with_litellm.cluster.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements", with_litellm.name)
    bring_privileges_into_force(with_litellm.cluster, with_litellm.name)
    engine = with_litellm.engine(role, PASSWORDS[role])
    with engine.connect() as connection, pytest.raises(DBAPIError, match=r"permission denied|must be owner|read-only"):
        connection.exec_driver_sql(statement.replace("%", "%%"))
    engine.dispose()


ANSWER = (
    "INSERT INTO responses (received_at, id, call_id, finished_at, outcome, cache_hit, headers, body_size)"
    " SELECT received_at, id, call_id, {}, '{}', false, '{{}}', 0 FROM requests"
)


@pytest.mark.parametrize(
    ("finished_at", "outcome", "kept"),
    [("NULL", "interrupted", False), ("now()", "interrupted", True), ("now()", "completed", True)],
)
def test_an_answer_that_is_whole_stays_as_it_is(
    ledger_database: Database, finished_at: str, outcome: str, kept: bool
) -> None:
    """The drain may replace what says that nobody saw the end; not even the owner may change another by accident."""
    ledger_database.cluster.execute(REQUEST.format(0), ledger_database.name)
    ledger_database.cluster.execute(ANSWER.format(finished_at, outcome), ledger_database.name)
    for role, password in (("litellm_ledger_a", LEDGER_PASSWORD), ("litellm_owner", OWNER_PASSWORD)):
        engine = ledger_database.engine(role, password)
        with (
            engine.connect() as connection,
            pytest.raises(DBAPIError, match="a stored response is not changed") if kept else nullcontext(),
        ):
            connection.exec_driver_sql("UPDATE responses SET status = 200, error = NULL")
        engine.dispose()
