"""The command `prisma`, and databases that it has migrated."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litellm_proxy_extras
import pytest

from litellm_sqlalchemy.prisma_client import migrate
from litellm_sqlalchemy.prisma_client.database_url import parse_url
from tests.fix_postgres import (
    APPLICATION_PASSWORD,
    NUMBERS,
    OWNER_PASSWORD,
    SUPERUSER_PASSWORD,
    Cluster,
    Database,
    dropped_afterwards,
)
from tests.fix_server import PATIENCE_SECONDS

if TYPE_CHECKING:
    from litellm_proxy_extras.utils import ProxyExtrasDBManager

EXTRAS = Path(litellm_proxy_extras.__file__).parent
MIGRATIONS = sorted(EXTRAS.glob("migrations/*/migration.sql"))
SECRETS = (OWNER_PASSWORD, SUPERUSER_PASSWORD, APPLICATION_PASSWORD)
LEDGER = "SELECT * FROM _prisma_migrations ORDER BY started_at, migration_name"
# As Prisma 5.17 makes it.
PRISMAS_LEDGER = """
CREATE TABLE _prisma_migrations (
    id                      VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum                VARCHAR(64) NOT NULL,
    finished_at             TIMESTAMPTZ,
    migration_name          VARCHAR(255) NOT NULL,
    logs                    TEXT,
    rolled_back_at          TIMESTAMPTZ,
    started_at              TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count     INTEGER NOT NULL DEFAULT 0
);
"""


def url_of(database: Database, options: str = "", user: str = "litellm_owner", password: str = OWNER_PASSWORD) -> str:
    cluster, patient = database.cluster, f"connect_timeout={PATIENCE_SECONDS}"
    options = f"{options}&{patient}" if options else f"?{patient}"
    return f"postgresql://{user}:{password}@{cluster.host}:{cluster.port}/{database.name}{options}"


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    stdout: str
    stderr: str


def patiently(module: str) -> tuple[str, str]:
    """Python's options that run a module which waits for another's whole migration, however busy the machine is."""
    return (
        "-c",
        "from litellm_sqlalchemy.prisma_client import migrate; migrate.LOCK_TIMEOUT = 600;"
        f"import runpy; runpy.run_module({module!r}, run_name='__main__')",
    )


def environment(url: str | None) -> dict[str, str]:
    return {"PATH": os.environ["PATH"]} | ({} if url is None else {"DATABASE_URL": url})


def prisma(*arguments: str, url: str | None = None, directory: Path = EXTRAS, stdin: str = "") -> Done:
    """Run the command as LiteLLM does where it is not on the PATH."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "prisma", *arguments],
        env=environment(url),
        cwd=directory,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def execute(database: Database, sql: str) -> None:
    database.cluster.execute(sql, database.name)


def rows(database: Database, query: str = LEDGER) -> list[dict[str, Any]]:
    """Query as the superuser."""
    query = f"SELECT row_to_json(found) FROM ({query}) AS found"  # noqa: S608  # of the tests alone
    found = database.cluster.execute(query, database.name)
    return [dict(row[0]) for row in found if isinstance(row[0], dict)]


@contextlib.contextmanager
def connected(database: Database) -> Iterator[migrate.Connection]:
    with contextlib.closing(migrate.connect(parse_url(url_of(database)))) as connection:
        yield connection


@pytest.fixture(scope="session")
def migrated_template(cluster: Cluster) -> Database:
    """A database that the command has migrated; copy it."""
    return deployed(cluster, "template_migrated")


def deployed(cluster: Cluster, name: str) -> Database:
    """Make a database, and have the command migrate it."""
    database = Database(cluster, name)
    cluster.execute(f"CREATE DATABASE {database.name} OWNER litellm_owner TEMPLATE template0")
    done = prisma("migrate", "deploy", url=url_of(database))
    assert (done.code, done.stderr) == (0, "")
    assert f"{len(MIGRATIONS)} migrations found" in done.stdout
    assert "All migrations have been successfully applied." in done.stdout
    return database


@pytest.fixture
def migrated(migrated_template: Database) -> Iterator[Database]:
    database = copy(migrated_template)
    with dropped_afterwards(database.cluster, database.name):
        yield database


def copy(database: Database) -> Database:
    name = f"migrated_{next(NUMBERS)}"
    database.cluster.execute(f"CREATE DATABASE {name} OWNER litellm_owner TEMPLATE {database.name}")
    return Database(database.cluster, name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a schema of its own, and two migrations that make what it describes."""
    write_schema(tmp_path, "name String")
    write(tmp_path, "1_first", 'CREATE TABLE "Thing" ("id" TEXT NOT NULL, CONSTRAINT "Thing_pkey" PRIMARY KEY ("id"));')
    write(tmp_path, "2_second", 'ALTER TABLE "Thing" ADD COLUMN "name" TEXT NOT NULL;')
    return tmp_path


def write(folder: Path, name: str, sql: str) -> None:
    file = folder / "migrations" / name / "migration.sql"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(sql)


def write_schema(folder: Path, *fields: str, more: str = "", datasource: str = 'url = env("DATABASE_URL")') -> None:
    lines = "\n  ".join(("id String @id", *fields))
    (folder / "schema.prisma").write_text(
        f'datasource client {{\n  provider = "postgresql"\n  {datasource}\n}}\nmodel Thing {{\n  {lines}\n}}\n{more}\n'
    )


@pytest.fixture(scope="session")
def litellms() -> "type[ProxyExtrasDBManager]":
    """What LiteLLM migrates by; its import must not look for prices in the internet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        from litellm_proxy_extras.utils import ProxyExtrasDBManager  # noqa: PLC0415

    return ProxyExtrasDBManager
