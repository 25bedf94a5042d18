"""A connection, on which the driver itself runs statements.

SQLAlchemy's own connections switch greenlets for each call, and look at each column of each result once more: a row by
its key takes several times as long by them.
"""

import asyncio
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import asyncpg
import psycopg
from sqlalchemy import exc
from sqlalchemy.pool import PoolProxiedConnection

from litellm_sqlalchemy.prisma_client.schema import Value
from litellm_sqlalchemy.prisma_client.statements import Arguments, Statements, Written

ROWS_AT_ONCE = 1_000  # that a driver gets between two looks at the event loop
# What PostgreSQL says of a statement that it has run: https://www.postgresql.org/docs/17/protocol-message-formats.html
WRITTEN = re.compile(r"(?:SELECT|UPDATE|DELETE|INSERT \d+) (\d+)")
DRIVERS_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, psycopg.Error)

T = TypeVar("T")


class Connection(ABC):
    """A connection. It commits each statement, until `begin`.

    Args:
        pooled: SQLAlchemy's.
        statements: Of its dialect.

    Attributes:
        pooled: The same.
        statements: The same.
        taken: When it was taken out of SQLAlchemy's pool, by `time.monotonic`.
    """

    def __init__(self, pooled: PoolProxiedConnection, statements: Statements) -> None:
        self.pooled = pooled
        self.statements = statements
        self.taken = time.monotonic()
        self._native: Any = pooled.driver_connection
        self._is_in_transaction = False
        self._is_broken = False

    # --- statements -----------------------------------------------------------------------------------------------

    async def rows(self, statement: Any) -> Sequence[Sequence[Value]]:
        """Run a statement that gives rows.

        Args:
            statement: SQLAlchemy's, with its values.

        Raises:
            sqlalchemy.exc.DBAPIError: PostgreSQL refused it, or is away; as of all that runs one.
        """
        return await self.fetch(*self.statements.write(statement))

    async def count(self, statement: Any) -> int:
        """Run a statement that gives no rows, and say how many it has written.

        Args:
            statement: SQLAlchemy's, with its values.
        """
        return await self.execute(*self.statements.write(statement))

    async def insert(self, statement: Written, rows: Sequence[dict[str, Value]]) -> int:
        """Run an INSERT for each of some rows, all of them or none, and say how many it has written.

        Args:
            statement: With parameters that are named as the rows' columns, RETURNING something.
            rows: Values by column.
        """
        written = 0
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = [statement.arguments(row) for row in rows[start : start + ROWS_AT_ONCE]]
            written += await self._insert(statement.sql, some)
            await asyncio.sleep(0)
        return written

    @abstractmethod
    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Sequence[Value]]:
        """Run a statement, and give its rows.

        Args:
            sql: As the driver takes it.
            arguments: The same.
        """

    @abstractmethod
    async def fetch_named(self, sql: str, arguments: Arguments) -> list[dict[str, Value]]:
        """Run a statement, and give its rows by the names of their columns.

        Args:
            sql: As the driver takes it.
            arguments: The same.
        """

    @abstractmethod
    async def execute(self, sql: str, arguments: Arguments) -> int:
        """Run a statement, and say how many rows it has written.

        Args:
            sql: As the driver takes it.
            arguments: The same.
        """

    @abstractmethod
    async def _insert(self, sql: str, rows: Sequence[Arguments]) -> int:
        """Run a statement for each of some rows, and say how many it has written."""

    # --- transaction ----------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Begin a transaction."""
        self._is_in_transaction = True
        await self._driven(self._native.execute("BEGIN"))

    async def commit(self) -> None:
        """Commit it."""
        await self._driven(self._native.execute("COMMIT"))
        self._is_in_transaction = False

    async def settle(self) -> None:
        """Roll back a transaction that is open."""
        if self._is_in_transaction and not self._is_broken:
            try:
                await self._driven(self._native.execute("ROLLBACK"))
            except exc.DBAPIError:
                self._is_broken = True
            self._is_in_transaction = False

    # --- life -----------------------------------------------------------------------------------------------------

    def spoil(self) -> None:
        """Have it closed when it is given back."""
        self._is_broken = True

    @property
    def is_settled(self) -> bool:
        """Whether no transaction is open."""
        return not self._is_in_transaction

    @property
    def is_usable(self) -> bool:
        """Whether the session is there, as far as is known, and does what it is told."""
        return not (self._is_broken or self._is_closed())

    @abstractmethod
    def _is_closed(self) -> bool:
        """Say whether the driver knows that the session has ended."""

    async def _driven(self, work: Awaitable[T]) -> T:
        """Wait for the driver."""
        try:
            return await work
        except DRIVERS_ERRORS as error:
            raise exc.DBAPIError(
                None, None, error, hide_parameters=True, connection_invalidated=self._is_closed()
            ) from error
        except BaseException:  # such as that time is up: PostgreSQL may be at work on it yet
            self._is_broken = True
            raise


class AsyncpgConnection(Connection):
    """One by asyncpg."""

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Sequence[Value]]:
        """See `Connection`."""
        return await self._driven(self._native.fetch(sql, *arguments))

    async def fetch_named(self, sql: str, arguments: Arguments) -> list[dict[str, Value]]:
        """See `Connection`."""
        return [dict(row) for row in await self._driven(self._native.fetch(sql, *arguments))]

    async def execute(self, sql: str, arguments: Arguments) -> int:
        """See `Connection`."""
        if arguments:
            said = await self._driven(self._native.execute(sql, *arguments))
        else:  # which would take several statements at once
            prepared = await self._driven(self._native.prepare(sql, name=f"s_{uuid.uuid4().hex}"))
            await self._driven(prepared.fetch())
            said = prepared.get_statusmsg()
        written = WRITTEN.match(said or "")
        return int(written[1]) if written else 0

    async def _insert(self, sql: str, rows: Sequence[Arguments]) -> int:
        return len(await self._driven(self._native.fetchmany(sql, rows)))

    def _is_closed(self) -> bool:
        return bool(self._native.is_closed())


class PsycopgConnection(Connection):
    """One by psycopg 3."""

    async def _cursor(self, sql: str, arguments: Arguments) -> Any:
        # Without arguments it leaves a % alone, as is right for raw statements.
        return await self._driven(self._native.execute(sql, None if arguments == () else arguments))

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Sequence[Value]]:
        """See `Connection`."""
        cursor = await self._cursor(sql, arguments)
        found: Sequence[Sequence[Value]] = await cursor.fetchall() if cursor.description else ()
        return found

    async def fetch_named(self, sql: str, arguments: Arguments) -> list[dict[str, Value]]:
        """See `Connection`."""
        cursor = await self._cursor(sql, arguments)
        if not cursor.description:
            return []
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]

    async def execute(self, sql: str, arguments: Arguments) -> int:
        """See `Connection`."""
        return max(int((await self._cursor(sql, arguments)).rowcount), 0)

    async def _insert(self, sql: str, rows: Sequence[Arguments]) -> int:
        cursor = self._native.cursor()
        await self._driven(cursor.executemany(sql, rows))
        return int(cursor.rowcount)

    def _is_closed(self) -> bool:
        return bool(self._native.closed)
