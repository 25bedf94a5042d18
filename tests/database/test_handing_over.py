"""A database is taken over from the genuine Prisma Migrate, and handed back to it."""

import hashlib
import re
import shutil
import uuid
from pathlib import Path

import psycopg2.errors
import pytest

from litellm_sqlalchemy.prisma_client import difference
from litellm_sqlalchemy.prisma_client.schema import parse
from prisma import Prisma
from tests.contract.oracle.migrate.genuine import genuine, genuine_difference
from tests.database.test_prisma_command_line import catalog
from tests.database.test_prisma_tables import CATALOG
from tests.fix_postgres import NUMBERS, Cluster, Database
from tests.fix_prisma import EXTRAS, MIGRATIONS, connected, copy, execute, prisma, rows, url_of, write

SCHEMA = EXTRAS / "schema.prisma"
UP_TO_DATE = "Database schema is up to date!"
NOTHING_TO_DO = "No pending migrations to apply"


@pytest.fixture(scope="module")
def genuine_template(cluster: Cluster) -> Database:
    """A database that the genuine Prisma Migrate has migrated; copy it."""
    database = Database(cluster, "template_genuine")
    cluster.execute(f"CREATE DATABASE {database.name} OWNER litellm_owner TEMPLATE template0")
    done = genuine("migrate", "deploy", url=url_of(database), schema=SCHEMA)
    assert done.code == 0, done.stderr
    assert "All migrations have been successfully applied." in done.stdout
    return database


@pytest.fixture
def extras(tmp_path: Path) -> Path:
    """A copy of LiteLLM's schema and migrations, to add to."""
    shutil.copy(SCHEMA, tmp_path)
    shutil.copytree(EXTRAS / "migrations", tmp_path / "migrations")
    return tmp_path


def outlines(database: Database) -> list[tuple[object, ...]]:
    """Give the ledger's rows but for what differs by nature, each with the types of its times."""
    for row in rows(database):
        assert uuid.UUID(row["id"]).version == 4
        assert row["finished_at"] is None or row["started_at"] <= row["finished_at"]
    known = ("migration_name", "checksum", "applied_steps_count", "logs", "rolled_back_at")
    return [(*(row[name] for name in known), row["finished_at"] is None, sorted(row)) for row in rows(database)]


# --- migrations -------------------------------------------------------------------------------------------------


def test_both_make_the_same_tables_and_the_same_ledger(genuine_template: Database, migrated: Database) -> None:
    for query in CATALOG.values():  # the ledger's own table is among them
        theirs, ours = (
            set(database.cluster.execute(query, database.name)) for database in (genuine_template, migrated)
        )
        assert theirs == ours
    assert outlines(genuine_template) == outlines(migrated)
    assert len(outlines(migrated)) == len(MIGRATIONS)


async def test_a_database_is_taken_over_and_handed_back(genuine_template: Database, extras: Path) -> None:
    database = copy(genuine_template)
    url, schema = url_of(database), extras / "schema.prisma"
    before = rows(database)
    assert UP_TO_DATE in prisma("migrate", "status", url=url, directory=extras).stdout
    assert NOTHING_TO_DO in prisma("migrate", "deploy", url=url, directory=extras).stdout
    assert rows(database) == before
    client = Prisma(datasource={"url": url})
    await client.connect()
    made = await client.litellm_verificationtoken.create({"token": "a-token", "key_alias": "made here"})
    assert await client.litellm_verificationtoken.find_unique(where={"token": "a-token"}) == made
    await client.disconnect()

    write(extras, "99990101000000_ours", "CREATE TABLE ours (id text PRIMARY KEY)")
    assert "99990101000000_ours" in prisma("migrate", "deploy", url=url, directory=extras).stdout
    assert UP_TO_DATE in genuine("migrate", "status", url=url, schema=schema).stdout
    assert NOTHING_TO_DO in genuine("migrate", "deploy", url=url, schema=schema).stdout
    write(extras, "99990102000000_theirs", "CREATE TABLE theirs (id text PRIMARY KEY); SELECT ';'")
    assert genuine("migrate", "deploy", url=url, schema=schema).code == 0
    assert UP_TO_DATE in prisma("migrate", "status", url=url, directory=extras).stdout

    *same, ours, theirs = outlines(database)
    assert rows(database)[: len(same)] == before
    assert ours[2:] == theirs[2:] == same[0][2:]
    for (name, checksum, *_), told in zip((ours, theirs), ("ours", "theirs"), strict=True):
        assert str(name).endswith(told)
        script = (extras / "migrations" / str(name) / "migration.sql").read_bytes()
        assert checksum == hashlib.sha256(script).hexdigest()


@pytest.mark.long
def test_what_was_begun_here_goes_on_there(migrated: Database) -> None:
    before = rows(migrated)
    assert UP_TO_DATE in genuine("migrate", "status", url=url_of(migrated), schema=SCHEMA).stdout
    assert NOTHING_TO_DO in genuine("migrate", "deploy", url=url_of(migrated), schema=SCHEMA).stdout
    assert rows(migrated) == before


@pytest.mark.long
def test_each_understands_what_failed_at_the_other(empty_database: Database, project: Path) -> None:
    """A failed migration is one of the other, too; so is what `resolve` makes of it, in both of its ways."""
    url, schema = url_of(empty_database), project / "schema.prisma"
    add = 'ALTER TABLE "Thing" ADD COLUMN "name" TEXT NOT NULL;'

    # Theirs fails; ours rolls it back, and theirs repeats it.
    write(project, "2_second", f"{add} SELECT 1 / 0;")
    failed = genuine("migrate", "deploy", url=url, schema=schema)
    assert failed.code == 1
    assert "division by zero" in failed.stderr
    refused = prisma("migrate", "deploy", url=url, directory=project)
    assert refused.stderr.startswith("Error: P3009\n")
    assert "The `2_second` migration started at" in refused.stderr
    assert "division by zero" in refused.stderr
    assert "2_second" in prisma("migrate", "status", url=url, directory=project).stderr
    assert prisma("migrate", "resolve", "--rolled-back", "2_second", url=url, directory=project).code == 0
    write(project, "2_second", add)
    assert genuine("migrate", "deploy", url=url, schema=schema).code == 0

    # Ours fails; theirs records it as applied.
    write(project, "3_third", "SELECT 1 / 0")
    assert prisma("migrate", "deploy", url=url, directory=project).stderr.startswith("Error: P3018\n")
    refused = genuine("migrate", "deploy", url=url, schema=schema)
    assert "P3009" in refused.stderr
    assert "The `3_third` migration started at" in refused.stderr
    assert "3_third" in genuine("migrate", "status", url=url, schema=schema).stderr
    assert genuine("migrate", "resolve", "--applied", "3_third", url=url, schema=schema).code == 0
    assert NOTHING_TO_DO in prisma("migrate", "deploy", url=url, directory=project).stdout

    # Theirs fails and ours records it as applied; ours fails and theirs rolls it back.
    write(project, "4_fourth", "SELECT 1 / 0")
    assert genuine("migrate", "deploy", url=url, schema=schema).code == 1
    assert prisma("migrate", "resolve", "--applied", "4_fourth", url=url, directory=project).code == 0
    write(project, "5_fifth", "SELECT 1 / 0")
    assert prisma("migrate", "deploy", url=url, directory=project).code == 1
    assert genuine("migrate", "resolve", "--rolled-back", "5_fifth", url=url, schema=schema).code == 0
    write(project, "5_fifth", "SELECT 1")
    assert prisma("migrate", "deploy", url=url, directory=project).code == 0
    assert UP_TO_DATE in genuine("migrate", "status", url=url, schema=schema).stdout

    third, fourth = ([row for row in outlines(empty_database) if row[0] == name] for name in ("3_third", "4_fourth"))
    for failed_row, applied in (third, fourth):
        assert failed_row[4] is not None  # rolled back
        assert applied[2:5] == (0, "", None)
    ways = [{name for name in row if row[name] is not None} for row in rows(empty_database) if row["rolled_back_at"]]
    assert ways[0] == ways[1] == ways[2] == ways[3]


# --- differences ------------------------------------------------------------------------------------------------


def statements(script: str) -> list[list[str]]:
    """Split a script into statements, and these into clauses; the order of either is nobody's promise."""
    parts = re.split(r"^-- .*\n", script, flags=re.MULTILINE)
    flat = [re.sub(r"(?<!,)\s+", " ", part.strip().removesuffix(";")) for part in parts if part.strip()]
    return sorted(sorted(re.split(r",\n *|(?<=\") (?=ADD COLUMN|ALTER COLUMN)", statement)) for statement in flat)


DATABASES = {
    "up to date": "SELECT",
    "missing column": 'ALTER TABLE "LiteLLM_BudgetTable" DROP COLUMN "max_budget", DROP COLUMN "created_by"',
    "missing table": 'DROP TABLE "LiteLLM_BudgetTable" CASCADE',
    "extra column": "ALTER TABLE \"LiteLLM_BudgetTable\" ADD COLUMN more text NOT NULL DEFAULT 'it''s'",
    "extra table": "CREATE TABLE extra (id int PRIMARY KEY, n text UNIQUE);"
    "CREATE TABLE extras (id serial PRIMARY KEY, extra int REFERENCES extra)",
    "types": 'ALTER TABLE "LiteLLM_BudgetTable" ALTER "max_parallel_requests" TYPE bigint, '
    'ALTER "created_at" TYPE timestamptz, ALTER "budget_duration" TYPE varchar(9), ALTER "max_budget" TYPE numeric',
    "defaults": 'ALTER TABLE "LiteLLM_VerificationToken" ALTER "spend" DROP DEFAULT, '
    "ALTER \"aliases\" SET DEFAULT '[]', "
    'ALTER "key_name" SET DEFAULT \'x\', ALTER "created_at" SET DEFAULT now()',
    "nullability": 'ALTER TABLE "LiteLLM_VerificationToken" ALTER "spend" DROP NOT NULL, ALTER "blocked" SET NOT NULL, '
    'ALTER "models" SET NOT NULL',
    "indexes": 'CREATE INDEX extra ON "LiteLLM_BudgetTable" ("max_budget" DESC, "created_at");'
    'CREATE UNIQUE INDEX partial ON "LiteLLM_BudgetTable" ("max_budget") WHERE "max_budget" > 1;'
    'CREATE INDEX expression ON "LiteLLM_BudgetTable" (lower("created_by"));'
    'CREATE INDEX hashed ON "LiteLLM_BudgetTable" USING hash ("created_by")',
    "index's name": 'ALTER INDEX "LiteLLM_DailyUserSpend_date_idx" RENAME TO "other"',
    "foreign keys": 'ALTER TABLE "LiteLLM_TeamTable" DROP CONSTRAINT "LiteLLM_TeamTable_model_id_fkey", '
    'ADD CONSTRAINT "LiteLLM_TeamTable_model_id_fkey" FOREIGN KEY ("model_id") '
    'REFERENCES "LiteLLM_ModelTable" ON DELETE CASCADE;'
    'ALTER TABLE "LiteLLM_TeamTable" RENAME CONSTRAINT "LiteLLM_TeamTable_organization_id_fkey" TO "other"',
    "primary key": 'ALTER TABLE "LiteLLM_Config" DROP CONSTRAINT "LiteLLM_Config_pkey"',
    "enums": "ALTER TYPE \"JobStatus\" ADD VALUE 'more'; CREATE TYPE extra AS ENUM ('a')",
    "view": 'CREATE VIEW seen AS SELECT * FROM "LiteLLM_BudgetTable"',
}


# Other statements that come to the same.
OTHERWISE = {
    "types": "ours writes the cast out, and takes a default off while its column's type changes",
    "enums": "ours leaves out BEGIN and COMMIT, for a script is a transaction as it is, and the schema's name",
}
KEYS_FIRST = "extra table"  # of tables that go, ours drops foreign keys first: PostgreSQL refuses Prisma's order


@pytest.mark.parametrize("change", DATABASES)
def test_both_see_the_same_differences(migrated: Database, change: str) -> None:
    execute(migrated, DATABASES[change])
    with connected(migrated) as connection:
        there = difference.of_connection(connection)
        ours = difference.script(difference.difference(there, difference.of_schema(parse(SCHEMA.read_text()))))
    theirs = genuine_difference(url_of(migrated), SCHEMA)
    assert len(statements(ours)) > 2 or change in {"up to date", "view", "nullability"}
    if change == KEYS_FIRST:
        assert [one for one in statements(ours) if one not in statements(theirs)] == [
            ['ALTER TABLE "extras" DROP CONSTRAINT "extras_extra_fkey"']
        ]
        with pytest.raises(psycopg2.errors.DependentObjectsStillExist):
            execute(copy(migrated), theirs)
    else:
        assert (statements(ours) == statements(theirs)) == (change not in OTHERWISE)
        made = copy(migrated)
        execute(made, theirs)
        execute(migrated, ours)
        assert catalog(made) == catalog(migrated)


@pytest.mark.long
def test_both_push_the_same_tables(empty_database: Database) -> None:
    cluster, other = empty_database.cluster, Database(empty_database.cluster, f"pushed_{next(NUMBERS)}")
    cluster.execute(f"CREATE DATABASE {other.name} OWNER litellm_owner TEMPLATE template0")
    assert prisma("db", "push", url=url_of(empty_database)).code == 0
    done = genuine("db", "push", "--skip-generate", url=url_of(other), schema=SCHEMA)
    assert done.code == 0, done.stderr
    assert catalog(empty_database) == catalog(other)
    again = genuine("db", "push", "--skip-generate", url=url_of(empty_database), schema=SCHEMA)
    assert "already in sync" in again.stdout
    assert "already in sync" in prisma("db", "push", url=url_of(other)).stdout
