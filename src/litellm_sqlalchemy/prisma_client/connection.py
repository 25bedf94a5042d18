"""A connection, on which the driver itself runs statements.

SQLAlchemy's own connections switch greenlets for each call, and look at each column of each result once more: a row by
its key takes several times as long by them.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar, TypeVar

from sqlalchemy import exc
from sqlalchemy.pool import PoolProxiedConnection

from litellm_sqlalchemy.prisma_client.schema import Value
from litellm_sqlalchemy.prisma_client.statements import Arguments, Statements

ROWS_AT_ONCE = 200  # that are made, or written, between two looks at the event loop

T = TypeVar("T")


class Connection(ABC):
    """A connection; a driver's own is in the module of its name. It commits each statement, until `begin`.

    Args:
        pooled: SQLAlchemy's.
        statements: Of its dialect.

    Attributes:
        pooled: The same.
        statements: The same.
        taken: When it was taken out of SQLAlchemy's pool, by `time.monotonic`.
    """

    _errors: ClassVar[tuple[type[Exception], ...]]  # of the driver

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

    @abstractmethod
    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Sequence[Value]]:
        """Run a statement, and give its rows.

        Args:
            sql: As the driver takes it.
            arguments: The same.
        """

    @abstractmethod
    async def fetch_one(self, sql: str, arguments: Arguments) -> Sequence[Value] | None:
        """Run a statement, and give its first row, or None.

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
    async def insert(self, sql: str, rows: Sequence[Arguments]) -> int:
        """Run an INSERT for each of some rows, and say how many it has written.

        Args:
            sql: As the driver takes it, with RETURNING.
            rows: The arguments of each, as the driver takes them.
        """

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

    @property
    @abstractmethod
    def greeted_by(self) -> int:
        """PostgreSQL's process that said hello; behind a pooler, another may answer."""

    @abstractmethod
    def _is_closed(self) -> bool:
        """Say whether the driver knows that the session has ended."""

    async def _driven(self, work: Awaitable[T]) -> T:
        """Wait for the driver."""
        try:
            return await work
        except self._errors as error:
            raise exc.DBAPIError(
                None, None, error, hide_parameters=True, connection_invalidated=self._is_closed()
            ) from error
        except BaseException:  # such as that time is up: PostgreSQL may be at work on it yet
            self._is_broken = True
            raise
