"""Create LiteLLM's own tables, or bring them to the release's newest migration; and its views.

Runs with the Python of an installed release, as the role that owns the tables; what runs the gateway may not do this:

    /opt/litellm/current/bin/python -I -m litellm_sqlalchemy.litellm_tables --host 192.168.10.19 < password-file

The password is the first line of standard input, never an argument. The migrations are LiteLLM's, each in a
transaction of its own, recorded in `_prisma_migrations` as Prisma does it. Standard output is JSON:

    {"changed": true, "applied": ["20250326162113_baseline", ...], "pending": [], "views_missing": []}

Exit codes:

    0  all migrations are applied, and all views are there
    2  wrong arguments
    3  --check: something is pending or missing
    4  no connection to the database
    5  connected, and a migration failed, or the database is not one to migrate: standard error says what to do
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2.errors

from litellm_sqlalchemy.prisma_client import litellm_schema, migrate
from litellm_sqlalchemy.prisma_client.database_url import DatabaseURL
from litellm_sqlalchemy.prisma_client.errors import PrismaError
from litellm_sqlalchemy.tls import add_tls_arguments, tls_of

DIFFERENT, NO_CONNECTION, REFUSED = 3, 4, 5
NO_CONNECTION_CODES = frozenset({"P1000", "P1001", "P1003", "P1010", "P1011"})
# What LiteLLM looks for when it starts, and makes if it may: PrismaClient.check_view_exists.
VIEWS = (
    "DailyTagSpend",
    "Last30dKeysBySpend",
    "Last30dModelsBySpend",
    "Last30dTopEndUsersSpend",
    "LiteLLM_VerificationTokenView",
    "MonthlyGlobalSpend",
    "MonthlyGlobalSpendPerKey",
    "MonthlyGlobalSpendPerUserPerKey",
)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says.

    Args:
        arguments: Instead of the process's own.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        print(f"standard input is empty: its first line must be {options.user}'s password", file=sys.stderr)  # noqa: T201
        return 2
    tls = tls_of(options)
    url = DatabaseURL(
        hosts=((options.host, options.port),),
        user=options.user,
        password=password,
        database=options.database,
        sslmode=tls.sslmode,
        sslrootcert=tls.sslrootcert or None,
        sslcert=tls.sslcert or None,
        sslkey=tls.sslkey or None,
        channel_binding=tls.channel_binding,
        application_name="litellm_tables",
    )
    try:
        report = state(url) if options.check else upgrade(url)
    except (migrate.MigrateError, PrismaError) as error:
        print(f"{getattr(error, 'code', None) or ''} {error}".strip(), file=sys.stderr)  # noqa: T201
        return NO_CONNECTION if getattr(error, "code", None) in NO_CONNECTION_CODES else REFUSED
    print(json.dumps(report))  # noqa: T201
    return DIFFERENT if report["pending"] or report["views_missing"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m litellm_sqlalchemy.litellm_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", required=True, help="PostgreSQL's address")
    parser.add_argument("--port", type=int, default=5432, help="PostgreSQL's port (default: %(default)s)")
    parser.add_argument("--database", default="litellm_db", help="database (default: %(default)s)")
    parser.add_argument("--user", default="litellm_owner", help="role that owns the tables (default: %(default)s)")
    add_tls_arguments(parser)
    parser.add_argument("--check", action="store_true", help="only say what is pending")
    return parser


def migrations() -> tuple[migrate.Migration, ...]:
    """List those of the LiteLLM that is installed, in order.

    Raises:
        MigrateError: There is none.
    """
    spec = find_spec("litellm_proxy_extras")
    places = (spec.submodule_search_locations or []) if spec else []
    known = migrate.migrations(Path(places[0], "migrations")) if places else ()
    if not known:
        raise migrate.MigrateError("LiteLLM's migrations are not there: install litellm[proxy] into this environment")
    return known


def state(url: DatabaseURL) -> dict[str, Any]:
    """Say what is pending.

    Args:
        url: The database, and the role that owns the tables.

    Raises:
        MigrateError: There is no connection.
    """
    with contextlib.closing(migrate.connect(url)) as connection:
        found = migrate.status(connection, migrations())
        pending = [*found.failed, *found.pending]
        return {"changed": False, "applied": [], "pending": pending, "views_missing": _views_missing(connection)}


def upgrade(url: DatabaseURL) -> dict[str, Any]:
    """Apply what is pending, and make the views that are missing.

    Args:
        url: The database, and the role that owns the tables.

    Raises:
        MigrateError: There is no connection, a migration fails or has failed, or LiteLLM's tables are there without a
            record of their migrations.
        PrismaError: A view cannot be made.
    """
    with contextlib.closing(migrate.connect(url)) as connection:
        try:
            applied = list(migrate.deploy(connection, url, migrations(), besides=_others(connection)))
        except psycopg2.errors.InsufficientPrivilege as error:
            raise migrate.denied(error, url) from None
        missing = _views_missing(connection)
        if missing:
            asyncio.run(_make_views(url))
        return {
            "changed": bool(applied or missing),
            "applied": applied,
            "pending": [],
            "views_missing": _views_missing(connection),
        }


def _others(connection: migrate.Connection) -> list[str]:
    """List the tables that are none of LiteLLM's: they do not make the database one that LiteLLM has used already."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
        found = {str(name) for (name,) in cursor}
    return sorted(found - {model.table for model in litellm_schema.schema().models.values()})


def _views_missing(connection: migrate.Connection) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT viewname FROM pg_views WHERE schemaname = 'public'")
        return sorted(set(VIEWS) - {str(name) for (name,) in cursor})


async def _make_views(url: DatabaseURL) -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # LiteLLM would ask the internet for prices when it is imported
    os.environ["PRISMA_CLIENT_DRIVER"] = "psycopg"  # which can bind the password's proof to the TLS connection
    # It takes seconds, and is seldom needed.
    from litellm.proxy.db.create_views import create_missing_views  # noqa: PLC0415

    from litellm_sqlalchemy.prisma_client.client import Prisma  # noqa: PLC0415

    client = Prisma(datasource={"url": url})
    await client.connect()
    try:
        await create_missing_views(client)
    finally:
        await client.disconnect()


if __name__ == "__main__":
    sys.exit(main())
