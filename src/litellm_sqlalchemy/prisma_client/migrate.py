"""What `prisma migrate` does to a database: its ledger `_prisma_migrations`, and the migrations' SQL.

The ledger is Prisma's own, row for row, so that a database can be taken over from it and handed back. Errors have
Prisma's codes (https://www.prisma.io/docs/orm/reference/error-reference), by which LiteLLM chooses how to go on.
"""

import contextlib
import hashlib
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from litellm_sqlalchemy.prisma_client.database_url import DatabaseURL

Connection = psycopg2.extensions.connection
LOCK = 72707369  # Prisma's; whoever migrates holds it
UNLOCKED = "PRISMA_SCHEMA_DISABLE_ADVISORY_LOCK"
LOCK_TIMEOUT = 10.0  # seconds; Prisma's, LiteLLM waits longer by trying again
LOCK_INTERVAL = 0.1  # seconds between attempts
LEDGER = """
CREATE TABLE _prisma_migrations (
    id varchar(36) PRIMARY KEY NOT NULL,
    checksum varchar(64) NOT NULL,
    finished_at timestamptz,
    migration_name varchar(255) NOT NULL,
    logs text,
    rolled_back_at timestamptz,
    started_at timestamptz NOT NULL DEFAULT now(),
    applied_steps_count integer NOT NULL DEFAULT 0
)
"""
PROVIDER = re.compile(r"""^\s*provider\s*=\s*["'](?P<name>\w+)["']""", re.MULTILINE)
RESOLVE = "https://www.prisma.io/docs/orm/prisma-migrate/workflows/patching-and-hotfixing"
BASELINE = "https://www.prisma.io/docs/orm/prisma-migrate/workflows/baselining"


class MigrateError(Exception):
    """What the command line says before it gives up.

    Attributes:
        code: Prisma's; None if it has none for that.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


# --- connections ------------------------------------------------------------------------------------------------


def connect(url: DatabaseURL, *, create: bool = False) -> Connection:
    """Connect as Prisma does: each statement is a transaction, and names are looked up in the URL's schema alone.

    Args:
        url: Where to.
        create: Whether to create the database and the schema if there are none.

    Raises:
        MigrateError: P1000, P1001, P1003, P1010 or P1011.
    """
    try:
        connection = _connect(url, url.database)
    except psycopg2.OperationalError as error:
        problem = _no_connection(error, url)
        if problem.code != "P1003" or not create:
            raise problem from None
        _create_database(url)
        connection = _connect(url, url.database)
    with connection.cursor() as cursor:
        schema = sql.Identifier(url.schema)
        cursor.execute("SELECT FROM pg_namespace WHERE nspname = %s", (url.schema,))
        if create and cursor.rowcount == 0:
            cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
        cursor.execute(sql.SQL("SET search_path = {}").format(schema))
        # PostgreSQL then gives up the statement, and the lock, of a process that was killed; old ones cannot.
        with contextlib.suppress(psycopg2.Error):
            cursor.execute("SET client_connection_check_interval = '1s'")
    return connection


def _connect(url: DatabaseURL, database: str) -> Connection:
    verified = url.sslmode != "disable" and (url.sslaccept == "strict" or url.sslmode.startswith("verify"))
    mode = "verify-full" if verified and url.sslmode != "verify-ca" else url.sslmode
    if url.sslidentity:
        raise MigrateError("The option sslidentity of the database's URL is not supported here: leave it out", "P1011")
    connection = psycopg2.connect(
        host=",".join(host for host, _ in url.hosts),
        port=",".join(str(port) for _, port in url.hosts),
        dbname=database,
        user=url.user or None,
        password=url.password,
        sslmode=mode,
        # Only then: libpq's `require` verifies where it has a certificate to verify by, and Prisma's does not.
        sslrootcert=(url.sslrootcert or ("system" if mode == "verify-full" else None)) if verified else None,
        sslcert=url.sslcert,
        sslkey=url.sslkey,
        sslpassword=url.sslpassword,
        channel_binding=url.channel_binding,
        target_session_attrs=url.target_session_attrs,
        connect_timeout=url.connect_timeout or 0,
        application_name=url.application_name,
        options=url.options,
        client_encoding="UTF8",
    )
    connection.autocommit = True
    return connection


def _address(url: DatabaseURL) -> str:
    return ",".join(f"{host}:{port}" for host, port in url.hosts)


def _no_connection(error: psycopg2.OperationalError, url: DatabaseURL) -> MigrateError:
    """Tell why: libpq has no SQLSTATE here, only PostgreSQL's words."""
    told, address = " ".join(str(error).split()), _address(url)
    words = told.rpartition("FATAL: ")[2].strip()
    if re.search(r"password authentication failed|no password supplied|SASL authentication", told):
        return MigrateError(
            f"Authentication failed against database server at `{address}`, the provided database credentials for "
            f"`{url.user}` are not valid. Correct the user or the password in the database's URL",
            "P1000",
        )
    if re.search(r'database ".*" does not exist', told):
        return MigrateError(
            f"Database `{url.database}` does not exist on the database server at `{address}`. Create it, or correct "
            "the name in the database's URL",
            "P1003",
        )
    if re.search(r"SSL|TLS|certificate", told):
        return MigrateError(
            f"Error opening a TLS connection to `{address}`: {words}. See sslmode, sslaccept, sslrootcert, sslcert and "
            "sslkey in the URL",
            "P1011",
        )
    if not _is_reached(url):
        return MigrateError(
            f"Can't reach database server at `{address}`. Make sure that it runs there, and that host and port in the "
            f"database's URL and the firewalls between are right: {words}",
            "P1001",
        )
    return MigrateError(f"User `{url.user}` was denied access on the database `{url.database}`: {words}", "P1010")


def _is_reached(url: DatabaseURL) -> bool:
    for host, port in url.hosts:
        with contextlib.suppress(OSError):
            if host.startswith("/"):
                return (Path(host) / f".s.PGSQL.{port}").is_socket()
            socket.create_connection((host, port), timeout=url.connect_timeout).close()
            return True
    return False


def denied(error: psycopg2.Error, url: DatabaseURL) -> MigrateError:
    """Say that PostgreSQL lets the role not do something.

    Args:
        error: What it said.
        url: Who was refused.
    """
    return MigrateError(
        f"User `{url.user}` was denied access on the database `{url.database}`: {error.diag.message_primary}. "
        "Grant the privilege to the role, or have a role that has it run this command",
        "P1010",
    )


def _create_database(url: DatabaseURL) -> None:
    try:
        with contextlib.closing(_connect(url, "postgres")) as connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(url.database)))
    except psycopg2.errors.DuplicateDatabase:
        pass  # another one has made it meanwhile
    except psycopg2.Error as error:
        words = error.diag.message_primary or " ".join(str(error).split())
        raise MigrateError(
            f"Database `{url.database}` does not exist on the database server at `{_address(url)}`, and `{url.user}` "
            f"cannot create it: {words}. Create it, or correct the name in the database's URL",
            "P1003",
        ) from None


def described(error: psycopg2.Error, script: str = "") -> str:
    """Say what PostgreSQL said of a script, and where.

    Args:
        error: What it said.
        script: What it was said of.
    """
    told = [f"{error.diag.severity or 'ERROR'}: {error.diag.message_primary or ' '.join(str(error).split())}"]
    told += [f"DETAIL: {error.diag.message_detail}"] if error.diag.message_detail else []
    told += [f"HINT: {error.diag.message_hint}"] if error.diag.message_hint else []
    if script and error.diag.statement_position:
        number = script.count("\n", 0, int(error.diag.statement_position) - 1)
        lines = script.splitlines()[: number + 1]
        told += ["", "Position:", *(f"{at + 1:>3} {line}" for at, line in list(enumerate(lines))[-6:])]
    return "\n".join(told)


def execute(connection: Connection, script: str) -> None:
    """Run a script: PostgreSQL gets all of it as one message, so it runs as one transaction.

    Args:
        connection: Where.
        script: SQL.

    Raises:
        MigrateError: PostgreSQL refuses it.
    """
    try:
        with connection.cursor() as cursor:
            _run(cursor, script)
    except psycopg2.Error as error:
        raise MigrateError(
            f"Database error code: {error.pgcode or 'none'}\n\nDatabase error:\n{described(error, script)}"
        ) from None


def _run(cursor: psycopg2.extensions.cursor, script: str) -> None:
    try:
        cursor.execute(script.encode())
    except psycopg2.ProgrammingError as error:
        if error.pgcode is not None:
            raise
        # psycopg2 minds a script that has comments only, and PostgreSQL does not.


# --- the ledger -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Migration:
    """A folder with a migration.

    Attributes:
        name: The folder's.
        file: What it has.
    """

    name: str
    file: Path

    def script(self) -> str:
        """Read its SQL.

        Raises:
            MigrateError: P3015.
        """
        try:
            return self.file.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise MigrateError(
                f"Could not read the migration file at {self.file}: {error}. Delete the folder or restore the file",
                "P3015",
            ) from None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger: an attempt at a migration."""

    id: str
    name: str
    checksum: str
    started_at: datetime
    finished_at: datetime | None
    rolled_back_at: datetime | None
    logs: str | None

    @property
    def failed(self) -> bool:
        """Whether it neither came to its end nor has anybody said that nothing of it is left."""
        return self.finished_at is None and self.rolled_back_at is None


@dataclass(frozen=True, slots=True)
class Status:
    """How the folder and the ledger compare.

    Attributes:
        has_ledger: Whether the database has one.
        failed: Names of migrations that did not come to their end.
        pending: Names of the folder's that the ledger does not have.
        unknown: Names of the ledger's that the folder does not have.
        last_common: Name of the last one that both have; None: there is none.
    """

    has_ledger: bool
    failed: tuple[str, ...]
    pending: tuple[str, ...]
    unknown: tuple[str, ...]
    last_common: str | None


def migrations(folder: Path) -> tuple[Migration, ...]:
    """List a folder's migrations in the order in which they are applied.

    Args:
        folder: The folder `migrations`, beside the schema.

    Raises:
        MigrateError: P3019, they are not for PostgreSQL.
    """
    file = folder / "migration_lock.toml"
    if file.is_file() and (match := PROVIDER.search(file.read_text())) and match["name"] != "postgresql":
        raise MigrateError(f"The migrations are for {match['name']} ({file}), and the database is PostgreSQL", "P3019")
    if not folder.is_dir():
        return ()
    return tuple(Migration(one.name, one / "migration.sql") for one in sorted(folder.iterdir()) if one.is_dir())


def deploy(
    connection: Connection, url: DatabaseURL, known: tuple[Migration, ...], besides: Sequence[str] = ()
) -> Iterator[str]:
    """Apply what is not applied yet.

    Args:
        connection: Where.
        url: Where that is, for errors.
        known: All migrations, in order.
        besides: Tables that may be there before the first migration.

    Yields:
        The name of each one that has been applied.

    Raises:
        MigrateError: P1002 (another deploy is at work), P3005, P3009, P3015 or P3018.
    """
    with lock(connection, url):
        rows = _rows(connection)
        if rows is None:
            _initialize(connection, besides)
            rows = ()
        if failed := [row for row in rows if row.failed]:
            raise _found_failed(failed)
        applied = {row.name for row in rows if row.rolled_back_at is None}
        for migration in known:
            if migration.name not in applied:
                _apply(connection, migration)
                yield migration.name


def status(connection: Connection, known: tuple[Migration, ...]) -> Status:
    """Compare the folder with the ledger.

    Args:
        connection: Where the ledger is.
        known: All migrations, in order.
    """
    rows = _rows(connection)
    names = [migration.name for migration in known]
    recorded = [row.name for row in rows or () if row.rolled_back_at is None]
    common = [name for name in names if name in recorded]
    return Status(
        has_ledger=rows is not None,
        failed=tuple(row.name for row in rows or () if row.failed),
        pending=tuple(name for name in names if name not in recorded),
        unknown=tuple(name for name in recorded if name not in names),
        last_common=common[-1] if common else None,
    )


def changed(connection: Connection, known: tuple[Migration, ...]) -> tuple[str, ...]:
    """Name those that are recorded, and whose file is another one than what was applied.

    Args:
        connection: Where the ledger is.
        known: All migrations, in order.

    Raises:
        MigrateError: P3015.
    """
    applied = {row.name: row.checksum for row in _rows(connection) or () if row.rolled_back_at is None}
    return tuple(one.name for one in known if applied.get(one.name, _checksum(one.script())) != _checksum(one.script()))


def mark_applied(connection: Connection, url: DatabaseURL, known: tuple[Migration, ...], name: str) -> None:
    """Record a migration as applied without applying it.

    Args:
        connection: Where.
        url: Where that is, for errors.
        known: All migrations.
        name: Which one.

    Raises:
        MigrateError: P3008 or P3017.
    """
    migration = next((one for one in known if one.name == name), None)
    if migration is None:
        raise MigrateError(
            f"The migration {name} could not be found. Make sure that it exists, and that you gave the whole name of "
            'its folder (example: "20201207184859_initial_migration")',
            "P3017",
        )
    checksum = _checksum(migration.script())
    with lock(connection, url), connection.cursor() as cursor:
        rows = _rows(connection)
        if rows is None:
            cursor.execute(LEDGER)
        if any(row.name == name and row.finished_at is not None for row in rows or ()):
            raise MigrateError(f"The migration `{name}` is already recorded as applied in the database.", "P3008")
        _roll_back(cursor, [row for row in rows or () if row.name == name and row.failed])
        cursor.execute(
            "INSERT INTO _prisma_migrations (id, checksum, logs, started_at, finished_at, migration_name) "
            "VALUES (%s, %s, '', now(), now(), %s)",
            (str(uuid.uuid4()), checksum, name),
        )


def mark_rolled_back(connection: Connection, url: DatabaseURL, name: str) -> None:
    """Record that nothing of a failed migration is left, so that the next deploy applies it again.

    Args:
        connection: Where.
        url: Where that is, for errors.
        name: Which one.

    Raises:
        MigrateError: P3011 or P3012.
    """
    with lock(connection, url), connection.cursor() as cursor:
        rows = [row for row in _rows(connection) or () if row.name == name]
        if not rows:
            raise MigrateError(
                f"Migration `{name}` cannot be rolled back because it was never applied to the database. Make sure "
                'that you gave the whole name of its folder (example: "20201207184859_initial_migration")',
                "P3011",
            )
        if all(row.finished_at is not None for row in rows):
            raise MigrateError(
                f"Migration `{name}` cannot be rolled back because it is not in a failed state.", "P3012"
            )
        _roll_back(cursor, [row for row in rows if row.failed])


@contextlib.contextmanager
def lock(connection: Connection, url: DatabaseURL) -> Iterator[None]:
    """Hold Prisma's lock, unless the environment says that the caller does.

    Args:
        connection: By which.
        url: Where that is, for the error.

    Raises:
        MigrateError: P1002, another one holds it.
    """
    if os.environ.get(UNLOCKED, "") not in {"", "0", "false"}:  # newer LiteLLM holds it itself
        yield
        return
    # To ask again and again: a statement that waits would be in the way of the other one's CREATE INDEX CONCURRENTLY.
    until = time.monotonic() + LOCK_TIMEOUT
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
            if cursor.fetchone() == (True,):
                break
            if time.monotonic() > until:
                raise MigrateError(
                    f"The database server at `{_address(url)}` was reached but timed out. Context: Timed out trying to "
                    f"acquire a postgres advisory lock (pg_advisory_lock({LOCK})) for {LOCK_TIMEOUT:.0f} s: another "
                    "migration is at work, or its session was left behind by a pooler. Wait for it and try again",
                    "P1002",
                )
            time.sleep(LOCK_INTERVAL)
        try:
            yield
        finally:
            with contextlib.suppress(psycopg2.Error):  # without a connection there is no lock either
                cursor.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def _rows(connection: Connection) -> tuple[Row, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('_prisma_migrations') IS NOT NULL")
        if cursor.fetchone() != (True,):
            return None
        cursor.execute(
            "SELECT id, migration_name, checksum, started_at, finished_at, rolled_back_at, logs "
            "FROM _prisma_migrations ORDER BY started_at"
        )
        return tuple(Row(*row) for row in cursor)


def _initialize(connection: Connection, besides: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE nspname = current_schema() AND relkind = 'r' AND relname <> ALL (%s) LIMIT 1",
            (["spatial_ref_sys", *besides],),
        )
        if cursor.rowcount:
            raise MigrateError(
                "The database schema is not empty, and it has no ledger of migrations. If its tables are those of some "
                f"of the migrations, record these as applied (prisma migrate resolve --applied NAME), see {BASELINE}",
                "P3005",
            )
        cursor.execute(LEDGER)


def _found_failed(rows: list[Row]) -> MigrateError:
    details = []
    for row in rows:
        started = f"{row.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
        logs = f" with the following logs:\n{row.logs.strip()}" if row.logs and row.logs.strip() else ""
        details.append(f"The `{row.name}` migration started at {started} failed{logs}\n")
    return MigrateError(
        "migrate found failed migrations in the target database, new migrations will not be applied. Find out how far "
        "they came; then either undo that and run prisma migrate resolve --rolled-back NAME, or do the rest and run "
        f"prisma migrate resolve --applied NAME, and deploy again, see {RESOLVE}\n" + "".join(details),
        "P3009",
    )


def _apply(connection: Connection, migration: Migration) -> None:
    script, row = migration.script(), str(uuid.uuid4())
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO _prisma_migrations (id, checksum, started_at, migration_name) VALUES (%s, %s, now(), %s)",
            (row, _checksum(script), migration.name),
        )
        try:
            _run(cursor, script)
        except psycopg2.Error as error:
            message = (
                "A migration failed to apply. New migrations cannot be applied before the error is recovered from, see "
                f"{RESOLVE}\n\nMigration name: {migration.name}\n\nDatabase error code: {error.pgcode or 'none'}\n\n"
                f"Database error:\n{described(error, script)}"
            )
            with contextlib.suppress(psycopg2.Error):  # the connection may be what was lost
                cursor.execute("ROLLBACK")  # of a script that has its own BEGIN
                cursor.execute("UPDATE _prisma_migrations SET logs = %s WHERE id = %s", (message, row))
            raise MigrateError(message, "P3018") from None
        cursor.execute(
            "UPDATE _prisma_migrations SET applied_steps_count = applied_steps_count + 1, finished_at = now() "
            "WHERE id = %s",
            (row,),
        )


def _roll_back(cursor: psycopg2.extensions.cursor, rows: list[Row]) -> None:
    for row in rows:
        cursor.execute("UPDATE _prisma_migrations SET rolled_back_at = now() WHERE id = %s", (row.id,))


def _checksum(script: str) -> str:
    return hashlib.sha256(script.encode()).hexdigest()
