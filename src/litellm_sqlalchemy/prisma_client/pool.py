"""The pool of connections: SQLAlchemy's, and in front of it those that were in use a moment ago."""

import time
from dataclasses import replace

from sqlalchemy import event, exc
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import greenlet_spawn

from litellm_sqlalchemy.prisma_client import connect
from litellm_sqlalchemy.prisma_client.connection import Connection
from litellm_sqlalchemy.prisma_client.database_url import DatabaseURL
from litellm_sqlalchemy.prisma_client.raw_sql import Driver
from litellm_sqlalchemy.prisma_client.statements import Statements

AT_HAND_SECONDS = 1.0  # how long a connection may pass from hand to hand until SQLAlchemy's pool looks at it again


class Pool:
    """Connections to a database; whoever takes one gives it back.

    Args:
        url: Where the database is.
        driver: By which it is reached.

    Raises:
        DatabaseURLError: A certificate that the URL names cannot be read.
    """

    def __init__(self, url: DatabaseURL, driver: Driver) -> None:
        self._url = url
        self._driver = driver
        self._engine = connect.make_engine(url, driver)
        self._statements = Statements(self._engine.dialect)
        self._at_hand: list[Connection] = []
        self._waiting = 0
        self._is_closed = False
        self._kind = _connection_class(driver)
        event.listen(self._engine, "checkout", self._check)

    def _check(self, connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: object) -> None:
        """Do not hand out what PostgreSQL has closed meanwhile, or what has been idle for too long."""
        native = connection.driver_connection
        if native.is_closed() if self._driver == "asyncpg" else native.closed:
            raise exc.InvalidatePoolError("PostgreSQL has closed the connection")
        idle = time.monotonic() - entry.info.get("idle_since", time.monotonic())
        if self._url.max_idle_connection_lifetime and idle > self._url.max_idle_connection_lifetime:
            raise exc.DisconnectionError("the connection has been idle for too long")

    def take_at_hand(self) -> Connection | None:
        """Take a connection that was in use a moment ago, if there is one."""
        if self._at_hand:
            connection = self._at_hand[-1]
            if connection.is_usable and time.monotonic() - connection.taken < AT_HAND_SECONDS:
                return self._at_hand.pop()
        return None

    async def take(self) -> Connection:
        """Take a connection.

        Raises:
            sqlalchemy.exc.TimeoutError: None became free in time.
            sqlalchemy.exc.DBAPIError: The database is away, or refuses us.
            OSError: It cannot be reached.
        """
        if (at_hand := self.take_at_hand()) is not None:
            return at_hand
        while self._at_hand:  # for SQLAlchemy's pool to look at
            await self._put(self._at_hand.pop())
        self._waiting += 1
        try:
            pooled = await greenlet_spawn(self._engine.raw_connection)
        except self._engine.dialect.loaded_dbapi.Error as error:
            raise exc.DBAPIError(None, None, error, hide_parameters=True, connection_invalidated=True) from error
        finally:
            self._waiting -= 1
        return self._kind(pooled, self._statements)

    async def give_back(self, connection: Connection) -> None:
        """Give a connection back; a transaction that is open is rolled back.

        Args:
            connection: Which was taken.
        """
        if not connection.is_settled:
            await connection.settle()
        connection.pooled.info["idle_since"] = time.monotonic()
        # psycopg does not know of itself whether PostgreSQL has closed a connection: there, the pool asks each time.
        if self._driver == "asyncpg" and not (self._waiting or self._is_closed) and connection.is_usable:
            self._at_hand.append(connection)
        else:
            await self._put(connection)

    async def _put(self, connection: Connection) -> None:
        """Put a connection into SQLAlchemy's pool, or close it."""
        if self._is_closed or not connection.is_usable:
            await greenlet_spawn(connection.pooled.invalidate)
        connection.pooled.close()

    async def aclose(self) -> None:
        """Close all connections; one that is out is closed when it is given back."""
        self._is_closed = True
        while self._at_hand:
            await self._put(self._at_hand.pop())
        await greenlet_spawn(self._engine.dispose)

    def abandon(self) -> None:
        """Leave the connections to the garbage collector: their event loop is gone."""
        while self._at_hand:
            self._at_hand.pop().pooled.close()
        self._engine.dispose(close=False)


def _connection_class(driver: Driver) -> type[Connection]:
    """Give the driver's, and import no other."""
    if driver == "asyncpg":
        from litellm_sqlalchemy.prisma_client.asyncpg_connection import AsyncpgConnection  # noqa: PLC0415

        return AsyncpgConnection
    from litellm_sqlalchemy.prisma_client.psycopg_connection import PsycopgConnection  # noqa: PLC0415

    return PsycopgConnection


async def is_pooled(url: DatabaseURL, driver: Driver) -> bool:
    """Say whether a pooler is in between: then who answers is not who said hello.

    Args:
        url: Where the database is.
        driver: By which it is reached.

    Raises:
        sqlalchemy.exc.DBAPIError: The database is away, or refuses us.
        OSError: It cannot be reached.
    """
    pool = Pool(replace(url, pgbouncer=True), driver)  # so that it works, if there is one
    try:
        connection = await pool.take()
        try:
            await connection.begin()
            ((answers,),) = await connection.fetch("SELECT pg_backend_pid()", ())
        finally:
            await pool.give_back(connection)
        return bool(answers != connection.greeted_by)
    finally:
        await pool.aclose()
