"""LiteLLM's own tables, as role schema_init makes them beside the ledger's."""

import concurrent.futures
import json
import subprocess
import sys
from typing import Any

import psycopg2
import pytest

from litellm_sqlalchemy import litellm_tables
from prisma import Prisma
from tests.fix_litellm_database import MIGRATIONS
from tests.fix_postgres import (
    APPLICATION_PASSWORD,
    OWNER_PASSWORD,
    READER_PASSWORD,
    Database,
    Done,
    bring_privileges_into_force,
    run_db_init,
)
from tests.fix_prisma import patiently

MIGRATION_NAMES = sorted(folder.name for folder in MIGRATIONS.iterdir() if folder.is_dir())


MODULE = "litellm_sqlalchemy.litellm_tables"
AS_ROLE_SCHEMA_INIT_DOES = ("-m", MODULE)


def run(
    target: Database,
    *options: str,
    user: str = "litellm_owner",
    password: str = OWNER_PASSWORD,
    program: tuple[str, str] = AS_ROLE_SCHEMA_INIT_DOES,
) -> Done:
    """Run it."""
    done = subprocess.run(
        [
            *(sys.executable, "-I", *program, "--host", target.cluster.host),
            *("--port", str(target.cluster.port), "--database", target.name, "--user", user, "--sslmode", "disable"),
            *options,
        ],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert not password or password not in done.stdout + done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def report(done: Done) -> dict[str, Any]:
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_beside_the_ledger_s_from_nothing_then_again(ledger_database: Database) -> None:
    before = run(ledger_database, "--check")
    assert before.returncode == 3
    assert report(before) == {
        "changed": False,
        "applied": [],
        "pending": MIGRATION_NAMES,
        "views_missing": list(litellm_tables.VIEWS),
    }
    made = run(ledger_database)
    assert (made.returncode, report(made)["applied"]) == (0, MIGRATION_NAMES)
    for options in ((), ("--check",)):
        again = run(ledger_database, *options)
        assert again.returncode == 0
        assert report(again) == {"changed": False, "applied": [], "pending": [], "views_missing": []}
    assert json.loads(run_db_init(ledger_database).stdout)["changed"] is False

    # What runs the gateway reads and writes them, and no more.
    bring_privileges_into_force(ledger_database.cluster, ledger_database.name)
    reader = run(ledger_database, "--check", user="litellm_reader_a", password=READER_PASSWORD)
    assert (reader.returncode, reader.stderr) == (0, "")
    address = f"{ledger_database.cluster.host}:{ledger_database.cluster.port}/{ledger_database.name}"
    client = Prisma(datasource={"url": f"postgresql://litellm_a:{APPLICATION_PASSWORD}@{address}"})
    await client.connect()
    await client.litellm_usertable.create(data={"user_id": "anna"})
    assert await client.litellm_usertable.count() == 1
    assert await client.query_raw('SELECT * FROM "MonthlyGlobalSpend"') == []
    for statement in ('DROP TABLE "LiteLLM_UserTable"', "CREATE TABLE more (one int)", "DELETE FROM pg_authid"):
        with pytest.raises(Exception, match=r"permission denied|must be owner"):
            await client.execute_raw(statement)
    await client.disconnect()


def test_two_at_once(ledger_database: Database) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        both = [pool.submit(run, ledger_database, program=patiently(MODULE)) for _ in range(2)]
    assert [one.result().returncode for one in both] == [0, 0]
    rows = ledger_database.cluster.execute(
        "SELECT count(*), count(finished_at), count(DISTINCT migration_name) FROM _prisma_migrations",
        ledger_database.name,
    )
    assert rows == [(len(MIGRATION_NAMES),) * 3]


def test_a_migration_that_fails_says_how_to_go_on(ledger_database: Database) -> None:
    # LiteLLM's first migration would make a table of this name.
    ledger_database.cluster.execute('CREATE VIEW "LiteLLM_BudgetTable" AS SELECT 1', ledger_database.name)
    failed = run(ledger_database)
    assert failed.returncode == 5
    assert failed.stdout == ""
    assert failed.stderr.startswith("P3018 ")
    assert MIGRATION_NAMES[0] in failed.stderr
    ledger_database.cluster.execute('DROP VIEW "LiteLLM_BudgetTable"', ledger_database.name)
    still = run(ledger_database)
    assert (still.returncode, still.stderr[:5]) == (5, "P3009")
    assert report(run(ledger_database, "--check"))["pending"][0] == MIGRATION_NAMES[0]


def test_tables_without_a_record_of_their_migrations_are_left_alone(ledger_database: Database) -> None:
    ledger_database.cluster.execute('CREATE TABLE "LiteLLM_UserTable" (user_id text)', ledger_database.name)
    refused = run(ledger_database)
    assert (refused.returncode, refused.stderr[:5]) == (5, "P3005")


@pytest.mark.parametrize(
    ("user", "password", "message"),
    [
        ("litellm_owner", "not-the-password", "P1000"),
        ("litellm_a", APPLICATION_PASSWORD, "P1010"),
    ],
)
def test_who_may_not(ledger_database: Database, user: str, password: str, message: str) -> None:
    done = run(ledger_database, user=user, password=password)
    assert done.returncode == 4
    assert done.stderr.startswith(message)


def test_without_a_password(ledger_database: Database) -> None:
    done = run(ledger_database, password="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "its first line must be litellm_owner's password" in done.stderr


def test_the_migrations_are_those_of_the_release(ledger_database: Database) -> None:
    assert len(MIGRATION_NAMES) > 200
    with pytest.raises(psycopg2.errors.UndefinedTable):
        ledger_database.cluster.execute('SELECT 1 FROM "LiteLLM_UserTable"', ledger_database.name)
