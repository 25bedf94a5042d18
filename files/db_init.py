"""Create the ledger's tables, or bring them to this release's newest revision.

Runs with the Python of an installed release, as the role that owns the tables:

    /opt/litellm/current/bin/python db_init.py --host 192.168.10.19 --user litellm_owner < password-file

The password is the first line of standard input, never an argument. Everything is one transaction under a lock: a
failure leaves the tables as they were, and two runs at a time come one after the other. Standard output is JSON:

    {"changed": true, "revision_before": null, "revision_after": "0001", "head": "0001", "at_head": true,
     "tables": {"requests": ["requests_default"], "responses": ["responses_default"]}}

(`tables` has the partitions of each). Exit codes:

    0  the tables are at the newest revision, or --sql has printed it
    2  wrong arguments
    3  --check: the tables are not at the newest revision
    4  no connection to the database
    5  connected, and the database refused, or it has a revision that this release does not know
"""

import argparse
import json
import sys
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from litellm_sqlalchemy.database import engine, explain_no_connection, one_line
from litellm_sqlalchemy.ledger.models import Base
from litellm_sqlalchemy.migrations import OPTIONS

NOT_AT_HEAD, NO_CONNECTION, REFUSED = 3, 4, 5
ADVISORY_LOCK = 0x6C65646765720001  # "ledger" and a number: one migration at a time in a database
LOCK_TIMEOUT_SECONDS = 60  # for the lock above, and for each table that somebody reads for too long

PARTITIONS = text(
    "SELECT relid::regclass::text FROM pg_partition_tree(CAST(:table AS regclass)) WHERE isleaf ORDER BY 1"
)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says.

    Args:
        arguments: Instead of the process's own.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    if options.sql:
        command.upgrade(_alembic(), "head", sql=True)
        return 0
    if options.host is None:
        print(
            "db_init.py: --host is missing: the address of PostgreSQL, for example 192.168.10.19",
            file=sys.stderr,
        )
        return 2
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        print(
            f"db_init.py: standard input is empty: its first line must be {options.user}'s password",
            file=sys.stderr,
        )
        return 2
    database = engine(
        host=options.host,
        port=options.port,
        database=options.database,
        user=options.user,
        password=password,
        sslmode=options.sslmode,
        application_name="db_init",
    )
    try:
        connection = database.connect()
    except DBAPIError as error:
        print(f"db_init.py: {explain_no_connection(error, database.url)}", file=sys.stderr)
        return NO_CONNECTION
    try:
        with connection, connection.begin():
            report = _check(connection) if options.check else _upgrade(connection)
    except (DBAPIError, UnknownRevisionError) as error:
        print(f"db_init.py: nothing is changed: {one_line(error)}", file=sys.stderr)
        return REFUSED
    finally:
        database.dispose()
    print(json.dumps(report))
    return 0 if report["at_head"] else NOT_AT_HEAD


class UnknownRevisionError(Exception):
    """The tables have a revision that is not among this release's: a newer release has been here."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="db_init.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", help="PostgreSQL's address")
    parser.add_argument("--port", type=int, default=5432, help="PostgreSQL's port (default: %(default)s)")
    parser.add_argument("--database", default="litellm_db", help="database (default: %(default)s)")
    parser.add_argument("--user", default="litellm_owner", help="role that owns the tables (default: %(default)s)")
    parser.add_argument(
        "--sslmode",
        default="require",
        choices=["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        help="libpq's sslmode (default: %(default)s)",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only say whether the tables are at the newest revision")
    only.add_argument("--sql", action="store_true", help="only print the DDL from nothing to there; no database needed")
    return parser


def _alembic(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "litellm_sqlalchemy:migrations")
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts=OPTIONS).get_current_revision()


def _check(connection: Connection) -> dict[str, Any]:
    revision = _revision(connection)
    return _report(connection, before=revision, after=revision)


def _upgrade(connection: Connection) -> dict[str, Any]:
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
    before = _revision(connection)
    script = ScriptDirectory.from_config(_alembic())
    if before is not None and before not in {revision.revision for revision in script.walk_revisions()}:
        raise UnknownRevisionError(
            f"the tables have revision {before}, which this release does not know (its newest is "
            f"{script.get_current_head()}). Deploy the release that made it, or a newer one"
        )
    if before != script.get_current_head():
        command.upgrade(_alembic(connection), "head")
    return _report(connection, before=before, after=_revision(connection))


def _report(connection: Connection, *, before: str | None, after: str | None) -> dict[str, Any]:
    head = ScriptDirectory.from_config(_alembic()).get_current_head()
    return {
        "changed": before != after,
        "revision_before": before,
        "revision_after": after,
        "head": head,
        "at_head": after == head,
        "tables": {
            name: list(connection.execute(PARTITIONS, {"table": name}).scalars())
            for name in Base.metadata.tables
            if connection.execute(text("SELECT to_regclass(:table)"), {"table": name}).scalar()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
