"""What `litellm-sqlalchemy doctor` looks at: whether LiteLLM finds here all that it needs to run without Prisma.

It looks, and changes nothing. Nothing that it says has a password or a URL in it.
"""

import asyncio
import contextlib
import importlib.metadata
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psycopg2
from sqlalchemy import exc

from litellm_sqlalchemy import litellm_tables
from litellm_sqlalchemy.prisma_client import connect, errors, litellm_schema, migrate
from litellm_sqlalchemy.prisma_client.client import Prisma
from litellm_sqlalchemy.prisma_client.database_url import ENCODE, EXAMPLE, DatabaseURL, DatabaseURLError, parse_url
from litellm_sqlalchemy.prisma_client.engine import driver_of
from litellm_sqlalchemy.prisma_client.pool import is_pooled
from litellm_sqlalchemy.prisma_client.raw_sql import Driver
from litellm_sqlalchemy.prisma_client.schema import Schema, SchemaError

RELEASES = ("1.83.0", "1.93.1", "1.106.2", "1.110.2")  # of LiteLLM, that the tests run
POSTGRESQL = (15, 17)  # the oldest and the newest version that the tests run
MAIN, REPLICA = "DATABASE_URL", "DATABASE_URL_READ_REPLICA"  # LiteLLM's variables
BASELINE = "0_init"  # LiteLLM records it, and has no migration of this name, where it found tables without a record
PACKAGES = ("sqlalchemy", "asyncpg", "psycopg", "psycopg2-binary")
PATIENCE_SECONDS = 60  # with a URL that says connect_timeout=0
NAMED = 3  # how many names a line has; the count says that there are more
REINSTALL = "install litellm-sqlalchemy anew: pip install --force-reinstall --no-deps litellm-sqlalchemy"
CURES: Mapping[str | None, str] = {
    "P1000": f"correct the user or the password in {{variable}}, or the role's password in PostgreSQL. {ENCODE}",
    "P1001": "what stands in brackets says why. See to it that PostgreSQL runs there and listens on that address, that "
    "host, port and options such as sslmode in {variable} are right, and that no firewall is in between",
    "P1003": "create the database (prisma migrate deploy does, if the role may), or correct its name in {variable}",
    "P1010": "see pg_hba.conf and whether the role may log in; sslmode=require in {variable}, if PostgreSQL wants TLS",
    "P2037": "have fewer clients, a smaller connection_limit in each {variable}, or a larger max_connections",
}
ANY_CURE = "see what PostgreSQL says in its log, and host, user, database and sslmode in {variable}"

FACTS = """
SELECT current_user, current_setting('server_version'), current_setting('server_version_num')::int / 10000,
       pg_is_in_recovery(),
       coalesce(has_schema_privilege(to_regnamespace(quote_ident(%(schema)s)), 'CREATE'),
                has_database_privilege(current_database(), 'CREATE'))
"""
TABLES = """
SELECT relname, has_table_privilege(oid, 'SELECT'),
       has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
  FROM pg_class
 WHERE relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND relname = ANY (%(tables)s) AND relkind IN ('r', 'p')
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one look.

    Attributes:
        level: Whether LiteLLM can run like this; of a warning, it can.
        what: What was looked at.
        found: What is there.
        cure: What to do about it; empty if nothing.
    """

    level: Literal["ok", "warning", "problem"]
    what: str
    found: str
    cure: str = ""

    def lines(self) -> str:
        """Write it for a person."""
        return f"{self.level:8} {self.what}: {self.found}" + (f"\n         cure: {self.cure}" if self.cure else "")


def examine(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at everything, one thing after the other.

    Args:
        environment: LiteLLM's variables.

    Yields:
        What was found, as soon as it is.
    """
    yield Finding("ok", "Python", f"{sys.version.split()[0]}, {sys.executable}")
    yield _prisma()
    yield _command()
    yield _release()
    schema = None
    try:
        schema = litellm_schema.schema()
        yield Finding("ok", "schema.prisma", f"{litellm_schema.path()}, {len(schema.models)} models")
    except litellm_schema.NotInstalledError:
        yield Finding("problem", "schema.prisma", "not there", "install litellm[proxy] into this environment")
    except (SchemaError, OSError, UnicodeDecodeError) as error:
        cure = f"install a release that is tested ({', '.join(RELEASES)}), or install LiteLLM anew"
        yield Finding("problem", "schema.prisma", f"{litellm_schema.path()} cannot be read: {error}", cure)
    try:
        driver = driver_of(environment)
    except errors.EngineError as error:
        yield Finding("problem", "driver", "PRISMA_CLIENT_DRIVER is neither of the two", str(error))
        return
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    yield Finding("ok", "driver", f"{driver} ({versions})")
    yield from _database(MAIN, environment, driver, schema)
    if REPLICA in environment:
        yield from _database(REPLICA, environment, driver, schema)


# --- what is installed ------------------------------------------------------------------------------------------


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _prisma() -> Finding:
    """Import it as LiteLLM does."""
    try:
        import prisma  # noqa: PLC0415 - whether that can be done is the question
    except ImportError as error:
        return Finding("problem", "prisma", "cannot be imported", f"{error}; or {REINSTALL}")
    place = prisma.__file__ or ", ".join(prisma.__path__)
    if vars(prisma).get("Prisma") is not Prisma:
        cure = f"remove it from there, or its folder from PYTHONPATH; then {REINSTALL}"
        return Finding("problem", "prisma", f"not litellm-sqlalchemy's but {place}", cure)
    release = _version("litellm-sqlalchemy") or "run from its sources"
    return Finding("ok", "prisma", f"litellm-sqlalchemy {release}, {place}")


def _command() -> Finding:
    """Look at what LiteLLM migrates by; it is not run, as the genuine one would download what it lacks."""
    what, beside = "prisma command", Path(sys.executable).parent
    found = shutil.which("prisma")
    if found is None:
        if _runs_module():
            return Finding("ok", what, "none on the PATH: LiteLLM runs python -m prisma")
        cure = f"put {beside} on the PATH of LiteLLM: this release starts without migrating otherwise"
        return Finding("problem", what, "none on the PATH", cure)
    if b"litellm_sqlalchemy" not in Path(found).read_bytes()[:10_000]:
        return Finding("problem", what, f"not litellm-sqlalchemy's but {found}", f"put {beside} before it on the PATH")
    if Path(found).parent.resolve() != beside.resolve():
        cure = f"put {beside} before it on the PATH"
        return Finding("warning", what, f"{found}, which is another environment's", cure)
    return Finding("ok", what, found)


def _runs_module() -> bool:
    """Say whether LiteLLM's own command does without that of Prisma: older ones look for it on the PATH alone."""
    spec = find_spec("litellm")
    files = [Path(place, "proxy/proxy_cli.py") for place in (spec.submodule_search_locations if spec else None) or ()]
    return any(b"prisma_toolchain" in file.read_bytes() for file in files if file.is_file())


def _release() -> Finding:
    release = _version("litellm")
    tested = f"tested are {', '.join(RELEASES)}"
    if release is None:
        return Finding("problem", "LiteLLM", "not installed", f"install litellm[proxy]; {tested}")
    if release not in RELEASES:
        cure = "try it on a copy of your database first (make try-litellm, in the checkout), or install one that is"
        return Finding("warning", "LiteLLM", f"{release} is not tested; {tested}", cure)
    return Finding("ok", "LiteLLM", f"{release}, which is tested")


# --- the database -----------------------------------------------------------------------------------------------


def _database(
    variable: str, environment: Mapping[str, str], driver: Driver, schema: Schema | None
) -> Iterator[Finding]:
    of = "" if variable == MAIN else " of the read replica"
    if not environment.get(variable):
        yield Finding("problem", variable, "not set", f"set it as LiteLLM has it; its form is {EXAMPLE}")
        return
    try:
        url = parse_url(environment[variable])
    except DatabaseURLError as error:
        yield Finding("problem", variable, f"{error.code}, it is malformed", str(error))
        return
    where = f'database "{url.database}", schema "{url.schema}" at {connect.server(url)}'
    yield Finding("ok", variable, where)
    try:
        pooled = asyncio.run(asyncio.wait_for(is_pooled(url, driver), PATIENCE_SECONDS))
    except DatabaseURLError as error:
        yield Finding("problem", variable, f"{error.code}, it cannot be used", str(error))
        return
    except (exc.SQLAlchemyError, OSError) as error:
        yield _no_connection(error, url, variable, f"connection{of}")
        return
    except ValueError:  # a driver's, which may have a piece of the URL in it
        yield Finding("problem", variable, f"{driver} cannot use it", f"see its host. {ENCODE}")
        return
    try:
        with contextlib.closing(migrate.connect(url)) as connection:
            yield from _look(connection, url, schema, is_replica=bool(of), pooled=pooled)
    except migrate.MigrateError as error:
        yield Finding("problem", f"migrations{of}", f"{error.code or 'no code'}, psycopg2 cannot connect", str(error))
    except psycopg2.Error as error:
        cure = "see what PostgreSQL says in its log, and try again"
        yield Finding("problem", f"connection{of}", f"lost: {' '.join(str(error).split())}", cure)


def _no_connection(error: Exception, url: DatabaseURL, variable: str, what: str) -> Finding:
    """Tell as LiteLLM would be told."""
    fault = errors.DatabaseFault(error)
    away = errors.of_connection(fault, connect.server(url))
    code = getattr(away, "code", None)
    told = " ".join(str(away or fault.message).split())
    return Finding(
        "problem", what, f"{code or fault.sqlstate} {told}", CURES.get(code, ANY_CURE).replace("{variable}", variable)
    )


def _look(
    connection: migrate.Connection, url: DatabaseURL, schema: Schema | None, *, is_replica: bool, pooled: bool
) -> Iterator[Finding]:
    of = " of the read replica" if is_replica else ""
    with connection.cursor() as cursor:
        cursor.execute(FACTS, {"schema": url.schema})
        ((role, version, major, is_standby, may_create),) = cursor.fetchall()
    state = "a standby" if is_standby else "no standby"
    yield Finding("ok", f"connection{of}", f"as {role}" + (f", to {state}" if is_replica or is_standby else ""))
    oldest, newest = POSTGRESQL
    if oldest <= major <= newest:
        yield Finding("ok", f"PostgreSQL{of}", version)
    else:
        cure = f"use one from {oldest} to {newest}, or try it on a copy of your database first"
        yield Finding("warning", f"PostgreSQL{of}", f"{version} is not tested", cure)
    yield _pooler(url, f"pooler{of}", pooled=pooled)
    if is_replica:
        if schema is not None:
            yield _tables(connection, url, schema, is_replica=True, is_pending=False)
        return
    if is_standby:
        cure = f"name the primary in {MAIN} (with several hosts: target_session_attrs=read-write)"
        yield Finding("problem", "primary", "this is a standby, which takes no writes", cure)
    if may_create:
        yield Finding("ok", "schema", f"{role} may make tables: LiteLLM may migrate when it starts")
    else:
        yield Finding("ok", "schema", f"{role} may make no tables, as is right where another role migrates")
    migrations = _migrations(connection, role, may_create=may_create)
    yield migrations
    if schema is not None:
        yield _tables(connection, url, schema, is_replica=False, is_pending=migrations.level != "ok")


def _pooler(url: DatabaseURL, what: str, *, pooled: bool) -> Finding:
    if not pooled:
        told = "none noticed" + (", although the URL says pgbouncer=true" if url.pgbouncer else "")
        return Finding("ok", what, told)
    if url.pgbouncer is None:
        cure = "write pgbouncer=true into it, or false if clients have sessions of their own there"
        return Finding("warning", what, "there is one, and the URL does not say so", cure)
    return Finding("ok", what, f"there is one, and the URL says pgbouncer={str(url.pgbouncer).lower()}")


def _migrations(connection: migrate.Connection, role: str, *, may_create: bool) -> Finding:
    what = "migrations"
    try:
        known = litellm_tables.migrations()
        found = migrate.status(connection, known)
        changed = migrate.changed(connection, known)
    except migrate.MigrateError as error:
        return Finding("problem", what, "LiteLLM's own cannot be read", str(error))
    except psycopg2.errors.InsufficientPrivilege:
        cure = f"GRANT SELECT ON _prisma_migrations TO {role}"
        return Finding("problem", what, f"{role} may not read _prisma_migrations", cure)
    problem = _unfinished(found, len(known), role, may_create=may_create)
    return problem or _different(found, changed) or Finding("ok", what, f"all {len(known)} applied")


def _unfinished(found: migrate.Status, number: int, role: str, *, may_create: bool) -> Finding | None:
    what = "migrations"
    if found.failed:
        cure = (
            "find out how far they came (column logs of _prisma_migrations); either undo that and run prisma migrate "
            "resolve --rolled-back NAME, or do the rest and run prisma migrate resolve --applied NAME; then prisma "
            "migrate deploy"
        )
        return Finding("problem", what, f"{_names(found.failed)} failed, and none after it is applied", cure)
    if found.pending:
        told = f"{len(found.pending)} of {number} pending, the first is {found.pending[0]}"
        if may_create:
            return Finding("warning", what, told, "LiteLLM applies them when it starts; or run prisma migrate deploy")
        cure = f"run prisma migrate deploy as the tables' owner, or site.yml if Ansible made this host: {role} may not"
        return Finding("problem", what, told, cure)
    return None


def _different(found: migrate.Status, changed: tuple[str, ...]) -> Finding | None:
    what = "migrations"
    if unknown := [name for name in found.unknown if name != BASELINE]:
        cure = "install the LiteLLM that made them, or a newer one; an older one may not know what they did"
        return Finding("warning", what, f"the database has {_names(unknown)}, which this LiteLLM has not", cure)
    if changed:
        cure = "none needed if a release of LiteLLM has changed its file: no migration is applied again"
        return Finding("warning", what, f"{_names(changed)}: not what was applied (another checksum)", cure)
    return None


def _names(names: tuple[str, ...] | list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _tables(
    connection: migrate.Connection, url: DatabaseURL, schema: Schema, *, is_replica: bool, is_pending: bool
) -> Finding:
    what, may, rights = "tables", "read and written", "SELECT, INSERT, UPDATE, DELETE"
    if is_replica:
        what, may, rights = "tables of the read replica", "read", "SELECT"
    wanted = sorted({model.table for model in schema.models.values()})
    with connection.cursor() as cursor:
        cursor.execute(TABLES, {"schema": url.schema, "tables": wanted})
        found = {name: may_read and (may_write or is_replica) for name, may_read, may_write in cursor}
    refused = [name for name in wanted if not found.get(name, True)]
    missing = [name for name in wanted if name not in found]
    if refused:
        cure = f'GRANT {rights} ON ALL TABLES IN SCHEMA "{url.schema}" TO the role, as the tables\' owner'
        return Finding("problem", what, f"{len(refused)} of {len(wanted)} may not be {may}: {_names(refused)}", cure)
    if missing:
        told = f"{len(missing)} of {len(wanted)} are not there: {_names(missing)}"
        if is_pending:
            return Finding("warning", what, told, "see migrations, which make them")
        cure = "see whether the URL names the right database and schema; a table that was dropped is in your backup"
        return Finding("problem", what, told, cure)
    return Finding("ok", what, f"all {len(wanted)} of LiteLLM's may be {may}")
