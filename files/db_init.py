"""Create the ledger's tables, or bring them to this release's newest revision.

Runs with the Python of an installed release, as the role that owns the tables:

    /opt/litellm/current/bin/python db_init.py --host 192.168.10.19 --user litellm_owner < password-file

The password is the first line of standard input, never an argument. Everything is one transaction under a lock: a
failure leaves the tables as they were, and two runs at a time come one after the other. Standard output is JSON:

    {"changed": true, "revision_before": null, "revision_after": "0003", "head": "0003", "at_head": true,
     "retention_days_before": 0, "retention_days_after": 30,
     "tables": {"requests": ["requests_default", "requests_p20260101", ...], "responses": [...], "usages": [...]}}

(`tables` has the partitions of each: a day each, and one for what belongs to none). Exit codes:

    0  the tables are at the newest revision and keep their rows as long as they should, or --sql has printed it
    2  wrong arguments
    3  --check: the tables are not at the newest revision, or keep their rows for another time
    4  no connection to the database
    5  connected, and the database refused, or it has a revision that this release does not know
"""

import argparse
import json
import sys
from dataclasses import dataclass
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
from litellm_sqlalchemy.tls import add_tls_arguments, tls_of

DIFFERENT, NO_CONNECTION, REFUSED = 3, 4, 5
LONGEST_RETENTION_DAYS = 36_500
ADVISORY_LOCK = 0x6C65646765720001  # "ledger" and a number: one migration at a time in a database
LOCK_TIMEOUT_SECONDS = 60  # for the lock above, and for each table that somebody reads for too long

RETENTION = text("""
SELECT DISTINCT coalesce(extract(day FROM retention::interval), 0)::int FROM partman.part_config
 WHERE parent_table = ANY(:tables)
""")
SET_RETENTION = text("""
UPDATE partman.part_config SET retention = CASE WHEN :days > 0 THEN :days || ' days' END
 WHERE parent_table = ANY(:tables)
""")
PARTITIONED = {"tables": [f"public.{name}" for name in Base.metadata.tables]}
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
        tls=tls_of(options),
        application_name="db_init",
    )
    try:
        connection = database.connect()
    except DBAPIError as error:
        print(f"db_init.py: {explain_no_connection(error, database.url)}", file=sys.stderr)
        return NO_CONNECTION
    try:
        with connection, connection.begin():
            report = _check(connection) if options.check else _upgrade(connection, options.retention_days)
    except (DBAPIError, UnknownRevisionError) as error:
        print(f"db_init.py: nothing is changed: {one_line(error)}", file=sys.stderr)
        return REFUSED
    finally:
        database.dispose()
    print(json.dumps(report))
    return 0 if report["at_head"] and report["retention_days_after"] == options.retention_days else DIFFERENT


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
    add_tls_arguments(parser)
    parser.add_argument(
        "--retention-days",
        type=_days,
        default=0,
        metavar="N",
        help="days after which a day's rows are dropped by drop_days(); 0: never (default: %(default)s)",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only say whether the tables are as they should be")
    only.add_argument("--sql", action="store_true", help="only print the DDL from nothing to there; no database needed")
    return parser


def _days(argument: str) -> int:
    days = int(argument) if argument.isascii() and argument.isdigit() else -1
    if not 0 <= days <= LONGEST_RETENTION_DAYS:
        raise argparse.ArgumentTypeError(
            f"{argument!r} is no number of days from 0 (keep all) to {LONGEST_RETENTION_DAYS}"
        )
    return days


def _alembic(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "litellm_sqlalchemy:migrations")
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts=OPTIONS).get_current_revision()


def _retention_days(connection: Connection) -> int | None:
    """Read the days that rows are kept, 0 for ever; None if the tables have no such setting yet, or not the same."""
    if not connection.execute(text("SELECT to_regclass('partman.part_config')")).scalar():
        return None
    days = list(connection.execute(RETENTION, PARTITIONED).scalars())
    return days[0] if len(days) == 1 else None


def _check(connection: Connection) -> dict[str, Any]:
    found = _state(connection)
    return _report(connection, before=found, after=found)


def _upgrade(connection: Connection, retention_days: int) -> dict[str, Any]:
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
    before = _state(connection)
    script = ScriptDirectory.from_config(_alembic())
    if before.revision is not None and before.revision not in {known.revision for known in script.walk_revisions()}:
        raise UnknownRevisionError(
            f"the tables have revision {before.revision}, which this release does not know (its newest is "
            f"{script.get_current_head()}). Deploy the release that made it, or a newer one"
        )
    if before.revision != script.get_current_head():
        command.upgrade(_alembic(connection), "head")
    if _retention_days(connection) != retention_days:
        connection.execute(SET_RETENTION, {"days": retention_days, **PARTITIONED})
    return _report(connection, before=before, after=_state(connection))


@dataclass(frozen=True)
class _State:
    revision: str | None
    retention_days: int | None


def _state(connection: Connection) -> _State:
    return _State(_revision(connection), _retention_days(connection))


def _report(connection: Connection, *, before: _State, after: _State) -> dict[str, Any]:
    head = ScriptDirectory.from_config(_alembic()).get_current_head()
    return {
        "changed": before != after,
        "revision_before": before.revision,
        "revision_after": after.revision,
        "head": head,
        "at_head": after.revision == head,
        "retention_days_before": before.retention_days,
        "retention_days_after": after.retention_days,
        "tables": {
            name: list(connection.execute(PARTITIONS, {"table": name}).scalars())
            for name in Base.metadata.tables
            if connection.execute(text("SELECT to_regclass(:table)"), {"table": name}).scalar()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
