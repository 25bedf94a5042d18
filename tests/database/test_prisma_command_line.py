"""The command `prisma` on a real PostgreSQL."""

import hashlib
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from litellm_sqlalchemy.prisma_client import difference
from litellm_sqlalchemy.prisma_client import migrate as ledger
from litellm_sqlalchemy.prisma_client.database_url import parse_url
from litellm_sqlalchemy.prisma_client.schema import parse
from tests.database.test_prisma_tables import CATALOG, ONLY_IN_MIGRATIONS, ONLY_IN_SCHEMA
from tests.fix_postgres import APPLICATION_PASSWORD, NUMBERS, OWNER_PASSWORD, SUPERUSER_PASSWORD, Cluster, Database
from tests.fix_prisma import (
    EXTRAS,
    MIGRATIONS,
    PRISMAS_LEDGER,
    Done,
    connected,
    deployed,
    environment,
    patiently,
    prisma,
    rows,
    url_of,
    write,
    write_schema,
)
from tests.fix_server import wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from litellm_proxy_extras.utils import ProxyExtrasDBManager


def catalog(database: Database) -> dict[str, set[tuple[object, ...]]]:
    """Describe all but the ledger."""
    return {
        what: {row for row in database.cluster.execute(query, database.name) if "_prisma_migrations" not in str(row)}
        for what, query in CATALOG.items()
    }


# --- deploy and status ------------------------------------------------------------------------------------------


def test_deploy_brings_all_migrations_into_an_empty_database(migrated: Database, empty_database: Database) -> None:
    with connected(empty_database) as connection, connection.cursor() as cursor:
        for file in MIGRATIONS:
            cursor.execute(file.read_text())
    assert catalog(migrated) == catalog(empty_database)
    made = rows(migrated)
    assert [row["migration_name"] for row in made] == [file.parent.name for file in MIGRATIONS]
    for row, file in zip(made, MIGRATIONS, strict=True):
        assert row["checksum"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert uuid.UUID(row["id"]).version == 4
        assert row["started_at"] <= row["finished_at"]
        assert (row["applied_steps_count"], row["logs"], row["rolled_back_at"]) == (1, None, None)
    assert "Database schema is up to date!" in prisma("migrate", "status", url=url_of(migrated)).stdout
    again = prisma("migrate", "deploy", url=url_of(migrated))
    assert (again.code, again.stderr) == (0, "")
    assert "No pending migrations to apply" in again.stdout
    assert rows(migrated) == made


def test_deploy_on_postgresql_15(cluster_15: Cluster) -> None:
    migrated, other = deployed(cluster_15, "deployed"), Database(cluster_15, "by_hand")
    cluster_15.execute(f"CREATE DATABASE {other.name} OWNER litellm_owner TEMPLATE template0")
    for file in MIGRATIONS:
        cluster_15.execute(file.read_text(), other.name)
    assert catalog(migrated) == catalog(other)
    assert [row["migration_name"] for row in rows(migrated)] == [file.parent.name for file in MIGRATIONS]


def test_the_ledger_is_prismas(migrated: Database, empty_database: Database) -> None:
    empty_database.cluster.execute(PRISMAS_LEDGER, empty_database.name)
    for query in CATALOG.values():
        ours, theirs = (
            {row for row in database.cluster.execute(query, database.name) if "_prisma_migrations" in str(row)}
            for database in (migrated, empty_database)
        )
        assert ours == theirs


def test_two_deploys_at_once_apply_each_migration_once(empty_database: Database) -> None:
    command = [sys.executable, "-I", *patiently("prisma"), "migrate", "deploy"]
    running = [
        subprocess.Popen(
            command,
            env=environment(url_of(empty_database)),
            cwd=EXTRAS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    assert sum(text.count("Applied migration ") for text in told) == len(MIGRATIONS)
    assert [row["migration_name"] for row in rows(empty_database)] == [file.parent.name for file in MIGRATIONS]


def test_a_deploy_gives_way_to_another_migration(
    empty_database: Database, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LOCK_TIMEOUT", 0.2)
    url = parse_url(url_of(empty_database))
    with connected(empty_database) as other, connected(empty_database) as connection, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(72707369)")
        with pytest.raises(ledger.MigrateError, match="advisory lock") as told:  # LiteLLM waits by these words
            list(ledger.deploy(connection, url, ledger.migrations(project / "migrations")))
        assert told.value.code == "P1002"
        monkeypatch.setenv("PRISMA_SCHEMA_DISABLE_ADVISORY_LOCK", "1")  # LiteLLM sets it where it holds the lock itself
        assert list(ledger.deploy(connection, url, ())) == []
        monkeypatch.delenv("PRISMA_SCHEMA_DISABLE_ADVISORY_LOCK")
        cursor.execute("SELECT pg_advisory_unlock(72707369)")
        assert list(ledger.deploy(connection, url, ledger.migrations(project / "migrations"))) == [
            "1_first",
            "2_second",
        ]


def test_status_tells_what_is_pending_and_what_is_unknown(empty_database: Database, project: Path) -> None:
    url = url_of(empty_database)
    pending = prisma("migrate", "status", url=url, directory=project)
    assert pending.code == 1
    assert "not yet been applied:\n1_first\n2_second\n" in pending.stdout
    prisma("migrate", "deploy", url=url, directory=project)
    assert prisma("migrate", "status", url=url, directory=project).code == 0
    (project / "migrations/2_second").rename(project / "migrations/3_third")
    diverged = prisma("migrate", "status", url=url, directory=project)
    assert diverged.code == 1
    assert "The last common migration is: 1_first" in diverged.stderr
    assert "not yet been applied:\n3_third\n" in diverged.stderr
    assert "not found locally:\n2_second\n" in diverged.stderr


def test_the_schema_of_the_url_has_the_tables(empty_database: Database, project: Path) -> None:
    empty_database.cluster.execute("GRANT CREATE ON DATABASE " + empty_database.name + " TO litellm_owner")
    url = url_of(empty_database, "?schema=Other")
    assert prisma("migrate", "deploy", url=url, directory=project).code == 0
    assert prisma("migrate", "status", url=url, directory=project).code == 0
    tables = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'Other') ORDER BY tablename"
    assert [(row["schemaname"], row["tablename"]) for row in rows(empty_database, tables)] == [
        ("Other", "Thing"),
        ("Other", "_prisma_migrations"),
    ]
    compared = prisma(
        *("migrate", "diff", "--from-url", url, "--to-schema-datamodel", "schema.prisma", "--exit-code"),
        directory=project,
    )
    assert (compared.code, compared.stdout) == (0, "No difference detected.\n")


def test_migrations_go_past_the_pooler(empty_database: Database, project: Path) -> None:
    write_schema(project, "name String", datasource='url = env("DATABASE_URL")\n  directUrl = env("DIRECT_URL")')
    done = subprocess.run(
        [sys.executable, "-I", "-m", "prisma", "migrate", "deploy"],
        env=environment("postgresql://nobody@nowhere.invalid/none") | {"DIRECT_URL": url_of(empty_database)},
        cwd=project,
        check=False,
    )
    assert done.returncode == 0
    assert len(rows(empty_database)) == 2


# --- failures ---------------------------------------------------------------------------------------------------


def test_a_failed_migration_is_told_resolved_and_repeated(
    empty_database: Database, project: Path, litellms: "type[ProxyExtrasDBManager]"
) -> None:
    url = url_of(empty_database)
    write(project, "2_second", 'SELECT 1;\n\nALTER TABLE "Thing"\n  ADD COLUMN "id" TEXT;\nSELECT 2;\n')
    failed = prisma("migrate", "deploy", url=url, directory=project)
    assert failed.code == 1
    assert failed.stderr.startswith("Error: P3018\n\n")
    assert "Database error code: 42701\n" in failed.stderr
    assert 'ERROR: column "id" of relation "Thing" already exists' in failed.stderr
    assert litellms._v2_failed_migration_name(failed.stderr) == "2_second"
    assert litellms._is_idempotent_error(failed.stderr)
    assert not litellms._is_permission_error(failed.stderr)
    first, second = rows(empty_database)
    assert first["finished_at"] is not None
    assert (second["finished_at"], second["rolled_back_at"], second["applied_steps_count"]) == (None, None, 0)
    assert "Database error code: 42701" in second["logs"]

    again = prisma("migrate", "deploy", url=url, directory=project)
    assert again.code == 1
    assert again.stderr.startswith("Error: P3009\n\n")
    assert "resolve --rolled-back" in again.stderr
    assert litellms._v2_failed_migration_name(again.stderr) == "2_second"
    started_at = litellms._v2_failed_migration_started_at(again.stderr, "2_second")
    query = "SELECT started_at = %(at)s::timestamptz FROM _prisma_migrations WHERE finished_at IS NULL"
    assert empty_database.cluster.execute(query, empty_database.name, {"at": str(started_at)}) == [(True,)]
    status = prisma("migrate", "status", url=url, directory=project)
    assert status.code == 1
    assert "Following migrations have failed:\n2_second\n" in status.stderr

    resolved = prisma("migrate", "resolve", "--rolled-back", "2_second", url=url, directory=project)
    assert (resolved.code, resolved.stderr) == (0, "")
    assert rows(empty_database)[1]["rolled_back_at"] is not None
    write(project, "2_second", 'ALTER TABLE "Thing" ADD COLUMN "name" TEXT NOT NULL;')
    assert prisma("migrate", "deploy", url=url, directory=project).code == 0
    assert [row["migration_name"] for row in rows(empty_database)] == ["1_first", "2_second", "2_second"]
    assert prisma("migrate", "status", url=url, directory=project).code == 0


def test_a_failed_migration_leaves_nothing_but_its_row(empty_database: Database, project: Path) -> None:
    write(project, "2_second", "CREATE TABLE half (); CREATE TABLE half ();")
    assert "P3018" in prisma("migrate", "deploy", url=url_of(empty_database), directory=project).stderr
    assert rows(empty_database, "SELECT FROM pg_class WHERE relname = 'half'") == []


def test_a_migration_with_a_transaction_of_its_own_is_recorded_as_failed(
    empty_database: Database, project: Path
) -> None:
    write(project, "2_second", "BEGIN; CREATE TABLE half (); SELECT 1 / 0; COMMIT;")
    assert (
        "Database error code: 22012"
        in prisma("migrate", "deploy", url=url_of(empty_database), directory=project).stderr
    )
    assert "division by zero" in rows(empty_database)[1]["logs"]


@pytest.mark.parametrize("sql", ["-- nothing", "", 'CREATE INDEX CONCURRENTLY ON "Thing" (id)', "SELECT '100%s'"])
def test_unusual_migrations(empty_database: Database, project: Path, sql: str) -> None:
    write(project, "3_third", sql)
    done = prisma("migrate", "deploy", url=url_of(empty_database), directory=project)
    assert (done.code, done.stderr) == (0, "")
    assert rows(empty_database)[2]["finished_at"] is not None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_deploy_leaves_a_row_that_the_next_one_tells(
    empty_database: Database, project: Path, number: signal.Signals
) -> None:
    url = url_of(empty_database)
    write(project, "2_second", "CREATE TABLE half (); SELECT pg_sleep(600);")
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "prisma", "migrate", "deploy"],
        env=environment(url),
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    sleeping = f"SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = '{empty_database.name}'"
    wait_for(lambda: rows(empty_database, sleeping), "the migration is at work")
    process.send_signal(number)
    _, told = process.communicate()
    # PostgreSQL gives up also what nobody waits for any more.
    wait_for(lambda: not rows(empty_database, sleeping), "PostgreSQL gives the migration up")
    row = rows(empty_database)[1]
    assert (row["finished_at"], row["applied_steps_count"]) == (None, 0)
    if number == signal.SIGKILL:
        assert row["logs"] is None
    else:
        assert "Database error code: 57014" in told
        assert "canceling statement" in row["logs"]
    assert rows(empty_database, "SELECT FROM pg_class WHERE relname = 'half'") == []

    assert "P3009" in prisma("migrate", "deploy", url=url, directory=project).stderr
    assert prisma("migrate", "resolve", "--rolled-back", "2_second", url=url, directory=project).code == 0
    write(project, "2_second", 'ALTER TABLE "Thing" ADD COLUMN "name" TEXT NOT NULL;')
    assert prisma("migrate", "deploy", url=url, directory=project).code == 0


def test_privileges_that_are_missing_are_told(
    empty_database: Database, project: Path, litellms: "type[ProxyExtrasDBManager]"
) -> None:
    url = url_of(empty_database, user="litellm_a", password=APPLICATION_PASSWORD)
    refused = prisma("migrate", "deploy", url=url, directory=project)
    assert refused.code == 1
    assert refused.stderr.startswith("Error: P1010\n\n")
    assert "permission denied for schema public" in refused.stderr
    write(project, "2_second", "CREATE ROLE another")
    failed = prisma("migrate", "deploy", url=url_of(empty_database), directory=project)
    assert litellms._is_permission_error(failed.stderr)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--applied", "1_first"), "P3008"),
        (("--applied", "1_firs"), "P3017"),
        (("--rolled-back", "1_first"), "P3012"),
        (("--rolled-back", "9_ninth"), "P3011"),
    ],
)
def test_what_cannot_be_resolved(
    empty_database: Database, project: Path, arguments: tuple[str, str], code: str
) -> None:
    url = url_of(empty_database)
    prisma("migrate", "deploy", url=url, directory=project)
    before = rows(empty_database)
    done = prisma("migrate", "resolve", *arguments, url=url, directory=project)
    assert done.code == 1
    assert done.stderr.startswith(f"Error: {code}\n\n")
    if code == "P3008":
        assert "is already recorded as applied in the database." in done.stderr  # LiteLLM goes on by these words
    assert rows(empty_database) == before


def test_a_failed_migration_can_be_recorded_as_applied(empty_database: Database, project: Path) -> None:
    url = url_of(empty_database)
    write(project, "2_second", "SELECT 1 / 0")
    prisma("migrate", "deploy", url=url, directory=project)
    assert prisma("migrate", "resolve", "--applied", "2_second", url=url, directory=project).code == 0
    _, failed, applied = rows(empty_database)
    assert failed["rolled_back_at"] is not None
    assert (applied["logs"], applied["applied_steps_count"]) == ("", 0)
    assert applied["started_at"] == applied["finished_at"]
    assert "No pending" in prisma("migrate", "deploy", url=url, directory=project).stdout


def test_a_database_without_a_ledger_is_refused_and_can_be_given_one(empty_database: Database, project: Path) -> None:
    url = url_of(empty_database)
    empty_database.cluster.execute('CREATE TABLE "Thing" (id text PRIMARY KEY)', empty_database.name)
    refused = prisma("migrate", "deploy", url=url, directory=project)
    assert refused.code == 1
    assert "P3005" in refused.stderr
    assert "database schema is not empty" in refused.stderr
    assert rows(empty_database, "SELECT FROM pg_class WHERE relname = '_prisma_migrations'") == []
    empty_database.cluster.execute('ALTER TABLE "Thing" OWNER TO litellm_owner', empty_database.name)
    assert prisma("migrate", "resolve", "--applied", "1_first", url=url, directory=project).code == 0
    assert "Applied migration 2_second" in prisma("migrate", "deploy", url=url, directory=project).stdout


def test_migrations_for_another_database_are_refused(empty_database: Database, project: Path) -> None:
    (project / "migrations/migration_lock.toml").write_text('provider = "mysql"\n')
    assert "P3019" in prisma("migrate", "deploy", url=url_of(empty_database), directory=project).stderr


def test_a_migration_without_its_file_is_refused(empty_database: Database, project: Path) -> None:
    (project / "migrations/2_second/migration.sql").unlink()
    assert "P3015" in prisma("migrate", "deploy", url=url_of(empty_database), directory=project).stderr
    assert [row["migration_name"] for row in rows(empty_database)] == ["1_first"]


# --- connections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("migrate", "deploy"), ("migrate", "status"), ("db", "push")])
def test_why_there_is_no_connection(empty_database: Database, project: Path, command: tuple[str, str]) -> None:
    def told(url: str) -> str:
        done = prisma(*command, url=url, directory=project)
        assert done.code == 1
        return done.stderr

    cluster = empty_database.cluster
    assert "P1000" in told(url_of(empty_database, password="wrong"))
    assert "P1001" in told(f"postgresql://u:{OWNER_PASSWORD}@127.0.0.1:{free_port()}/d")
    assert "P1001" in told(f"postgresql://u:{OWNER_PASSWORD}@nowhere.invalid/d")
    assert "P1003" in told(url_of(Database(cluster, "missing")))
    assert "P1011" in told(url_of(empty_database, "?sslmode=require"))
    assert "P1012" in told("")
    assert "P1012" in prisma(*command, directory=project).stderr
    assert "P1013" in told(url_of(empty_database, "?connection_limit=many"))
    cluster.execute(f"REVOKE CONNECT ON DATABASE {empty_database.name} FROM PUBLIC, litellm_owner")
    cluster.execute(f"ALTER DATABASE {empty_database.name} OWNER TO postgres")
    assert "P1010" in told(url_of(empty_database))


def test_a_role_that_may_creates_the_database(cluster: Cluster, project: Path) -> None:
    made = Database(cluster, f'Made "{next(NUMBERS)}')
    url = url_of(made, user="postgres", password=SUPERUSER_PASSWORD).replace('"', "%22")
    assert prisma("migrate", "deploy", url=url, directory=project).code == 0
    assert len(rows(made)) == 2


MALFORMED = (
    "u:{0}@h/d",
    "postgresql://u:#{0}@h/d",
    "postgresql://u:/{0}@h/d",
    "postgresql://u:{0}@h h/d",
    "postgresql://u:{0}@h:port/d",
    "postgresql://u:{0}@127.0.0.1:1/d",
    "postgresql://u:p {0}@127.0.0.1:1/d",
    "postgresql://u:{0}@127.0.0.1:1/d?connection_limit={0}",
    '"postgresql://u:{0}@h/d"',
    "postgresql://u:{0}@${{HOST}}/d",
)


@pytest.mark.parametrize("text", MALFORMED)
def test_no_error_has_the_password(project: Path, text: str) -> None:
    url = text.format(OWNER_PASSWORD)
    for arguments in (
        ("migrate", "deploy"),
        ("migrate", "diff", f"--from-url={url}", "--to-empty"),
        ("migrate", "diff", "--from-empty", "--to-url", *url.split(" "), url, f"--from-urls={url}"),
        (f"--{url}", url),
    ):
        done = prisma(*arguments, url=url, directory=project)  # looks for the password in what is printed
        assert done.code == 1, arguments
        assert done.stderr.startswith("Error: ")
        assert "Traceback" not in done.stderr


# --- push, diff and execute -------------------------------------------------------------------------------------


def push(database: Database, project: Path, *options: str) -> Done:
    return prisma("db", "push", *options, url=url_of(database), directory=project)


def diff(*arguments: str, directory: Path = EXTRAS, url: str | None = None) -> Done:
    return prisma("migrate", "diff", *arguments, directory=directory, url=url)


def test_push_makes_what_the_schema_describes(empty_database: Database, migrated: Database) -> None:
    done = push(empty_database, EXTRAS, "--accept-data-loss", "--skip-generate")  # as LiteLLM calls it
    assert (done.code, done.stderr) == (0, "")
    assert "is already in sync" in push(empty_database, EXTRAS).stdout
    described = diff(
        *("--from-url", url_of(empty_database), "--to-schema-datamodel", "schema.prisma", "--script", "--exit-code")
    )
    assert (described.code, described.stdout) == (0, "-- This is an empty migration.\n")
    for what, pushed in catalog(empty_database).items():
        assert {name for name, _ in pushed - catalog(migrated)[what]} == ONLY_IN_SCHEMA[what]


def test_push_refuses_to_destroy_data(empty_database: Database, project: Path) -> None:
    write_schema(project, "name String", "age Int", more="model Other {\n  id Int @id\n}\n")
    assert push(empty_database, project).code == 0
    empty_database.cluster.execute(
        "INSERT INTO \"Thing\" VALUES ('a', 'n', 7); INSERT INTO \"Other\" VALUES (1)", empty_database.name
    )
    before = catalog(empty_database)
    write_schema(project, "age BigInt")
    refused = push(empty_database, project)
    assert refused.code == 1
    assert "--accept-data-loss" in refused.stderr
    for told in (
        "drop the `Other` table, which is not empty (1 rows)",
        "drop the column `name` on the `Thing` table, which still contains 1 non-null values",
        "alter the column `age` on the `Thing` table, which contains 1 non-null values",
    ):
        assert told in refused.stdout
    assert catalog(empty_database) == before
    assert push(empty_database, project, "--accept-data-loss").code == 0
    assert rows(empty_database, 'SELECT * FROM "Thing"') == [{"id": "a", "age": 7}]
    assert rows(empty_database, "SELECT FROM pg_class WHERE relname = 'Other'") == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (("name String?", "must String"), "required column `must` to the `Thing` table without a default value"),
        (("name String",), "Made the column `name` on table `Thing` required, but there are 1 existing NULL values"),
        (("name String?", "same Int? @unique"), '"same" of table `Thing` should become unique, but 1 values'),
    ],
)
def test_push_tells_what_cannot_be_done(
    empty_database: Database, project: Path, fields: tuple[str, ...], told: str
) -> None:
    write_schema(project, "name String?", "same Int?")
    push(empty_database, project)
    empty_database.cluster.execute("INSERT INTO \"Thing\" VALUES ('a', NULL, 1), ('b', 'n', 1)", empty_database.name)
    before = catalog(empty_database)
    write_schema(project, *fields)
    refused = push(empty_database, project, "--accept-data-loss")
    assert refused.code == 1
    assert told in refused.stderr
    assert catalog(empty_database) == before


def test_push_never_resets(empty_database: Database, project: Path) -> None:
    assert "not supported" in push(empty_database, project, "--force-reset").stderr


CHANGES = [
    (("name String",), ("name String?",), ["AlterTable"]),
    (("name String?",), ("name String",), ["AlterTable"]),
    (("name String",), ('name String @default("it\'s")',), ["AlterTable"]),
    (('name String @default("it\'s")',), ("name String",), ["AlterTable"]),
    (("on Boolean @default(true)",), ("on Boolean @default(false)",), ["AlterTable"]),
    (("rate Float @default(0)",), ("rate Float @default(0.0)",), []),
    (("at DateTime @default(now())",), ("at DateTime @default(now()) @updatedAt",), []),
    (("n Int @default(1)",), ("n BigInt @default(1)",), ["AlterTable"]),
    (("n Int @default(autoincrement())",), ("n Int",), ["AlterTable"]),
    (("n Int",), ("n Int @default(autoincrement())",), ["AlterTable", "AlterTable"]),
    (("tags String[] @default([])",), ("tags String[]",), ["AlterTable"]),
    (("a Int", "b Int"), ("a Int", "b Int", "@@index([a, b(sort: Desc)])"), ["CreateIndex"]),
    (("a Int", "@@index([a])"), ("a Int",), ["DropIndex"]),
    (("a Int", "@@index([a])"), ("a Int", '@@index([a], map: "by_a")'), ["RenameIndex"]),
    (("a Int", "@@index([a])"), ("a Int", "@@index([a], type: Hash)"), ["DropIndex", "CreateIndex"]),
    (("a Int @unique",), ("a Int", "@@index([a])"), ["DropIndex", "CreateIndex"]),
    (("kind Kind @default(b)",), ("kind Kind @default(b)",), []),
]


@pytest.mark.parametrize(("before", "after", "kinds"), CHANGES)
def test_a_difference_leads_from_one_to_the_other(
    empty_database: Database, project: Path, before: tuple[str, ...], after: tuple[str, ...], kinds: list[str]
) -> None:
    def wanted(*fields: str) -> difference.Database:
        write_schema(project, *fields, more="enum Kind {\n  a\n  b\n}\n")
        return difference.of_schema(parse((project / "schema.prisma").read_text()))

    old, new = wanted(*before), wanted(*after)
    with connected(empty_database) as connection:
        ledger.execute(connection, difference.script(difference.difference(difference.NOTHING, old)))
        there = difference.of_connection(connection)
        assert difference.difference(there, old) == ()
        steps = difference.difference(there, new)
        assert [step.kind for step in steps] == kinds
        assert [step.kind for step in difference.difference(old, new)] == kinds
        ledger.execute(connection, difference.script(steps))
        assert difference.difference(difference.of_connection(connection), new) == ()


def test_enums_change(empty_database: Database, project: Path) -> None:
    url, extra = url_of(empty_database), "model Other {\n  id Int @id\n  kinds Kind[]\n}\n"
    for values in ("a b", "a b c", "b c d"):
        write_schema(
            project,
            "kind Kind @default(b)",
            more=f"{extra}enum Kind {{\n  {chr(10).join(values.split())}\n}}\n",
        )
        done = push(empty_database, project)
        assert (done.code, done.stderr) == (0, "")
        empty_database.cluster.execute('INSERT INTO "Thing" SELECT gen_random_uuid()', empty_database.name)
    found = rows(empty_database, "SELECT enumlabel FROM pg_enum ORDER BY enumtypid, enumsortorder")
    assert [row["enumlabel"] for row in found] == ["b", "c", "d"]
    assert len(rows(empty_database, "SELECT FROM \"Thing\" WHERE kind = 'b'")) == 3
    write_schema(project)
    told = diff("--from-url", url, "--to-schema-datamodel", "schema.prisma", directory=project)
    assert "[DropEnum]" in told.stdout
    assert push(empty_database, project, "--accept-data-loss").code == 0


def test_the_way_back_and_relations(empty_database: Database, project: Path) -> None:
    other = "model Other {\n  id Int\n  thing_id String\n  thing Thing @relation(fields: [thing_id], references: [id])"
    url = url_of(empty_database)
    write_schema(project, "others Other[]", more=f"{other}\n  @@id([id, thing_id])\n}}\n")
    assert push(empty_database, project).code == 0
    # Another primary key, and another action on deletion.
    cascading = other.replace("[id])", "[id], onDelete: Cascade)")
    write_schema(project, "others Other[]", more=f"{cascading}\n  @@id([id])\n}}\n")
    told = diff("--from-url", url, "--to-schema-datamodel", "schema.prisma", "--script", directory=project)
    assert re.findall(r"^-- (\w+)$", told.stdout, re.MULTILINE) == ["DropForeignKey", "AlterTable", "AddForeignKey"]
    assert '"Other_pkey",\nADD CONSTRAINT "Other_pkey" PRIMARY KEY ("id");' in told.stdout  # as LiteLLM splits it
    assert push(empty_database, project).code == 0
    away = diff("--from-url", url, "--to-empty", "--script", directory=project)
    assert prisma("db", "execute", "--stdin", "--url", url, stdin=away.stdout, directory=project).code == 0
    assert catalog(empty_database)["columns"] == set()


def test_what_prismas_language_cannot_say_is_no_difference(empty_database: Database, project: Path) -> None:
    write_schema(project, "name String", "tags String[] @default([])", "at DateTime @default(now())")
    push(empty_database, project)
    empty_database.cluster.execute(
        "ALTER TABLE \"Thing\" ALTER tags SET NOT NULL, ALTER tags SET DEFAULT '{}', ALTER at SET DEFAULT now(); "
        'CREATE INDEX ON "Thing" (lower(name)); '
        'CREATE UNIQUE INDEX ON "Thing" (name) WHERE name > \'x\'; CREATE VIEW seen AS SELECT * FROM "Thing"; '
        "CREATE TABLE _prisma_migrations (id text)",
        empty_database.name,
    )
    told = diff(
        *("--from-url", url_of(empty_database), "--to-schema-datamodel", "schema.prisma", "--exit-code"),
        directory=project,
    )
    assert (told.code, told.stdout) == (0, "No difference detected.\n")


def test_a_database_is_written_down_and_made_again(
    migrated: Database, empty_database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "baseline.sql"
    written = diff("--from-empty", "--to-url", url_of(migrated), "--script", "-o", str(file))
    assert (written.code, written.stdout, written.stderr) == (0, "", "")
    url = url_of(empty_database)
    assert prisma("db", "execute", "--file", str(file), "--schema", "schema.prisma", url=url).code == 0
    made, theirs = catalog(empty_database), catalog(migrated)
    # Partial indexes, those on expressions, and that a unique constraint is one, are not in Prisma's language.
    assert made["columns"] == theirs["columns"]
    assert made["enums"] == theirs["enums"]
    assert {name for name, _ in theirs["indexes"] - made["indexes"]} <= ONLY_IN_MIGRATIONS["indexes"]
    left = diff("--from-schema-datasource", "schema.prisma", "--to-url", url_of(migrated), "--exit-code", url=url)
    assert (left.code, left.stdout) == (0, "No difference detected.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from-empty",),
        ("--from-empty", "--from-url", "postgresql://u@h/d", "--to-empty"),
        ("--from-empty", "--to-schema-datamodel", "missing.prisma"),
    ],
)
def test_diff_needs_two_sides(project: Path, arguments: tuple[str, ...]) -> None:
    done = diff(*arguments, directory=project)
    assert done.code == 1
    assert done.stderr.startswith("Error: ")


def test_a_script_runs_as_one_transaction(empty_database: Database, project: Path) -> None:
    url = url_of(empty_database)
    failed = prisma(
        "db", "execute", "--stdin", "--url", url, stdin="CREATE TABLE a (); SELECT 1 / 0", directory=project
    )
    assert failed.code == 1
    assert "Database error code: 22012" in failed.stderr
    assert rows(empty_database, "SELECT FROM pg_class WHERE relname = 'a'") == []
    assert prisma("db", "execute", "--stdin", "--url", url, stdin="-- nothing", directory=project).code == 0
    for arguments in (("--stdin",), ("--url", url), ("--file", "x", "--url", url), ("--stdin", "--file", "x")):
        assert prisma("db", "execute", *arguments, directory=project).code == 1


# --- the rest ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("--version",), ("-v",), ("version",), ("generate", "--schema", "x"), (), ("migrate", "diff", "-h")]
)
def test_commands_that_need_no_database(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = prisma(*arguments, directory=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout


def test_a_schema_that_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    assert "give --schema" in prisma("migrate", "deploy", directory=tmp_path).stderr
    (tmp_path / "schema.prisma").write_text("model Thing {\n  id Strin @id\n}\n")
    told = prisma("migrate", "deploy", "--schema", str(tmp_path)).stderr
    assert told.startswith("Error: P1012\n\n")
    assert "line 2" in told
    (tmp_path / "schema.prisma").write_text("")
    assert "has no datasource" in prisma("migrate", "deploy", directory=tmp_path).stderr
