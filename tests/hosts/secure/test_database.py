"""What a stolen login of the database could not do, who may log in when, and what the server's log has of it.

By SQL, over TLS from the gateway's host, as each login. What each may do, the gateway's tests show.
"""

from collections.abc import Generator

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import pytest
from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, Lab, eventually

APPLICATION, LEDGER, READER = LOGINS = ("litellm_a", "litellm_ledger_a", "litellm_reader_a")
LOG = "/var/log/postgresql/postgresql-17-main.log"

# For whoever comes in from outside: the system below, other people's secrets, rights, and places to leave something in.
NOBODYS = [
    "COPY (SELECT 1) TO PROGRAM 'id'",
    "COPY pg_class TO '/tmp/mine'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/mine')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'mine')",
    "TABLE pg_shadow",
    "TABLE pg_authid",
    "TABLE pg_hba_file_rules",
    "TABLE pg_file_settings",
    "TABLE pg_user_mapping",
    "TABLE pg_statistic",
    "TABLE pg_stat_statements",
    "SELECT pg_stat_statements_reset()",
    "SET ROLE litellm_owner",
    "SET ROLE postgres",
    "SET ROLE litellm",
    "SET ROLE litellm_ledger",
    "SET ROLE litellm_reader",
    "SET ROLE litellm_maintenance",
    "SET SESSION AUTHORIZATION postgres",
    "SET pgaudit.log = none",
    "SET log_min_messages = panic",
    "SET session_replication_role = replica",
    "CREATE ROLE mine",
    "ALTER ROLE litellm_owner LOGIN",
    "ALTER ROLE litellm_owner PASSWORD 'chosen-by-the-test'",
    "GRANT litellm_owner TO CURRENT_USER",
    "GRANT pg_read_all_data TO CURRENT_USER",
    "ALTER SYSTEM SET pgaudit.log = none",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_switch_wal()",
    "SELECT pg_promote()",
    "SELECT pg_create_physical_replication_slot('mine')",
    "CREATE PUBLICATION mine FOR ALL TABLES",
    "CREATE DATABASE mine",
    "CREATE TABLESPACE mine LOCATION '/tmp'",
    "CREATE SCHEMA mine",
    "CREATE TABLE mine ()",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE FUNCTION mine() RETURNS int RETURN 1",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION postgres_fdw",
    "CREATE EXTENSION pg_trgm",
    "DROP EXTENSION pgaudit",
    "ALTER TABLE requests ADD COLUMN mine int",
    "ALTER TABLE responses DISABLE TRIGGER keep_responses",
    "DROP TRIGGER keep_responses ON responses",
    "CREATE INDEX ON requests (path)",
    "DROP TABLE responses",
    'DROP TABLE "LiteLLM_UserTable"',
    "DROP VIEW exchanges",
    "TRUNCATE usages",
    'TRUNCATE "LiteLLM_UserTable"',
    "COMMENT ON TABLE requests IS 'mine'",
    "DELETE FROM requests",
    "DELETE FROM responses",
    "DELETE FROM usages",
    "UPDATE requests SET path = '/'",
    "UPDATE usages SET cost = 0",
    "SELECT make_days()",
    "SELECT drop_days()",
    "SELECT * FROM forget_end_user('anna')",
    "SELECT partman.run_maintenance()",
    "UPDATE partman.part_config SET retention = '1 day'",
    "UPDATE ledger_alembic_version SET version_num = '0001'",
    "DELETE FROM _prisma_migrations",
    "LOCK TABLE requests IN ACCESS EXCLUSIVE MODE",
]
OTHERS = {
    APPLICATION: [
        *("SELECT count(*) FROM requests", "SELECT count(*) FROM responses", "SELECT count(*) FROM usages"),
        *("TABLE exchanges", "TABLE spend", "TABLE slowest", "TABLE errors", "SELECT * FROM exchange('c')"),
        *("SELECT count(*) FROM requests_default", "INSERT INTO usages DEFAULT VALUES", "TABLE ledger_alembic_version"),
        *("TABLE partman.part_config", "CREATE TEMPORARY TABLE mine ()"),
    ],
    LEDGER: [
        *("SELECT body FROM requests", "TABLE responses", "SELECT body_text FROM responses", "TABLE usages"),
        *("TABLE exchanges", "SELECT * FROM exchange('c')", "UPDATE responses SET received_at = now()"),
        *("SELECT count(*) FROM requests_default", "INSERT INTO requests_default DEFAULT VALUES"),
        *('SELECT count(*) FROM "LiteLLM_VerificationToken"', 'INSERT INTO "LiteLLM_Config" VALUES (1)'),
        *("TABLE _prisma_migrations", "TABLE ledger_alembic_version", "TABLE partman.part_config"),
    ],
    READER: [
        *("INSERT INTO requests DEFAULT VALUES", "UPDATE responses SET status = 200", "CREATE TEMPORARY TABLE mine ()"),
        *('SELECT count(*) FROM "LiteLLM_VerificationToken"', 'SELECT count(*) FROM "LiteLLM_CredentialsTable"'),
        *('TABLE "MonthlyGlobalSpend"', "SELECT body FROM requests_default", "TABLE partman.part_config_sub"),
    ],
}


def in_the_log(lab: Lab, text: str) -> str:
    """Give the log's last line that has a text, as soon as there is one."""
    found = f'grep --fixed-strings -e "$TEXT" {LOG} | tail --lines=1'
    return eventually(lambda: lab.script("database", f"TEXT=$(cat <<'TEXT'\n{text}\nTEXT\n)\n{found} || true"))


@pytest.fixture(scope="module", params=LOGINS)
def session(lab: Lab, request: pytest.FixtureRequest) -> Generator[tuple[str, psycopg2.extensions.connection]]:
    """A session that was switched to read and write, as whoever stole a login would."""
    with lab.connection(request.param, lab.secrets[request.param]) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
        yield request.param, connection


def refused(connection: psycopg2.extensions.connection, statement: str) -> bool:
    """Whether a statement is refused for want of rights. One that is let through leaves nothing."""
    within = not statement.startswith(
        ("ALTER SYSTEM", "CREATE DATABASE", "CREATE TABLESPACE")
    )  # these in no transaction
    with connection.cursor() as cursor:
        cursor.execute("BEGIN" if within else "SELECT 1")
        try:
            cursor.execute(statement)
        except psycopg2.errors.InsufficientPrivilege:
            return True
        except psycopg2.Error as error:
            pytest.fail(f"{statement}: {error}")
        finally:
            cursor.execute("ROLLBACK" if within else "SELECT 1")
    return False


def test_nobody_may_do_what_is_nobodys(session: tuple[str, psycopg2.extensions.connection]) -> None:
    login, connection = session
    assert [statement for statement in NOBODYS + OTHERS[login] if not refused(connection, statement)] == []


def test_the_owner_may_not_log_in(lab: Lab) -> None:
    with (
        pytest.raises(psycopg2.OperationalError, match='role "litellm_owner" is not permitted to log in'),
        lab.connection("litellm_owner", lab.secrets["postgres17_owner_password"]),
    ):
        pass


@pytest.mark.parametrize("role", ["litellm", "litellm_ledger", "litellm_reader", "litellm_maintenance"])
def test_the_roles_that_hold_rights_do_not_log_in(lab: Lab, role: str) -> None:
    with (
        pytest.raises(psycopg2.OperationalError, match=r"password authentication failed|not permitted|pg_hba"),
        lab.connection(role, "any-password-at-all"),
    ):
        pass


LET_IN = f"""grep --count 'ALTER ROLE ""litellm_owner"" LOGIN' {LOG} || true"""


@pytest.mark.long
def test_the_owner_may_log_in_neither_after_a_migration_nor_after_one_that_failed(lab: Lab) -> None:
    """Somebody's lock stands in a migration's way, but not in that of who asks what there is to migrate."""
    before = int(lab.script("database", LET_IN))
    lab.site("--limit=gateway,database", schema_init_retention_days=36_500)
    assert int(lab.script("database", LET_IN)) == before + 1
    test_the_owner_may_not_log_in(lab)
    lock = "BEGIN; LOCK TABLE partman.part_config IN SHARE MODE; SELECT pg_sleep(600)"
    command = f"runuser --user postgres -- psql --quiet --dbname=litellm_db --command='{lock}'"
    lab.script("database", f"systemd-run --quiet --collect --unit=locker {command}")
    locker = "FROM pg_stat_activity WHERE query ~ '^BEGIN; LOCK'"
    try:
        eventually(lambda: lab.sql(f"SELECT 1 {locker}"))
        run = lab.playbook("--limit=gateway,database")
    finally:
        lab.sql(f"SELECT pg_terminate_backend(pid, 30000) {locker}")
    assert not run.succeeded
    assert "canceling statement due to lock timeout" in run.output
    assert int(lab.script("database", LET_IN)) == before + 2
    test_the_owner_may_not_log_in(lab)
    assert lab.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'litellm_owner'") == []
    assert lab.sql("SELECT 1 FROM pg_roles WHERE rolname = 'litellm_owner' AND rolvaliduntil < now() + '25 hours'")
    lab.site("--limit=gateway,database")
    test_the_owner_may_not_log_in(lab)


@pytest.mark.long
def test_two_logins_are_valid_at_once_and_one_that_is_not_listed_is_gone_with_its_sessions(lab: Lab) -> None:
    new = "password-of-a-further-login"
    lab.site("--limit=database", postgres17_logins=lab.logins(reader=[new]))
    with lab.connection(READER, lab.secrets[READER]), lab.connection("litellm_reader_b", new) as further:
        lab.site("--limit=database")
        with (
            pytest.raises(psycopg2.OperationalError, match=r"terminating connection|closed"),
            further.cursor() as cursor,
        ):
            cursor.execute("SELECT 1")
    with pytest.raises(psycopg2.OperationalError), lab.connection("litellm_reader_b", new):
        pass
    assert lab.sql("SELECT 1 FROM pg_roles WHERE rolname = 'litellm_reader_b'") == []
    with lab.connection(READER, lab.secrets[READER]):
        pass
    assert set(lab.site("--limit=database").changed.values()) == {0}


@pytest.mark.long
def test_a_login_that_is_taken_back_while_it_holds_a_temporary_table_is_gone(lab: Lab) -> None:
    new = "password-of-a-further-drain"
    lab.site("--limit=database", postgres17_logins=lab.logins(ledger=[new]))
    with lab.connection("litellm_ledger_b", new) as further, further.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE incoming (body text)")
        lab.site("--limit=database")
    assert lab.sql("SELECT 1 FROM pg_roles WHERE rolname = 'litellm_ledger_b'") == []


# --- what an investigation finds --------------------------------------------------------------------------------


def test_a_failed_login_is_in_the_log(lab: Lab) -> None:
    with pytest.raises(psycopg2.OperationalError), lab.connection(LEDGER, "a-password-that-is-wrong"):
        pass
    line = in_the_log(lab, f'password authentication failed for user "{LEDGER}"')
    assert " 28P01 " in line
    assert f"{LEDGER}@litellm_db 192.168.10.18(" in line
    assert "a-password-that-is-wrong" not in lab.script("database", f"cat {LOG}")


def test_a_login_that_no_rule_lets_in_is_in_the_log(lab: Lab) -> None:
    """From a foreign address nothing comes as far as this: the firewall refuses it."""
    with pytest.raises(psycopg2.OperationalError), lab.connection(LEDGER, lab.secrets[LEDGER], dbname="postgres"):
        pass
    line = in_the_log(lab, f'pg_hba.conf rejects connection for host "192.168.10.18", user "{LEDGER}"')
    assert " 28000 " in line
    assert 'database "postgres"' in line


def test_changes_of_tables_and_roles_are_in_the_log_and_no_password_is(lab: Lab) -> None:
    secret = "password-that-the-log-must-not-have"
    lab.script(
        "database",
        f"""runuser --user postgres -- psql --quiet --dbname=litellm_db <<'SQL'
CREATE TABLE of_the_test (one int);
DROP TABLE of_the_test;
CREATE ROLE of_the_test PASSWORD '{secret}';
ALTER ROLE of_the_test PASSWORD '{secret}';
GRANT litellm TO of_the_test;
DROP ROLE of_the_test;
SQL
""",
    )
    for audited in (
        "DDL,CREATE TABLE,TABLE,public.of_the_test,CREATE TABLE of_the_test (one int)",
        "DDL,DROP TABLE,TABLE,public.of_the_test,DROP TABLE of_the_test",
        "ROLE,CREATE ROLE,,,CREATE ROLE of_the_test PASSWORD <REDACTED>",
        "ROLE,ALTER ROLE,,,ALTER ROLE of_the_test PASSWORD <REDACTED>",
        "ROLE,GRANT ROLE,,,GRANT litellm TO of_the_test",
        "ROLE,DROP ROLE,,,DROP ROLE of_the_test",
    ):
        assert "postgres@litellm_db [local] psql" in in_the_log(lab, audited)
    logs = lab.script("database", "zcat --force /var/log/postgresql/*")
    statements = str(lab.sql("SELECT query FROM pg_stat_statements"))
    for name, known in {**lab.secrets, "the test's": secret}.items():
        assert known not in logs, name
        assert known not in statements, name


# --- CIS PostgreSQL 17 Benchmark: what applies and is not shown elsewhere; the rest is in docs/waivers.md ---------

SETTINGS = {
    "log_destination": "stderr",  # 3.1.2
    "log_min_messages": "warning",  # 3.1.14
    "log_min_error_statement": "error",  # 3.1.15
    "debug_print_parse": "off",  # 3.1.16
    "debug_print_rewritten": "off",  # 3.1.17
    "debug_print_plan": "off",  # 3.1.18
    "debug_pretty_print": "on",  # 3.1.19
    "log_connections": "on",  # 3.1.20
    "log_disconnections": "on",  # 3.1.21
    "log_hostname": "off",  # 3.1.23
    "log_line_prefix": "%m [%p] %c:%l %e %q%u@%d %r %a ",  # 3.1.24
    "log_timezone": "UTC",  # 3.1.26
    "pgaudit.log": "ddl, role",  # 3.2
    "shared_preload_libraries": "pg_stat_statements, pgaudit, auth_delay",  # 3.2, 8.3
    "dynamic_library_path": "$libdir",  # 8.3, as the next two
    "local_preload_libraries": "",
    "session_preload_libraries": "",
    "listen_addresses": "localhost,192.168.10.19",  # 5.2
    "authentication_timeout": "30s",  # no item of CIS's, as the next one
    "auth_delay.milliseconds": "500ms",
    "password_encryption": "scram-sha-256",  # 5.4
    "ssl": "on",  # 6.8
    "ssl_min_protocol_version": "TLSv1.3",  # 6.9
    "ssl_ciphers": "ECDHE+AESGCM:ECDHE+CHACHA20",  # 6.10
    "ignore_checksum_failure": "off",  # 6.5, as the next four
    "ignore_system_indexes": "off",  # 6.2
    "session_replication_role": "origin",
    "zero_damaged_pages": "off",
    "allow_system_table_mods": "off",
    "fsync": "on",  # 6.3 and 6.4
    "full_page_writes": "on",
    "data_checksums": "on",  # no item of CIS's
    "log_replication_commands": "on",  # 7.2
}


def test_settings(lab: Lab) -> None:
    rows = lab.sql("SELECT name, current_setting(name) AS value FROM pg_settings")
    found = {row["name"]: row["value"] for row in rows}
    assert {name: found[name] for name in SETTINGS} == SETTINGS


def test_files(database: Host) -> None:
    owned = {
        "/etc/postgresql/17/main/pg_hba.conf": ("postgres", 0o640),
        "/var/lib/postgresql/17/main": ("postgres", 0o700),  # 1.4
        LOG: ("postgres", 0o640),  # 3.1.6
    }
    for path, expected in owned.items():
        file = database.file(path)
        assert (file.user, file.mode) == expected, path
    extensions = database.file("/usr/share/postgresql/17/extension")  # 2.2
    assert (extensions.user, extensions.mode) == ("root", 0o755)
    assert not database.file("/var/lib/postgresql/.psql_history").exists  # 2.3
    assert database.check_output("find /var/lib/postgresql/17/main -perm /077") == ""  # 2.1
    homes = "/root /home /var/lib/postgresql"
    profiles = "/etc/environment /etc/profile /etc/profile.d /etc/bash.bashrc /etc/zsh /etc/default"
    found = database.run(
        f"grep --recursive --no-messages PGPASSWORD {profiles} {homes} --exclude-dir=17 --exclude-dir=.cache"
    )  # 1.6
    assert found.stdout == ""
    assert database.run("grep --null-data --quiet '^PGPASSWORD=' /proc/[0-9]*/environ").rc != 0  # 1.7
    places = f"{homes} /etc -name .pgpass -or -name .pg_service.conf -or -name pg_service.conf"
    assert database.check_output(f"find {places}") == ""  # 2.4
    assert "not allowed to run sudo" in database.run("sudo --list --other-user=postgres").stdout  # 4.2
    assert database.check_output("systemctl is-enabled postgresql.service") == "enabled"  # 1.3
    assert database.user("postgres").password in {"!", "*", "!*"}  # 4.1


EVERYBODYS = {  # what there is, with its rights
    "relations": "SELECT relname, relacl FROM pg_class WHERE relnamespace::regnamespace::text IN ('public', 'partman')",
    "functions": "SELECT proname, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc"
    " WHERE pronamespace::regnamespace::text IN ('public', 'partman') OR proname ~ '^(lo_|loread$|lowrite$)'",
    "schemas": "SELECT nspname, nspacl FROM pg_namespace WHERE nspname IN ('public', 'partman')",
    "the database": "SELECT datname, coalesce(datacl, acldefault('d', datdba)) FROM pg_database"
    " WHERE datname = current_database()",
}


@pytest.mark.parametrize("kind", EVERYBODYS)
def test_nothing_is_public(lab: Lab, kind: str) -> None:
    """4.5, 4.6."""
    query = f"SELECT name FROM ({EVERYBODYS[kind]}) AS things (name, acl), aclexplode(acl) AS given"  # noqa: S608 - above
    assert lab.sql(f"{query} WHERE given.grantee = 0") == []
    assert lab.sql(f"{query} LIMIT 1") != []


def test_functions_that_run_with_their_owners_rights(lab: Lab) -> None:
    """4.5."""
    found = lab.sql(
        "SELECT proname FROM pg_proc WHERE prosecdef AND proowner = 'litellm_owner'::regrole"
        " AND pronamespace = 'public'::regnamespace ORDER BY 1"
    )
    assert [row["proname"] for row in found] == ["drop_days", "forget_end_user", "make_days"]


def test_extensions_are_those_that_are_used(lab: Lab) -> None:
    """1.2, of what PostgreSQL itself has."""
    found = lab.sql("SELECT extname FROM pg_extension ORDER BY 1")
    assert [row["extname"] for row in found] == ["pg_partman", "pg_stat_statements", "pgaudit", "plpgsql"]


def test_nobody_has_a_predefined_role(lab: Lab) -> None:
    """4.9: nobody needs one."""
    members = "SELECT member::regrole::text AS who FROM pg_auth_members WHERE roleid::regrole::text ~ '^pg_'"
    assert [row["who"] for row in lab.sql(members) if not row["who"].startswith("pg_")] == []


LIMITS = {
    APPLICATION: {"statement_timeout=5min", "lock_timeout=30s"},
    LEDGER: {"statement_timeout=2min", "lock_timeout=1min"},
    READER: {"statement_timeout=10min", "lock_timeout=10s", "idle_session_timeout=1h"},
    "litellm_maintenance": {"statement_timeout=30min"},
}


def test_each_login_has_limits(lab: Lab) -> None:
    """4.4, 5.5; and times after which statements, locks and sessions end."""
    roles = lab.sql("SELECT rolname, rolconnlimit, rolconfig FROM pg_roles WHERE rolcanlogin AND NOT rolsuper")
    assert {row["rolname"] for row in roles} == LIMITS.keys()
    for row in roles:
        assert 0 < row["rolconnlimit"] < 100, row
        assert set(row["rolconfig"]) >= LIMITS[row["rolname"]], row
    assert lab.sql("SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'") == [
        {"setting": "60000"}
    ]


def test_every_waiver_has_a_check_a_reason_and_a_date() -> None:
    lines = (CHECKOUT / "docs/waivers.md").read_text().splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| ")]
    for check, reason, date in rows[1:]:
        assert check.strip()
        assert len(reason.split()) > 5
        assert date.strip().count("-") == 2
