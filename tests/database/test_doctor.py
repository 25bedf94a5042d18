"""`litellm-sqlalchemy doctor` on real databases that lack one thing each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from litellm_sqlalchemy import doctor
from litellm_sqlalchemy.cli import app
from tests.fix_pgbouncer import running_pgbouncer
from tests.fix_postgres import (
    APPLICATION_PASSWORD,
    READER_PASSWORD,
    SUPERUSER_PASSWORD,
    VERSIONS,
    Cluster,
    Database,
    bring_privileges_into_force,
    running_standby,
)
from tests.fix_prisma import MIGRATIONS, SECRETS, Done, execute, url_of
from tests.gateway.fix_litellm import CHECKOUT, NEWEST, OLDER, WITH_NEWEST, interpreter
from tests.ports import free_port

NOWHERE = "postgresql://ann:the-secret@127.0.0.1:1/any"
LAST = MIGRATIONS[-1].parent.name
BASH = "/usr/bin:/bin"


def run(url: str | None, *options: str, **environment: str) -> Done:
    """Run it; whatever it says has no secret."""
    variables: dict[str, str | None] = {"DATABASE_URL": url, "DATABASE_URL_READ_REPLICA": None, "PATH": BASH}
    done = CliRunner().invoke(app, ["doctor", *options], env=variables | environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    for secret in (*SECRETS, READER_PASSWORD, "the-secret"):
        assert secret not in done.output
    return Done(done.exit_code, done.stdout, done.stderr)


def levels(done: Done) -> dict[str, str]:
    """Level by what was looked at, of all that is not well; each problem has its cure."""
    lines = done.stdout.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        assert not line.startswith("problem") or following.startswith("         cure: "), line
    found = [line.split(maxsplit=1) for line in lines if not line.startswith(" ")]
    assert done.code == int("problem" in {level for level, _ in found})
    return {rest.partition(":")[0]: level for level, rest in found if level != "ok"}


def of_last(database: Database, setting: str) -> None:
    """Change the record of the last migration."""
    execute(database, f"UPDATE _prisma_migrations SET {setting} WHERE migration_name = '{LAST}'")  # noqa: S608


def as_application(database: Database, options: str = "") -> str:
    return url_of(database, options, "litellm_a", APPLICATION_PASSWORD)


# --- the database -----------------------------------------------------------------------------------------------


def test_all_is_well(migrated: Database, driver: str) -> None:
    done = run(url_of(migrated))
    assert levels(done) == {}, done.stdout
    assert [line.split(":")[0].split(maxsplit=1)[1] for line in done.stdout.splitlines()] == [
        *("Python", "prisma", "prisma command", "LiteLLM", "schema.prisma", "driver"),
        *("DATABASE_URL", "connection", "PostgreSQL", "pooler", "schema", "migrations", "tables"),
    ]
    assert f"ok       driver: {driver} (" in done.stdout
    assert f'ok       DATABASE_URL: database "{migrated.name}", schema "public" at 127.0.0.1:' in done.stdout
    assert f"ok       migrations: all {len(MIGRATIONS)} applied\n" in done.stdout
    assert "ok       schema: litellm_owner may make tables" in done.stdout
    assert "of LiteLLM's may be read and written\n" in done.stdout


def test_what_runs_the_gateway_may_make_no_table(migrated: Database, driver: str) -> None:
    del driver
    bring_privileges_into_force(migrated.cluster, migrated.name)
    done = run(as_application(migrated))
    assert levels(done) == {}
    assert "ok       schema: litellm_a may make no tables, as is right" in done.stdout


@pytest.mark.parametrize("password", ["not-the-secret", ""])
def test_a_wrong_password(migrated: Database, driver: str, password: str) -> None:
    del driver
    done = run(url_of(migrated, password=password))
    assert levels(done) == {"connection": "problem"}
    assert "connection: P1000 " in done.stdout
    assert "cure: correct the user or the password in DATABASE_URL" in done.stdout


def test_the_database_is_away(driver: str) -> None:
    del driver
    done = run(f"postgresql://ann:the-secret@127.0.0.1:{free_port()}/any")
    assert levels(done) == {"connection": "problem"}
    assert "connection: P1001 " in done.stdout
    assert "cure: what stands in brackets says why. See to it that PostgreSQL runs there" in done.stdout


def test_no_such_database(cluster: Cluster, driver: str) -> None:
    del driver
    done = run(url_of(Database(cluster, "nowhere")))
    assert levels(done) == {"connection": "problem"}
    assert "connection: P1003 " in done.stdout


def test_a_role_that_may_not_log_in(migrated: Database, driver: str) -> None:
    execute(migrated, f"CREATE ROLE silent_{driver} PASSWORD 'the-secret'")
    done = run(url_of(migrated, user=f"silent_{driver}", password="the-secret"))
    assert levels(done) == {"connection": "problem"}
    assert "connection: P1010 " in done.stdout
    assert "cure: see pg_hba.conf" in done.stdout


def test_nothing_is_migrated_yet(empty_database: Database) -> None:
    owner = run(url_of(empty_database))
    assert levels(owner) == {"migrations": "warning", "tables": "warning"}
    assert f"{len(MIGRATIONS)} of {len(MIGRATIONS)} pending, the first is {MIGRATIONS[0].parent.name}" in owner.stdout
    assert "cure: LiteLLM applies them when it starts" in owner.stdout
    application = run(as_application(empty_database))
    assert levels(application) == {"migrations": "problem", "tables": "warning"}
    assert "cure: run prisma migrate deploy as the tables' owner" in application.stdout


def test_a_migration_has_failed(migrated: Database) -> None:
    of_last(migrated, "finished_at = NULL")
    done = run(url_of(migrated))
    assert levels(done) == {"migrations": "problem"}
    assert f"migrations: {LAST} failed" in done.stdout
    assert "prisma migrate resolve --rolled-back NAME" in done.stdout


def test_the_database_is_of_a_newer_litellm(migrated: Database) -> None:
    execute(migrated, "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('1', '', '9_newer')")
    execute(migrated, "UPDATE _prisma_migrations SET finished_at = now() WHERE id = '1'")
    done = run(url_of(migrated))
    assert levels(done) == {"migrations": "warning"}
    assert "migrations: the database has 9_newer, which" in done.stdout
    # This one LiteLLM makes, where it has found tables without a record.
    execute(migrated, "UPDATE _prisma_migrations SET migration_name = '0_init' WHERE id = '1'")
    assert levels(run(url_of(migrated))) == {}


def test_a_migration_is_not_what_was_applied(migrated: Database) -> None:
    of_last(migrated, "checksum = 'another'")
    done = run(url_of(migrated))
    assert levels(done) == {"migrations": "warning"}
    assert f"migrations: {LAST}: not what was applied (another checksum)" in done.stdout


def test_tables_that_may_not_be_read(migrated: Database) -> None:
    bring_privileges_into_force(migrated.cluster, migrated.name)
    execute(migrated, 'REVOKE SELECT ON "LiteLLM_UserTable", _prisma_migrations FROM litellm')
    done = run(as_application(migrated))
    assert levels(done) == {"migrations": "problem", "tables": "problem"}
    assert "cure: GRANT SELECT ON _prisma_migrations TO litellm_a" in done.stdout
    assert "may not be read and written: LiteLLM_UserTable\n" in done.stdout


def test_a_table_that_somebody_dropped(migrated: Database) -> None:
    execute(migrated, 'DROP TABLE "LiteLLM_UserNotifications"')
    done = run(url_of(migrated))
    assert levels(done) == {"tables": "problem"}
    assert "are not there: LiteLLM_UserNotifications\n" in done.stdout


def test_a_pooler_that_the_url_does_not_name(migrated: Database, driver: str) -> None:
    del driver
    with running_pgbouncer(migrated.cluster) as pooled:
        url = f"postgresql://postgres:{SUPERUSER_PASSWORD}@{pooled.host}:{pooled.port}/{migrated.name}"
        unsaid, said = run(url), run(f"{url}?pgbouncer=true")
    assert levels(unsaid) == {"pooler": "warning"}
    assert "cure: write pgbouncer=true into it" in unsaid.stdout
    assert levels(said) == {}


def test_a_read_replica(migrated: Database) -> None:
    bring_privileges_into_force(migrated.cluster, migrated.name)
    done = run(as_application(migrated), DATABASE_URL_READ_REPLICA=as_application(migrated))
    assert levels(done) == {}
    assert "ok       connection of the read replica: as litellm_a, to no standby\n" in done.stdout
    assert "of LiteLLM's may be read\n" in done.stdout
    # Who reads the ledger reads nothing of LiteLLM's.
    reader = url_of(migrated, user="litellm_reader_a", password=READER_PASSWORD)
    assert levels(run(as_application(migrated), DATABASE_URL_READ_REPLICA=reader)) == {
        "tables of the read replica": "problem"
    }
    away = run(as_application(migrated), DATABASE_URL_READ_REPLICA=NOWHERE)
    assert levels(away) == {"connection of the read replica": "problem"}
    assert "options such as sslmode in DATABASE_URL_READ_REPLICA are right" in away.stdout


def test_a_standby_is_no_primary(migrated: Database) -> None:
    with running_standby(migrated.cluster, {"fsync": "off"}) as standby:
        url = url_of(Database(standby, migrated.name))
        primary = run(url)
        replica = run(url_of(migrated), DATABASE_URL_READ_REPLICA=url)
    assert levels(primary) == {"primary": "problem"}
    assert levels(replica) == {}
    assert "connection of the read replica: as litellm_owner, to a standby\n" in replica.stdout


def test_a_version_of_postgresql_that_is_not_tested(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.POSTGRESQL == VERSIONS
    monkeypatch.setattr(doctor, "POSTGRESQL", (18, 19))
    assert levels(run(url_of(migrated))) == {"PostgreSQL": "warning"}


# --- the URL ----------------------------------------------------------------------------------------------------


def test_no_url() -> None:
    assert levels(run(None)) == {"DATABASE_URL": "problem"}


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ann:the-secret@host/any",
        "the-secret",
        "postgresql://ann:the-secret#@host/any",
        "postgresql://ann:/the-secret@host/any",
        "postgresql://ann:?the-secret@host/any",
        "postgresql://ann:the-secret@host:port/any",
        "postgresql://ann:the-secret",
        '"postgresql://ann:the-secret@host/any"',
        "postgresql://ann:the-secret@$HOST/any",
        "postgresql://ann:the-secret@host/any?connection_limit=the-secret",
        f"postgresql://ann:the-secret@{'host' * 16}.example/any",
        "postgresql://ann@host/any?sslidentity=/nowhere&sslpassword=the-secret",
    ],
)
def test_a_malformed_url(url: str, driver: str) -> None:
    del driver
    assert levels(run(url)) == {"DATABASE_URL": "problem"}


def test_a_password_that_is_not_encoded_is_not_told_by_the_driver(cluster: Cluster, driver: str) -> None:
    del driver
    url = f"postgresql://litellm:the-secret and more%zz@{cluster.host}:{cluster.port}/postgres"
    assert levels(run(url)) == {"connection": "problem"}


def test_no_such_driver() -> None:
    done = run(NOWHERE, PRISMA_CLIENT_DRIVER="pg8000")
    assert levels(done) == {"driver": "problem"}
    assert "cure: PRISMA_CLIENT_DRIVER must be asyncpg or psycopg" in done.stdout


# --- what is installed ------------------------------------------------------------------------------------------


def test_as_json() -> None:
    done = run(None, "--json")
    *others, last = json.loads(done.stdout)
    assert done.code == 1
    assert {finding["level"] for finding in others} == {"ok"}
    assert (last["level"], last["what"], last["found"]) == ("problem", "DATABASE_URL", "not set")
    assert last["cure"].startswith("set it as LiteLLM has it")


def test_the_tested_releases_are_the_tests() -> None:
    assert doctor.RELEASES == WITH_NEWEST
    counted = json.loads((CHECKOUT / "findings/releases.json").read_text())
    assert {row["release"] for row in counted} <= {*doctor.RELEASES}


def test_a_release_of_litellm_that_is_not_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "litellm-9.9.9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: litellm\nVersion: 9.9.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = run(None)
    assert levels(done) == {"LiteLLM": "warning", "DATABASE_URL": "problem"}
    assert f"LiteLLM: 9.9.9 is not tested; tested are {', '.join(WITH_NEWEST)}" in done.stdout


def in_a_process(*paths: Path, python: str = sys.executable) -> Done:
    """Run it where these folders come before, and after, the environment's."""
    before, after = [[str(path)] for path in paths] or [[], []]
    call = "from litellm_sqlalchemy.cli import app; app(['doctor'])"
    program = f"import sys; sys.path[:0] = {before}; sys.path += {after}; {call}"
    done = subprocess.run([python, "-c", program], env={"PATH": BASH}, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def test_genuine_prisma_beside(tmp_path: Path) -> None:
    metadata = tmp_path / "prisma-0.15.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: prisma\nVersion: 0.15.0\n")
    done = in_a_process(tmp_path / "nothing", tmp_path)
    assert levels(done) == {"prisma": "problem", "DATABASE_URL": "problem"}
    assert "cure: prisma (prisma-client-py 0.15.0) is installed beside" in done.stdout
    assert "pip uninstall prisma" in done.stdout


def test_another_prisma_before_ours(tmp_path: Path) -> None:
    file = tmp_path / "prisma/__init__.py"
    file.parent.mkdir()
    file.write_text("class Prisma: pass")
    done = in_a_process(tmp_path, tmp_path / "nothing")
    assert levels(done) == {"prisma": "problem", "DATABASE_URL": "problem"}
    assert f"prisma: not litellm-sqlalchemy's but {file}" in done.stdout


def test_another_command_before_ours(tmp_path: Path) -> None:
    script = tmp_path / "prisma"
    script.write_text("#!/usr/bin/env node\n")
    script.chmod(0o755)
    done = run(None, PATH=f"{tmp_path}:{BASH}")
    assert levels(done) == {"prisma command": "problem", "DATABASE_URL": "problem"}
    assert f"prisma command: not litellm-sqlalchemy's but {script}" in done.stdout
    script.write_text("#!/bin/python3\nfrom litellm_sqlalchemy.prisma_client.command_line import main\n")
    assert levels(run(None, PATH=f"{tmp_path}:{BASH}"))["prisma command"] == "warning"


@pytest.mark.parametrize(("release", "problems"), [(OLDER[0], {"prisma command": "problem"}), (NEWEST, {})])
def test_an_older_release_needs_the_command(release: str, problems: dict[str, str]) -> None:
    done = in_a_process(python=interpreter(release))
    assert levels(done) == problems | {"DATABASE_URL": "problem"}
    assert f"LiteLLM: {release}, which is tested" in done.stdout
