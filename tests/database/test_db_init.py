"""files/db_init.py: what it makes, what it says, what it leaves alone when it cannot."""

import concurrent.futures
import datetime as dt
import json
from typing import Any

import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from files import db_init
from litellm_sqlalchemy.ledger.models import Base
from litellm_sqlalchemy.migrations import OPTIONS
from tests.fix_postgres import (
    APPLICATION_PASSWORD,
    OWNER_PASSWORD,
    Cluster,
    Database,
    Done,
    bring_privileges_into_force,
    call_db_init,
    run_db_init,
    run_db_init_as_a_process,
)
from tests.fix_server import wait_for
from tests.ports import free_port

HEAD = "0003"
DAYS_AHEAD = 7


def report(done: Done) -> dict[str, Any]:
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tables(first: dt.date) -> dict[str, list[str]]:
    """The partitions that a run on a day makes."""
    days = [f"{first + dt.timedelta(days=ahead):%Y%m%d}" for ahead in range(DAYS_AHEAD + 1)]
    return {name: [f"{name}_default", *(f"{name}_p{day}" for day in days)] for name in Base.metadata.tables}


def test_from_nothing_then_again(empty_database: Database) -> None:
    today = dt.datetime.now(dt.UTC).date()
    before = run_db_init(empty_database, "--check")
    assert before.returncode == 3
    assert report(before) == {
        "changed": False,
        "revision_before": None,
        "revision_after": None,
        "head": HEAD,
        "at_head": False,
        "retention_days_before": None,
        "retention_days_after": None,
        "tables": {},
    }
    made = run_db_init(empty_database)
    assert made.returncode == 0
    if dt.datetime.now(dt.UTC).date() != today:  # midnight has passed
        today = dt.date.fromisoformat(report(made)["tables"]["requests"][1].removeprefix("requests_p"))
    assert report(made) == {
        "changed": True,
        "revision_before": None,
        "revision_after": HEAD,
        "head": HEAD,
        "at_head": True,
        "retention_days_before": None,
        "retention_days_after": 0,
        "tables": tables(today),
    }
    unchanged = {**report(made), "changed": False, "revision_before": HEAD, "retention_days_before": 0}
    for options in ((), ("--check",)):
        again = run_db_init(empty_database, *options)
        assert again.returncode == 0
        assert report(again) == unchanged


def test_retention_is_set_changed_and_taken_away(ledger_database: Database) -> None:
    def run(*options: str) -> tuple[int, bool, int | None, int | None]:
        done = run_db_init(ledger_database, *options)
        said = report(done)
        return done.returncode, said["changed"], said["retention_days_before"], said["retention_days_after"]

    assert run("--retention-days=30", "--check") == (3, False, 0, 0)
    assert run("--retention-days=30") == (0, True, 0, 30)
    assert run("--retention-days=30") == (0, False, 30, 30)
    assert run("--retention-days=30", "--check") == (0, False, 30, 30)
    assert run("--check") == (3, False, 30, 30)
    assert run("--retention-days=7") == (0, True, 30, 7)
    # Somebody's hand in one table is seen, and put right.
    ledger_database.cluster.execute(
        "UPDATE partman.part_config SET retention = NULL WHERE parent_table = 'public.usages'", ledger_database.name
    )
    assert run("--retention-days=7", "--check") == (3, False, None, None)
    assert run("--retention-days=7") == (0, True, None, 7)
    assert run() == (0, True, 7, 0)


def test_check_touches_nothing(empty_database: Database) -> None:
    run_db_init(empty_database, "--check")
    assert empty_database.cluster.execute(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", empty_database.name
    ) == [(0,)]


def test_the_tables_are_those_of_the_models(ledger_database: Database) -> None:
    engine = ledger_database.engine("litellm_owner", OWNER_PASSWORD)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=OPTIONS), Base.metadata) == []
    engine.dispose()
    # What Alembic does not compare: partitioning and checks.
    assert ledger_database.rows(
        "SELECT c.relname, pg_get_partkeydef(c.oid) AS key, array_agg(k.conname ORDER BY k.conname) AS constraints "
        "FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype <> 'n' AND k.conparentid = 0 "
        "WHERE c.relkind = 'p' GROUP BY c.oid ORDER BY c.relname"
    ) == [
        {
            "relname": table.name,
            "key": "RANGE (received_at)",
            "constraints": sorted(str(constraint.name) for constraint in table.constraints),
        }
        for _, table in sorted(Base.metadata.tables.items())
    ]
    for table in Base.metadata.sorted_tables:
        assert table.comment
        assert [column.name for column in table.columns if not column.comment] == []


def test_sql_makes_the_same_tables(empty_database: Database, ledger_database: Database) -> None:
    done = call_db_init("--sql")
    assert (done.returncode, done.stderr) == (0, "")
    connection = psycopg2.connect(
        host=empty_database.cluster.host,
        port=empty_database.cluster.port,
        dbname=empty_database.name,
        user="litellm_owner",
        password=OWNER_PASSWORD,
    )
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(done.stdout)
    connection.close()
    assert run_db_init(empty_database, "--check").returncode == 0
    bring_privileges_into_force(empty_database.cluster, empty_database.name)  # a schema has for each what they may see
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
    )
    assert empty_database.rows(columns) == ledger_database.rows(columns) != []


def test_two_at_a_time_come_one_after_the_other(empty_database: Database) -> None:
    owner = empty_database.engine("litellm_owner", OWNER_PASSWORD)
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with concurrent.futures.ThreadPoolExecutor() as threads:
        with owner.begin() as other:  # one that is at it
            other.exec_driver_sql(f"SELECT pg_advisory_xact_lock({db_init.ADVISORY_LOCK})")
            both = [threads.submit(run_db_init_as_a_process, empty_database) for _ in range(2)]
            wait_for(lambda: empty_database.cluster.execute(waiting) == [(2,)], "both wait")
            assert empty_database.rows("SELECT 1 FROM pg_class WHERE relname = 'requests'") == []
        done = [each.result() for each in both]
    owner.dispose()
    assert [each.stderr for each in done] == ["", ""]
    assert sorted(report(each)["changed"] for each in done) == [False, True]


def test_a_failure_leaves_nothing_behind(empty_database: Database) -> None:
    # The last table's partition has a name that is taken: everything before has been made by then.
    empty_database.cluster.execute("CREATE TABLE responses_default ()", empty_database.name)
    done = run_db_init(empty_database)
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert 'relation "responses_default" already exists' in done.stderr
    assert run_db_init(empty_database, "--check").returncode == 3
    assert empty_database.rows("SELECT relname FROM pg_class WHERE relname ~ 'requests|ledger'") == []
    empty_database.cluster.execute("DROP TABLE responses_default", empty_database.name)
    assert report(run_db_init(empty_database))["changed"] is True


def test_a_newer_releases_tables_are_left_alone(ledger_database: Database) -> None:
    ledger_database.cluster.execute("UPDATE ledger_alembic_version SET version_num = '9999'", ledger_database.name)
    done = run_db_init(ledger_database)
    assert done.returncode == 5
    assert f"revision 9999, which this release does not know (its newest is {HEAD})" in done.stderr
    assert run_db_init(ledger_database, "--check").returncode == 3


@pytest.mark.parametrize("option", [(), ("--check",)])
def test_a_wrong_password_is_told_and_not_shown(empty_database: Database, option: tuple[str, ...]) -> None:
    done = run_db_init(empty_database, *option, password="not-the-password")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1
    assert f"refuses role litellm_owner on database {empty_database.name}" in done.stderr
    assert "password authentication failed" in done.stderr
    assert "not-the-password" not in done.stderr


def test_an_unreachable_database_is_told() -> None:
    port = free_port()
    done = run_db_init(Database(Cluster("127.0.0.1", port), "litellm_db"))
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1
    assert (
        f"cannot reach PostgreSQL at 127.0.0.1:{port}: [Errno 111] Connection refused. Check host and port"
        in done.stderr
    )


def test_a_missing_database_and_tls_that_is_not_there_are_told(empty_database: Database) -> None:
    missing = run_db_init(Database(empty_database.cluster, "no_such_database"))
    assert missing.returncode == 4
    assert 'database "no_such_database" does not exist' in missing.stderr
    without_tls = run_db_init(empty_database, "--sslmode", "require")
    assert without_tls.returncode == 4
    assert "server does not support SSL" in without_tls.stderr


def test_a_role_that_may_not_is_told(empty_database: Database) -> None:
    done = run_db_init(empty_database, "--user", "litellm_a", password=APPLICATION_PASSWORD)
    assert done.returncode == 5
    assert "permission denied for schema public" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--host is missing"),
        (("--host", "127.0.0.1"), "standard input is empty: its first line must be litellm_owner's password"),
        (("--host", "127.0.0.1", "--port", "many"), "invalid int value: 'many'"),
        (("--host", "127.0.0.1", "--check", "--sql"), "not allowed with argument"),
        (("--retention-days", "-1"), "'-1' is no number of days from 0 (keep all) to 36500"),
        (("--retention-days", "a month"), "'a month' is no number of days"),
        (("--retention-days", "36501"), "'36501' is no number of days"),
    ],
)
def test_wrong_arguments_are_told(options: tuple[str, ...], message: str) -> None:
    done = call_db_init(*options)
    assert done.returncode == 2
    assert message in done.stderr
