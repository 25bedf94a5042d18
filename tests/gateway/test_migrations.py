"""LiteLLM's own unmodified code migrates by the command `prisma`, in each release that the gateway supports."""

import hashlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.fix_postgres import Database
from tests.fix_prisma import (
    MIGRATIONS,
    PRISMAS_LEDGER,
    SECRETS,
    connected,
    copy,
    execute,
    prisma,
    rows,
    url_of,
    write,
)
from tests.gateway.fix_litellm import EACH_RELEASE, OLDER, PINNED, interpreter

SETUP = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
from litellm_proxy_extras.utils import ProxyExtrasDBManager
sys.exit(not ProxyExtrasDBManager.setup_database(use_migrate={migrate}, use_v2_resolver={v2}))
"""


@pytest.fixture(scope="session")
def on_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script that an installation makes, for LiteLLM of any release."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "prisma"
    script.write_text(
        f"#!{sys.executable} -I\nfrom litellm_sqlalchemy.prisma_client.command_line import main\nmain()\n"
    )
    script.chmod(0o755)
    return folder


def set_up(release: str, url: str, folder: Path, on_path: Path, *, migrate: bool = True, v2: bool = False) -> str:
    """Have LiteLLM set a database up, with its migrations in a folder of their own."""
    done = subprocess.run(
        [interpreter(release), "-c", SETUP.format(migrate=migrate, v2=v2)],
        env={
            "PATH": f"{on_path}:{os.environ['PATH']}",
            "HOME": str(folder),
            "DATABASE_URL": url,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MIGRATION_DIR": str(folder / "extras"),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize("release", EACH_RELEASE)
def test_litellm_sets_up_an_empty_database(
    empty_database: Database, tmp_path: Path, on_path: Path, release: str
) -> None:
    told = set_up(release, url_of(empty_database), tmp_path, on_path)
    assert "WARNING" not in told
    assert "ERROR" not in told
    names = sorted(file.parent.name for file in (tmp_path / "extras").glob("migrations/*/migration.sql"))
    assert [row["migration_name"] for row in rows(empty_database)] == names
    again = set_up(release, url_of(empty_database), tmp_path, on_path, v2=True)
    assert "No pending migrations" in again


def test_litellm_takes_over_a_database_that_prisma_has_migrated(
    migrated: Database, tmp_path: Path, on_path: Path
) -> None:
    """Its rows are as Prisma's engine writes them."""
    execute(migrated, "DROP TABLE _prisma_migrations")
    with connected(migrated) as connection, connection.cursor() as cursor:
        cursor.execute(PRISMAS_LEDGER)
        for second, file in enumerate(MIGRATIONS):
            cursor.execute(
                "INSERT INTO _prisma_migrations "
                "(id, checksum, finished_at, migration_name, started_at, applied_steps_count) "
                "SELECT %s, %s, at, %s, at, 1 FROM (SELECT '2025-01-01'::timestamptz + %s * interval '1 s') AS _ (at)",
                (str(uuid.uuid4()), hashlib.sha256(file.read_bytes()).hexdigest(), file.parent.name, second),
            )
    before = rows(migrated)
    assert prisma("migrate", "status", url=url_of(migrated)).code == 0
    assert "No pending migrations" in set_up(PINNED, url_of(migrated), tmp_path, on_path)
    assert rows(migrated) == before
    write(tmp_path / "extras", "99991231000000_newer", "SELECT 1")
    set_up(PINNED, url_of(migrated), tmp_path, on_path)
    *same, newer = rows(migrated)
    assert same == before
    assert newer.keys() == before[0].keys()
    for name in ("logs", "rolled_back_at", "applied_steps_count"):
        assert newer[name] == before[0][name]


# The first one's has the pinned one's code, and it takes its time.
@pytest.mark.parametrize("release", [release for release in EACH_RELEASE if release != OLDER[0]])
def test_litellm_recovers_a_database_without_a_ledger(
    migrated_template: Database, tmp_path: Path, on_path: Path, release: str
) -> None:
    """LiteLLM's first resolver: it writes the database down, applies what is missing, and records all as applied."""
    database = copy(migrated_template)
    execute(database, 'DROP TABLE _prisma_migrations; ALTER TABLE "LiteLLM_BudgetTable" DROP COLUMN "max_budget"')
    told = set_up(release, url_of(database), tmp_path, on_path)
    assert "All migrations resolved." in told
    assert "Migration diff applied successfully" in told
    assert "ERROR" not in told
    names = {file.parent.name for file in (tmp_path / "extras").glob("migrations/*/migration.sql")}
    assert {row["migration_name"] for row in rows(database)} == names
    assert "0_init" in names
    column = "SELECT FROM pg_attribute WHERE attrelid = '\"LiteLLM_BudgetTable\"'::regclass AND attname = 'max_budget'"
    assert len(rows(database, column)) == 1
    assert prisma("migrate", "status", "--schema", str(tmp_path / "extras"), url=url_of(database)).code == 0


def test_litellms_second_resolver_records_what_it_has_verified(
    empty_database: Database, tmp_path: Path, on_path: Path
) -> None:
    assert prisma("db", "push", url=url_of(empty_database)).code == 0
    told = set_up(PINNED, url_of(empty_database), tmp_path, on_path, v2=True)
    assert f"adopted {len(MIGRATIONS)} packaged migrations as a baseline" in told
    assert prisma("migrate", "status", url=url_of(empty_database)).code == 0


@pytest.mark.parametrize("v2", [False, True])
def test_litellm_goes_on_after_a_failed_migration(
    migrated: Database, tmp_path: Path, on_path: Path, *, v2: bool
) -> None:
    """The first resolver minds no column that is already there; the second one stops at it."""
    write(tmp_path / "extras", "99991231000000_newer", 'ALTER TABLE "LiteLLM_BudgetTable" ADD COLUMN "max_budget" INT')
    url = url_of(migrated)
    if v2:
        with pytest.raises(AssertionError, match="Manual intervention required"):
            set_up(PINNED, url, tmp_path, on_path, v2=True)
        assert [row["migration_name"] for row in rows(migrated) if row["logs"]] == ["99991231000000_newer"]
    else:
        set_up(PINNED, url, tmp_path, on_path)
        assert prisma("migrate", "status", "--schema", str(tmp_path / "extras"), url=url).code == 0


def test_litellm_pushes(empty_database: Database, tmp_path: Path, on_path: Path) -> None:
    set_up(PINNED, url_of(empty_database), tmp_path, on_path, migrate=False)
    assert "is already in sync" in prisma("db", "push", url=url_of(empty_database)).stdout
