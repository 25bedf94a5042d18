"""roles/postgres17/files/privileges.sql: it says what is to be done, and after that has nothing to say."""

import pytest

from tests.fix_postgres import Database, bring_privileges_into_force

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
