"""PostgreSQL lets in whom it should, and nobody may do more than they need."""

import psycopg2
import psycopg2.errors
import pytest
from testinfra.host import Host

from tests.hosts.lab import Lab, eventually

OWNER, APPLICATION, LEDGER, READER = "litellm_owner", "litellm_a", "litellm_ledger_a", "litellm_reader_a"
LOGINS = (APPLICATION, LEDGER, READER)

PG_HBA = """\
local all postgres peer
local litellm_db litellm_maintenance peer map=maintenance
hostssl litellm_db litellm_owner 192.168.10.18/32 scram-sha-256 clientcert=verify-full
hostssl litellm_db +litellm 192.168.10.18/32 scram-sha-256 clientcert=verify-full
hostssl litellm_db +litellm_ledger 192.168.10.18/32 scram-sha-256 clientcert=verify-full
hostssl litellm_db +litellm_reader 192.168.10.18/32 scram-sha-256 clientcert=verify-full
local all all reject
host all all all reject
local replication all reject
host replication all all reject"""


@pytest.mark.parametrize("role", LOGINS)
def test_the_gateway_comes_in_by_tls_and_scram(lab: Lab, role: str) -> None:
    with lab.connection(role, lab.secrets[role]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert cursor.fetchone() == (True, "TLSv1.3")


def test_a_wrong_password_does_not_come_in(lab: Lab) -> None:
    with (
        pytest.raises(psycopg2.OperationalError, match="password authentication failed"),
        lab.connection(APPLICATION, "not-the-password"),
    ):
        pass


def test_plaintext_does_not_come_in(lab: Lab) -> None:
    with (
        pytest.raises(psycopg2.OperationalError, match=r"pg_hba.conf rejects connection .* no encryption"),
        lab.connection(APPLICATION, lab.secrets[APPLICATION], sslmode="disable"),
    ):
        pass


@pytest.mark.parametrize("role", [*LOGINS, OWNER, "postgres"])
def test_another_address_does_not_come_in(lab: Lab, role: str) -> None:
    password = lab.secrets.get(role, "any")
    with (
        pytest.raises(psycopg2.OperationalError, match=r'pg_hba.conf rejects connection for host "192\.168\.10\.19"'),
        # The host's own one: no other comes past the firewall.
        lab.connection(role, password, via="database"),
    ):
        pass


def test_another_database_is_closed(lab: Lab) -> None:
    with (
        pytest.raises(psycopg2.OperationalError, match=r'pg_hba.conf rejects .* database "postgres"'),
        lab.connection(READER, lab.secrets[READER], dbname="postgres"),
    ):
        pass


def test_only_postgres_is_superuser(lab: Lab) -> None:
    roles = lab.sql(
        "SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS powerful"
        " FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname"
    )
    assert {row["rolname"] for row in roles} == {
        *("litellm", "litellm_a", "litellm_ledger", "litellm_ledger_a", "litellm_reader", "litellm_reader_a"),
        *("litellm_maintenance", OWNER, "postgres"),
    }
    assert [row["rolname"] for row in roles if row["powerful"]] == ["postgres"]
    members = "SELECT roleid::regrole::text AS role, member::regrole::text AS member FROM pg_auth_members"
    assert lab.sql(members + " WHERE member::regrole::text !~ '^pg_' ORDER BY 1") == [
        {"role": name, "member": f"{name}_a"} for name in ("litellm", "litellm_ledger", "litellm_reader")
    ]


def test_passwords_are_kept_as_scram_only(lab: Lab) -> None:
    kept = "SELECT rolname FROM pg_authid WHERE rolpassword IS NOT NULL AND rolpassword NOT LIKE 'SCRAM-SHA-256$%'"
    assert lab.sql(kept) == []


def test_the_cluster_keeps_checksums_and_one_locale(lab: Lab) -> None:
    made = lab.sql(
        "SELECT current_setting('data_checksums') AS checksums,"
        " current_setting('server_version_num')::int / 10000 AS version,"
        " pg_encoding_to_char(encoding) AS encoding, datlocprovider AS provider, datlocale AS locale"
        " FROM pg_database WHERE datname = 'litellm_db'"
    )
    assert made == [{"checksums": "on", "version": 17, "encoding": "UTF8", "provider": "b", "locale": "C.UTF-8"}]


def test_no_setting_waits_for_a_restart_and_no_file_is_wrong(lab: Lab) -> None:
    assert lab.sql("SELECT name FROM pg_settings WHERE pending_restart") == []
    assert lab.sql("SELECT error FROM pg_file_settings WHERE error IS NOT NULL") == []
    assert lab.sql("SELECT error FROM pg_hba_file_rules WHERE error IS NOT NULL") == []


def test_statements_are_counted(lab: Lab) -> None:
    assert lab.sql("SELECT queryid FROM pg_stat_statements LIMIT 1")


def test_the_rules_of_access_are_these_and_no_others(database: Host) -> None:
    rules = database.file("/etc/postgresql/17/main/pg_hba.conf")
    lines = [" ".join(line.split()) for line in rules.content_string.splitlines()]
    assert "\n".join(line for line in lines if line and not line.startswith("#")) == PG_HBA
    assert (rules.user, rules.group, rules.mode) == ("postgres", "postgres", 0o640)


def test_only_postgres_looks_after_the_ledger(database: Host) -> None:
    names = database.file("/etc/postgresql/17/main/pg_ident.conf")
    lines = [line.split() for line in names.content_string.splitlines() if line and not line.startswith("#")]
    assert lines == [["maintenance", "postgres", "litellm_maintenance"]]
    assert (names.user, names.group, names.mode) == ("postgres", "postgres", 0o640)
    database.check_output("runuser --user postgres -- psql --username=litellm_maintenance litellm_db -c 'SELECT 1'")
    other = database.run("runuser --user nobody -- psql --username=litellm_maintenance litellm_db -c 'SELECT 1'")
    assert "Peer authentication failed" in other.stderr


DAYS = """
SELECT parent, count(*)
  FROM unnest(ARRAY['requests', 'responses', 'usages']) AS parent, generate_series(0, 7) AS ahead
 WHERE to_regclass(parent || to_char(now() + ahead * interval '1 day', '"_p"YYYYMMDD')) IS NOT NULL
 GROUP BY parent ORDER BY parent
"""
EIGHT = [{"parent": table, "count": 8} for table in ("requests", "responses", "usages")]


def test_a_timer_makes_the_days_of_a_week_ahead(lab: Lab, database: Host) -> None:
    timer = database.service("ledger-maintenance.timer")
    assert timer.is_running
    assert timer.is_enabled
    assert lab.sql(DAYS) == EIGHT
    last = lab.sql("SELECT to_char(now() + interval '7 days', 'YYYYMMDD') AS day")[0]["day"]
    lab.script(
        "database", f"runuser --user postgres -- psql litellm_db -c 'DROP TABLE responses_p{last}, usages_p{last}'"
    )
    database.check_output("systemctl start ledger-maintenance.service")
    assert lab.sql(DAYS) == EIGHT
    owners = lab.sql("SELECT DISTINCT relowner::regrole::text AS owner FROM pg_class WHERE relispartition")
    assert owners == [{"owner": OWNER}]


def test_postgresql_that_is_killed_comes_back(database: Host) -> None:
    def main_pid() -> str:
        return str(database.service("postgresql@17-main").systemd_properties["MainPID"])

    before = main_pid()
    database.check_output("kill -KILL %s", before)
    eventually(lambda: main_pid() not in {before, "0"})
    assert database.check_output("runuser --user postgres -- psql -tAc 'SELECT 1'") == "1"


def test_the_settings_are_in_one_file(database: Host) -> None:
    assert database.file("/etc/postgresql/17/main/conf.d").listdir() == ["50-postgres17.conf"]
    settings = database.file("/etc/postgresql/17/main/conf.d/50-postgres17.conf")
    assert (settings.user, settings.group, settings.mode) == ("postgres", "postgres", 0o644)


def test_the_major_version_is_pinned(database: Host) -> None:
    assert '"major_version": 17' in database.file("/etc/ansible/facts.d/postgresql.fact").content_string
