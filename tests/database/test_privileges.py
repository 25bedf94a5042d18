"""roles/postgres17/files/privileges.sql: it says what is to be done, and after that has nothing to say."""

import pytest
from sqlalchemy.exc import ProgrammingError

from tests.fix_postgres import (
    APPLICATION_PASSWORD,
    OWNER_PASSWORD,
    READER_PASSWORD,
    Database,
    bring_privileges_into_force,
    run_db_init,
)

DIRT = {
    "GRANT ALL ON DATABASE {database} TO PUBLIC": "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
    "GRANT CREATE ON SCHEMA public TO litellm": "REVOKE CREATE ON SCHEMA public FROM litellm",
    "GRANT TRUNCATE ON requests TO litellm": "REVOKE TRUNCATE ON TABLE requests FROM litellm",
    "GRANT INSERT ON responses TO litellm_reader": "REVOKE INSERT ON TABLE responses FROM litellm_reader",
    "GRANT SELECT ON responses TO PUBLIC": "REVOKE SELECT ON TABLE responses FROM PUBLIC",
    "REVOKE SELECT ON requests FROM litellm_reader": "GRANT SELECT ON TABLE requests TO litellm_reader",
    "REVOKE ALL ON requests FROM litellm_owner, litellm, litellm_reader": "GRANT INSERT ON TABLE requests TO litellm",
    "ALTER DEFAULT PRIVILEGES FOR ROLE litellm_owner IN SCHEMA public GRANT DELETE ON TABLES TO litellm_reader": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE litellm_owner IN SCHEMA public REVOKE DELETE ON TABLES FROM litellm_reader"
    ),
    "GRANT EXECUTE ON FUNCTION make_days() TO PUBLIC": "REVOKE EXECUTE ON FUNCTION make_days() FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION drop_days() TO litellm": "REVOKE EXECUTE ON FUNCTION drop_days() FROM litellm",
    "GRANT USAGE ON SCHEMA partman TO litellm": "REVOKE USAGE ON SCHEMA partman FROM litellm",
    "GRANT UPDATE ON partman.part_config TO litellm": "REVOKE UPDATE ON TABLE partman.part_config FROM litellm",
    "GRANT INSERT ON exchanges TO litellm_reader": "REVOKE INSERT ON TABLE exchanges FROM litellm_reader",
    "GRANT pg_read_all_data TO litellm": "REVOKE pg_read_all_data FROM litellm",
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
PASSWORDS = {"litellm": APPLICATION_PASSWORD, "litellm_reader": READER_PASSWORD, "litellm_owner": OWNER_PASSWORD}
REFUSED = {
    "litellm": [
        "CREATE TABLE mine ()",
        "DROP VIEW exchanges",
        "TRUNCATE usages",
        "SELECT make_days()",
        "SELECT drop_days()",
        "SELECT * FROM partman.part_config",
    ],
    "litellm_reader": [
        REQUEST.format(0),
        "DELETE FROM requests",
        "UPDATE usages SET cost = 0",
        "SELECT * FROM forget_end_user('anna')",
        "SELECT make_days()",
        "SELECT drop_days()",
    ],
}


def test_the_application_writes_and_forgets_and_the_reader_reads(ledger_database: Database) -> None:
    owner = ledger_database.engine("litellm_owner", OWNER_PASSWORD)
    application = ledger_database.engine("litellm", APPLICATION_PASSWORD)
    with application.begin() as connection:
        for day in (0, -3):
            connection.exec_driver_sql(REQUEST.format(day))
    # What maintenance and a new revision make is theirs as well, without a grant.
    with owner.begin() as connection:
        assert connection.exec_driver_sql("SELECT make_days()").scalar() == 1
    assert bring_privileges_into_force(ledger_database.cluster, ledger_database.name) == []
    assert run_db_init(ledger_database).returncode == 0
    for query, rows in TO_READ.items():
        assert len(ledger_database.rows(query)) == rows
    with application.begin() as connection:
        removed = connection.exec_driver_sql("SELECT * FROM forget_end_user('anna')").all()
    assert [tuple(row) for row in removed] == [("requests", 2), ("responses", 0), ("usages", 0)]
    application.dispose()
    owner.dispose()


@pytest.mark.parametrize(
    ("role", "statement"), [(role, statement) for role, statements in REFUSED.items() for statement in statements]
)
def test_nobody_may_do_more(ledger_database: Database, role: str, statement: str) -> None:
    engine = ledger_database.engine(role, PASSWORDS[role])
    with engine.connect() as connection, pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        connection.exec_driver_sql(statement)
    engine.dispose()
