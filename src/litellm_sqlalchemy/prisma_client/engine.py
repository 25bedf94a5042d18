"""What stands where prisma-client-py has its engine's process: a pool of connections, and the transactions open on it.

A caller that is cancelled leaves what it has begun to come to its end, in a task of the engine's own: no connection is
dropped half used, and nothing warns. What has not begun by then does not begin. A read that finds a connection at hand
takes no task, as most do: if it is cancelled, its connection is closed.
"""

import asyncio
import dataclasses
import datetime as dt
import json
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from sqlalchemy import exc

from litellm_sqlalchemy.prisma_client import connect, errors, raw_sql
from litellm_sqlalchemy.prisma_client.connection import Connection
from litellm_sqlalchemy.prisma_client.database_url import DatabaseURL
from litellm_sqlalchemy.prisma_client.description import Description
from litellm_sqlalchemy.prisma_client.executor import WRITES, Executor, Operation, needs_transaction
from litellm_sqlalchemy.prisma_client.pool import Pool, is_pooled
from litellm_sqlalchemy.prisma_client.query import Compiler
from litellm_sqlalchemy.prisma_client.schema import Value

CLOSED_TRANSACTIONS = 1_000  # that it can still say something about
CONNECTIONS_WITHOUT_LIMIT = 100  # how many may have a stale plan, where nothing limits the pool
STALE_PLAN = "cached plan must not change result type"
LAST_OPERATIONS_SECONDS = 10.0  # for what is under way when the client disconnects

T = TypeVar("T")
# Those with connections: the garbage collector, which may find a client, must not take its connections apart.
_CONNECTED: set["Engine"] = set()
log = logging.getLogger("litellm_sqlalchemy.prisma")


@dataclass(frozen=True, slots=True)
class Process:
    """The engine's process, of which there is none: LiteLLM takes 0 for that, and watches nothing.

    Attributes:
        pid: 0.
    """

    pid: int = 0


@dataclass(frozen=True, slots=True)
class RawStatement:
    """A raw statement.

    Attributes:
        method: query_raw or execute_raw.
        sql: With $1, $2, …
        parameters: Their values, as the client writes them in JSON.
    """

    method: Literal["query_raw", "execute_raw"]
    sql: str
    parameters: tuple[Value, ...] = field(repr=False)


class Query(str):
    """What is asked of the engine.

    As a text it is what prisma-client-py would send, as far as LiteLLM reads it to name its spans.

    Attributes:
        steps: What is to be done.
        is_batch: Whether it all stands or falls together, and gives nothing.
        only_reads: Whether it is one operation that writes nothing.
    """

    __slots__ = ("is_batch", "only_reads", "steps")

    steps: tuple[Operation | RawStatement, ...]
    is_batch: bool
    only_reads: bool

    @classmethod
    def of(cls, *steps: Operation | RawStatement, text: str, is_batch: bool = False) -> "Query":
        """Make one.

        Args:
            steps: What is to be done.
            text: What prisma-client-py would send.
            is_batch: Whether it all stands or falls together, and gives nothing.
        """
        query = cls(text)
        query.steps = steps
        query.is_batch = is_batch
        query.only_reads = not is_batch and isinstance(steps[0], Operation) and steps[0].method not in WRITES
        return query


class _Caller:
    """Whoever waits for a query."""

    __slots__ = ("is_gone",)

    def __init__(self) -> None:
        self.is_gone = False


class _Abandoned(Exception):  # noqa: N818 - nobody sees it
    """Nobody waits for it any more."""


@dataclass(slots=True)
class _Transaction:
    """One that is open, or was."""

    connection: Connection
    timeout_ms: int
    began: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    state: Literal["open", "committed", "rolled back", "expired"] = "open"
    timer: asyncio.TimerHandle | None = None

    def check(self, what: str) -> None:
        """Refuse what is asked of it, if it is not open any more."""
        if self.state == "open":
            return
        text = f"Transaction already closed: A {what} cannot be executed on a {self.state} transaction."
        if self.state == "expired":
            passed = round((time.monotonic() - self.began) * 1e3)
            text = (
                f"Transaction already closed: A {what} cannot be executed on an expired transaction. The timeout for "
                f"this transaction was {self.timeout_ms} ms, however {passed} ms passed since the start of the "
                "transaction. Consider increasing the interactive transaction timeout or doing less work in the "
                "transaction."
            )
        raise errors.TransactionExpiredError(text)


class Engine:
    """Connections to one database.

    Args:
        url: Where it is.
        description: What is in it.
        driver: By which it is reached.
    """

    process = Process()

    def __init__(self, url: DatabaseURL, description: Description, driver: raw_sql.Driver) -> None:
        self._compiler = Compiler(description)
        self._driver = driver
        self._make_pool(url)
        self._transactions: OrderedDict[str, _Transaction] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # once there are connections

    def _make_pool(self, url: DatabaseURL) -> None:
        self._url = url
        self._pool = Pool(url, self._driver)
        self._most_stale = connect.pool_size(url) or CONNECTIONS_WITHOUT_LIMIT

    # --- life -----------------------------------------------------------------------------------------------------

    async def connect(self, timeout: dt.timedelta) -> None:  # noqa: ASYNC109 - as prisma-client-py has it
        """Make a first connection, so that it is known now whether the database is there.

        Args:
            timeout: Until it must be there.

        Raises:
            EngineConnectionError: It is not.
        """
        self._loop = asyncio.get_running_loop()
        _CONNECTED.add(self)

        async def try_it() -> None:
            if self._url.pgbouncer is None and await is_pooled(self._url, self._driver):
                log.warning(
                    "action=connect There is a pooler at %s: write pgbouncer=true into the database's URL, which is "
                    "taken for granted now (or pgbouncer=false, if each client has a session of its own there)",
                    connect.server(self._url),
                )
                self._make_pool(dataclasses.replace(self._url, pgbouncer=True))
            await self._pool.give_back(await self._pool.take())

        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._shielded(self._translated(try_it()))
        except TimeoutError:
            raise errors.EngineConnectionError(
                f"Can't reach database server at `{connect.server(self._url)}` within {timeout.total_seconds()} s"
            ) from None

    async def aclose(self) -> None:
        """Roll back what is open, and close all connections."""
        for transaction in list(self._transactions.values()):
            await self._end(transaction, "rolled back")
        if others := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=LAST_OPERATIONS_SECONDS)
        await self._pool.aclose()
        _CONNECTED.discard(self)

    def stop(self) -> None:
        """Close the connections of a client that nobody has any more, as LiteLLM leaves one when its token changes.

        May be called by the garbage collector, in any thread.
        """
        if self._loop is None or not self._loop.is_running():
            self._pool.abandon()
            _CONNECTED.discard(self)
            return
        self._loop.call_soon_threadsafe(lambda: self._spawn(self.aclose()))

    # --- queries --------------------------------------------------------------------------------------------------

    async def query(self, content: Query, *, tx_id: str | None) -> Value:
        """Do what is asked.

        Args:
            content: What.
            tx_id: Within which transaction; None: on its own.

        Returns:
            What the one step gives; None of a batch.

        Raises:
            PrismaError: It cannot be done.
        """
        if tx_id is not None:
            return await self._shielded(self._query_within(self._transaction(tx_id), content))
        if content.only_reads and not self._url.pgbouncer and (at_hand := self._pool.take_at_hand()) is not None:
            return await self._read(content, at_hand)
        caller = _Caller()
        return await self._shielded(self._query_alone(content, caller), caller)

    async def _read(self, content: Query, connection: Connection) -> Value:
        """Read at once, without a task: whoever is cancelled here leaves a connection to be closed, and no more."""
        try:
            result = await self._translated(self._steps(content, connection))
        except BaseException:
            self._spawn(self._pool.give_back(connection))
            raise
        await self._pool.give_back(connection)
        return result

    async def _query_within(self, transaction: _Transaction, content: Query) -> Value:
        async with transaction.lock:
            transaction.check("query")
            return await self._translated(self._steps(content, transaction.connection))

    async def _query_alone(self, content: Query, caller: _Caller) -> Value:
        # Each connection may have a plan of before a migration; it is closed then, and nothing has been done.
        for _ in range(self._most_stale):
            try:
                return await self._translated(self._on_connection(content, caller))
            except errors.PrismaError as error:
                if STALE_PLAN not in str(error):
                    raise
        return await self._translated(self._on_connection(content, caller))

    async def _on_connection(self, content: Query, caller: _Caller) -> Value:
        # A transaction pooler may give each statement another session: there, all is in a transaction.
        several = self._url.pgbouncer or content.is_batch or self._needs_transaction(content)
        connection = await self._pool.take()
        try:
            if caller.is_gone:
                raise _Abandoned
            if several:
                await connection.begin()
            result = await self._steps(content, connection)
            if several:
                await connection.commit()
        except exc.DBAPIError as error:
            if STALE_PLAN in str(error.orig):
                connection.spoil()
            raise
        finally:
            await self._pool.give_back(connection)
        return result

    def _needs_transaction(self, content: Query) -> bool:
        for step in content.steps:
            if isinstance(step, Operation) and needs_transaction(self._compiler.description, step):
                return True
        return False

    async def _steps(self, content: Query, connection: Connection) -> Value:
        if self._url.socket_timeout is None:
            return await self._run(content, connection)
        async with asyncio.timeout(self._url.socket_timeout):
            return await self._run(content, connection)

    async def _run(self, content: Query, connection: Connection) -> Value:
        result: Value = None
        executor = Executor(self._compiler, connection)
        for step in content.steps:
            if isinstance(step, Operation):
                result = await executor.run(step)
            else:
                result = await self._raw(step, connection)
        return None if content.is_batch else result

    async def _raw(self, step: RawStatement, connection: Connection) -> Value:
        sql, parameters = raw_sql.statement(step.sql, step.parameters, self._driver)
        try:
            if step.method == "execute_raw":
                return await connection.execute(sql, parameters)
            return raw_sql.shaped(await connection.fetch_named(sql, parameters))
        except exc.DBAPIError as error:
            fault = errors.DatabaseFault(error)
            if fault.is_about_connection or STALE_PLAN in fault.message:
                raise
            raise errors.of_raw_query(fault) from error

    # --- transactions ---------------------------------------------------------------------------------------------

    async def start_transaction(self, *, content: str) -> str:
        """Begin one.

        Args:
            content: As prisma-client-py sends it: {"timeout", "max_wait"}, in milliseconds.

        Returns:
            Its id.

        Raises:
            TransactionError: No connection became free in time.
            EngineConnectionError: The database is away.
        """
        limits = json.loads(content)

        async def begin() -> Connection:
            connection = await self._pool.take()
            try:
                await connection.begin()
            except BaseException:
                await self._pool.give_back(connection)
                raise
            return connection

        starting = self._spawn(begin())
        try:
            await asyncio.wait({starting}, timeout=limits["max_wait"] / 1e3)
        except asyncio.CancelledError:
            starting.add_done_callback(self._give_back)
            raise
        if not starting.done():
            starting.add_done_callback(self._give_back)
            raise errors.TransactionError(
                "Transaction API error: Unable to start a transaction in the given time. Either all connections are in "
                "use (raise connection_limit in DATABASE_URL, or max_wait), or the database is slow to connect to."
            )
        connection = await self._translated(starting)
        transaction = _Transaction(connection, limits["timeout"])
        tx_id = uuid.uuid4().hex
        self._transactions[tx_id] = transaction
        loop = asyncio.get_running_loop()
        transaction.timer = loop.call_later(
            limits["timeout"] / 1e3, lambda: self._spawn(self._end(transaction, "expired"))
        )
        while len(self._transactions) > CLOSED_TRANSACTIONS:
            oldest = next((key for key, one in self._transactions.items() if one.state != "open"), None)
            if oldest is None:
                break
            del self._transactions[oldest]
        return tx_id

    def _give_back(self, starting: "asyncio.Task[Connection]") -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._spawn(self._pool.give_back(starting.result()))

    async def commit_transaction(self, tx_id: str) -> None:
        """Commit.

        Args:
            tx_id: Which.

        Raises:
            TransactionError: It is not open.
            PrismaError: It cannot be committed, and is rolled back.
        """
        transaction = self._transaction(tx_id)
        await self._shielded(self._translated(self._end(transaction, "committed", check="commit")))

    async def rollback_transaction(self, tx_id: str) -> None:
        """Roll back.

        Args:
            tx_id: Which.

        Raises:
            TransactionError: It is not open.
        """
        transaction = self._transaction(tx_id)
        await self._shielded(self._translated(self._end(transaction, "rolled back", check="rollback")))

    def _transaction(self, tx_id: str) -> _Transaction:
        found = self._transactions.get(tx_id)
        if found is None:
            raise errors.TransactionError(
                "Transaction API error: Transaction not found. Transaction ID is invalid, refers to an old closed "
                "transaction that nothing is known about any more, or was obtained before disconnecting."
            )
        return found

    async def _end(
        self, transaction: _Transaction, state: Literal["committed", "rolled back", "expired"], check: str = ""
    ) -> None:
        async with transaction.lock:
            if check:
                transaction.check(check)
            if transaction.state != "open":
                return
            transaction.state = state
            if transaction.timer is not None:
                transaction.timer.cancel()
            try:
                if state == "committed":
                    await transaction.connection.commit()
            finally:
                await self._pool.give_back(transaction.connection)  # rolls back what is not committed

    # --- tasks and errors -----------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # so that asyncio does not say that nobody has looked

    async def _shielded(self, work: Coroutine[Any, Any, T], caller: _Caller | None = None) -> T:
        task = self._spawn(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if caller is not None:
                caller.is_gone = True
            raise

    async def _translated(self, work: Awaitable[T]) -> T:
        """Wait for something, and raise what prisma-client-py would."""
        try:
            return await work
        except (errors.PrismaError, _Abandoned):
            raise
        except exc.TimeoutError as error:
            limit, patience = connect.pool_size(self._url), self._url.pool_timeout
            raise errors.data_error(
                "P2024",
                "Timed out fetching a new connection from the connection pool. More info: "
                "http://pris.ly/d/connection-pool (Current connection pool timeout: "
                f"{patience}, connection limit: {limit})",
                {"connection_limit": limit, "timeout": patience},
            ) from error
        except (exc.DBAPIError, exc.InvalidRequestError, OSError, TimeoutError) as error:
            fault = errors.DatabaseFault(error)
            if (away := errors.of_connection(fault, connect.server(self._url))) is not None:
                raise away from error
            raise errors.of_model_query(fault) from error


def driver_of(environment: Mapping[str, str]) -> raw_sql.Driver:
    """Say which driver is wanted.

    Args:
        environment: PRISMA_CLIENT_DRIVER is asyncpg (the default) or psycopg.

    Raises:
        EngineError: It is neither.
    """
    driver = environment.get("PRISMA_CLIENT_DRIVER", "asyncpg")
    if driver not in {"asyncpg", "psycopg"}:
        raise errors.EngineError("PRISMA_CLIENT_DRIVER must be asyncpg or psycopg: set it to one of them, or unset it")
    return cast("raw_sql.Driver", driver)
