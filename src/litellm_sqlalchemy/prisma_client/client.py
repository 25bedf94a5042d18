"""The client: prisma-client-py's classes and calls, on the engine of this package.

Whoever knows prisma-client-py (https://prisma-client-py.readthedocs.io) knows this: the same methods, arguments,
results and errors.
"""

import datetime as dt
import json
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from types import TracebackType
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from litellm_sqlalchemy.prisma_client import errors, litellm_schema
from litellm_sqlalchemy.prisma_client.database_url import DatabaseURL, DatabaseURLError, parse_url
from litellm_sqlalchemy.prisma_client.description import Description
from litellm_sqlalchemy.prisma_client.engine import Engine, Query, RawStatement, driver_of
from litellm_sqlalchemy.prisma_client.executor import Operation
from litellm_sqlalchemy.prisma_client.query import normal
from litellm_sqlalchemy.prisma_client.raw_sql import parameters_in_json
from litellm_sqlalchemy.prisma_client.schema import Value

CONNECT_TIMEOUT = dt.timedelta(seconds=10)
MAX_WAIT = dt.timedelta(seconds=2)
TRANSACTION_TIMEOUT = dt.timedelta(seconds=5)
AGGREGATES = ("avg", "min", "sum", "max")
# What prisma-client-py calls each in what it sends; LiteLLM reads the names there.
SENT_AS = {
    "count": "aggregate{}",
    "create": "createOne{}",
    "create_many": "createMany{}",
    "delete": "deleteOne{}",
    "delete_many": "deleteMany{}",
    "execute_raw": "executeRaw",
    "find_first": "findFirst{}",
    "find_first_or_raise": "findFirst{}OrThrow",
    "find_many": "findMany{}",
    "find_unique": "findUnique{}",
    "find_unique_or_raise": "findUnique{}OrThrow",
    "group_by": "groupBy{}",
    "query_raw": "queryRaw",
    "update": "updateOne{}",
    "update_many": "updateMany{}",
    "upsert": "upsertOne{}",
}

M = TypeVar("M", bound=BaseModel)
log = logging.getLogger("litellm_sqlalchemy.prisma")


@cache
def description() -> Description:
    """Describe the database of the LiteLLM that is installed.

    Raises:
        SchemaError: Its schema cannot be read.
        litellm_schema.NotInstalledError: There is no LiteLLM.
    """
    return Description(litellm_schema.schema())


@cache
def _sent(method: str, model: str) -> str:
    return f"result: {SENT_AS[method].format(model)}"


def _seconds(value: float | dt.timedelta) -> dt.timedelta:
    return value if isinstance(value, dt.timedelta) else dt.timedelta(seconds=value)


def _milliseconds(value: float | dt.timedelta) -> int:
    return round(value.total_seconds() * 1e3) if isinstance(value, dt.timedelta) else int(value)


class Prisma:
    """A client. Its attributes are the models, in lower case: client.litellm_usertable.find_many().

    Args:
        use_dotenv: Taken, and not used: LiteLLM reads .env itself.
        log_queries: Taken, and not used: PostgreSQL logs statements.
        auto_register: Whether `get_client` gives this one.
        datasource: {"url": …} instead of DATABASE_URL; one that has been read already will do as well.
        connect_timeout: How long `connect` waits for the database.
        http: Taken, and not used: there is no HTTP.
    """

    def __init__(
        self,
        *,
        use_dotenv: bool = True,
        log_queries: bool = False,
        auto_register: bool = False,
        datasource: Mapping[str, Any] | None = None,
        connect_timeout: float | dt.timedelta = CONNECT_TIMEOUT,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        del use_dotenv, log_queries, http
        self._datasource = datasource
        self._connect_timeout = _seconds(connect_timeout)
        self._internal_engine: Engine | None = None
        self._tx_id: str | None = None
        self._copied = False
        self._add_actions()
        if auto_register:
            register(self)

    def _add_actions(self) -> None:
        for accessor, model in description().accessors.items():
            setattr(self, accessor, Actions(self, model))

    def __getattr__(self, name: str) -> Any:
        """Say that there is no such model; those that are there are set as attributes."""
        raise AttributeError(
            f"LiteLLM's schema has no model {name!r}: it and this release of LiteLLM do not belong together"
        )

    # --- life -----------------------------------------------------------------------------------------------------

    @property
    def _engine(self) -> Engine:
        """What LiteLLM reads, and replaces by its own wrapper around it."""
        if self._internal_engine is None:
            raise errors.ClientNotConnectedError
        return self._internal_engine

    @_engine.setter
    def _engine(self, engine: Engine) -> None:
        self._internal_engine = engine

    # LiteLLM 1.106 writes to this name.
    _Prisma__engine = _engine

    def is_connected(self) -> bool:
        """Say whether `connect` has been called, and `disconnect` has not."""
        return self._internal_engine is not None

    def is_registered(self) -> bool:
        """Say whether `get_client` gives this one."""
        return bool(_registered) and _registered[0] is self

    def is_transaction(self) -> bool:
        """Say whether this client is one within a transaction."""
        return self._tx_id is not None

    async def connect(self, timeout: float | dt.timedelta | None = None) -> None:
        """Connect to the database.

        Args:
            timeout: How long it may take; seconds if it is a number.

        Raises:
            EngineConnectionError: The database is away, or does not let this user in.
            EngineError: Its URL is wrong.
            AlreadyConnectedError: The client is connected.
        """
        if self._internal_engine is not None:
            raise errors.AlreadyConnectedError("Already connected to the query engine")
        engine = Engine(self._url(), description(), driver_of(os.environ))
        try:
            await engine.connect(self._connect_timeout if timeout is None else _seconds(timeout))
        except BaseException:
            engine.stop()
            raise
        self._internal_engine = engine

    def _url(self) -> DatabaseURL:
        text = self._datasource["url"] if self._datasource else os.environ.get("DATABASE_URL", "")
        if isinstance(text, DatabaseURL):
            return text
        try:
            return parse_url(text)
        except DatabaseURLError as error:
            raise errors.EngineError(str(error)) from None

    async def disconnect(self, timeout: float | dt.timedelta | None = None) -> None:
        """Close all connections.

        Args:
            timeout: Taken, and not used.
        """
        del timeout
        engine, self._internal_engine = self._internal_engine, None
        if engine is not None:
            await engine.aclose()

    async def __aenter__(self) -> "Prisma":
        """Connect."""
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self.disconnect()

    def _copy(self) -> "Prisma":
        """Make another client of the same engine, as a transaction has."""
        other = Prisma(datasource=self._datasource, connect_timeout=self._connect_timeout)
        other._internal_engine = self._internal_engine
        other._copied = True
        return other

    def __del__(self) -> None:
        """Have the connections closed."""
        engine, copied = self.__dict__.get("_internal_engine"), self.__dict__.get("_copied")
        if engine is not None and not copied:
            engine.stop()

    # --- queries --------------------------------------------------------------------------------------------------

    async def _execute(self, method: str, model: str, arguments: Mapping[str, Value]) -> Value:
        operation = Operation(method, model, arguments)
        query = Query.of(operation, text=_sent(method, model))
        return await self._engine.query(query, tx_id=self._tx_id)

    async def _execute_raw(self, statement: RawStatement) -> Value:
        query = Query.of(statement, text=f"result: {SENT_AS[statement.method]} (query: {json.dumps(statement.sql)})")
        return await self._engine.query(query, tx_id=self._tx_id)

    async def query_raw(self, query: str, *args: Value, model: type[M] | None = None) -> Any:
        """Run a statement, and give its rows.

        Args:
            query: With $1, $2, …
            args: Their values.
            model: Of which the rows are to be; without it they are dictionaries.

        Raises:
            RawQueryError: PostgreSQL refuses it.
        """
        rows = await self._execute_raw(RawStatement("query_raw", query, tuple(parameters_in_json(args))))
        return rows if model is None else [_parsed(model, row) for row in rows]

    async def query_first(self, query: str, *args: Value, model: type[M] | None = None) -> Any:
        """Run a statement, and give its first row, or None.

        Args:
            query: With $1, $2, …
            args: Their values.
            model: Of which the row is to be; without it, it is a dictionary.

        Raises:
            RawQueryError: PostgreSQL refuses it.
        """
        rows = await self.query_raw(query, *args, model=model)
        return rows[0] if rows else None

    async def execute_raw(self, query: str, *args: Value) -> int:
        """Run a statement.

        Args:
            query: With $1, $2, …
            args: Their values.

        Returns:
            How many rows it has written.

        Raises:
            RawQueryError: PostgreSQL refuses it.
        """
        return cast("int", await self._execute_raw(RawStatement("execute_raw", query, tuple(parameters_in_json(args)))))

    def batch_(self) -> "Batch":
        """Collect writes that stand or fall together: `async with client.batch_() as batch`."""
        return Batch(self)

    def tx(
        self, *, max_wait: float | dt.timedelta = MAX_WAIT, timeout: float | dt.timedelta = TRANSACTION_TIMEOUT
    ) -> "TransactionManager":
        """Begin a transaction: `async with client.tx() as transaction`.

        Args:
            max_wait: For a connection; milliseconds if it is a number.
            timeout: After which it is rolled back; milliseconds if it is a number.
        """
        return TransactionManager(client=self, max_wait=max_wait, timeout=timeout)


Client = Prisma


def _parsed(model: type[M], row: Mapping[str, Value]) -> M:
    """Make a pydantic model of a raw row; its Json fields read a text."""
    fields = model.model_fields
    return model.model_validate(
        {
            name: json.dumps(value) if isinstance(value, dict | list) and _is_json(fields.get(name)) else value
            for name, value in row.items()
        }
    )


def _is_json(info: Any) -> bool:
    return "Json" in repr(info)


class _Methods:
    """The calls that a model has, in a client and in a batch: here their arguments become an operation's."""

    @staticmethod
    def _given(**arguments: Value) -> dict[str, Value]:
        return {name: normal(value) for name, value in arguments.items()}


class Actions(_Methods):
    """The calls of a model.

    Args:
        client: By which they are made.
        model: The model's name.
    """

    __slots__ = ("_client", "_name")

    def __init__(self, client: Prisma, model: str) -> None:
        self._client = client
        self._name = model

    async def _run(self, method: str, **arguments: Value) -> Any:
        return await self._client._execute(method, self._name, self._given(**arguments))

    @property
    def _model(self) -> type[BaseModel]:
        return description().entities[self._name].row

    async def query_raw(self, query: str, *args: Value) -> Any:
        """Run a statement that gives rows of this model; see `Prisma.query_raw`.

        Args:
            query: With $1, $2, …
            args: Their values.
        """
        return await self._client.query_raw(query, *args, model=self._model)

    async def query_first(self, query: str, *args: Value) -> Any:
        """Run a statement that gives a row of this model, or None; see `Prisma.query_first`.

        Args:
            query: With $1, $2, …
            args: Their values.
        """
        return await self._client.query_first(query, *args, model=self._model)

    async def create(self, data: Value, include: Value = None) -> Any:
        """Create a row.

        Args:
            data: Its values, and what is to be written beside it.
            include: Relations that the result has.

        Raises:
            DataError: The data is wrong, or there is such a row.
        """
        return await self._run("create", data=data, include=include)

    async def create_many(self, data: Sequence[Value], *, skip_duplicates: bool | None = None) -> int:
        """Create rows.

        Args:
            data: Their values.
            skip_duplicates: Whether those that are there already are left out, rather than an error.

        Returns:
            How many were created.
        """
        # Each row gets Prisma's own names in its turn: many at once would hold up the event loop.
        given = {"data": data, "skipDuplicates": skip_duplicates}
        return cast("int", await self._client._execute("create_many", self._name, given))

    async def delete(self, where: Value, include: Value = None) -> Any:
        """Delete a row.

        Args:
            where: What names it.
            include: Relations that the result has.

        Returns:
            The row; None if there was none.
        """
        try:
            return await self._run("delete", where=where, include=include)
        except errors.RecordNotFoundError:
            return None

    async def find_unique(self, where: Value, include: Value = None) -> Any:
        """Find a row.

        Args:
            where: What names it.
            include: Relations that the result has.

        Returns:
            The row, or None.
        """
        return await self._run("find_unique", where=where, include=include)

    async def find_unique_or_raise(self, where: Value, include: Value = None) -> Any:
        """Find a row that must be there; see `find_unique`.

        Args:
            where: What names it.
            include: Relations that the result has.

        Raises:
            RecordNotFoundError: It is not.
        """
        return await self._run("find_unique_or_raise", where=where, include=include)

    async def find_many(
        self,
        take: int | None = None,
        skip: int | None = None,
        where: Value = None,
        cursor: Value = None,
        include: Value = None,
        order: Value = None,
        distinct: Value = None,
    ) -> Any:
        """Find rows.

        Args:
            take: How many at most; a negative number: the last ones.
            skip: How many of the first are left out.
            where: Filter.
            cursor: What names the row to begin with.
            include: Relations that the results have.
            order: By what they are sorted.
            distinct: Fields of whose combinations only the first row counts.
        """
        return await self._run(
            "find_many",
            take=take,
            skip=skip,
            where=where,
            cursor=cursor,
            include=include,
            orderBy=order,
            distinct=distinct,
        )

    async def find_first(
        self,
        skip: int | None = None,
        where: Value = None,
        cursor: Value = None,
        include: Value = None,
        order: Value = None,
        distinct: Value = None,
    ) -> Any:
        """Find the first row; see `find_many`.

        Args:
            skip: How many of the first are left out.
            where: Filter.
            cursor: What names the row to begin with.
            include: Relations that the result has.
            order: By what they are sorted.
            distinct: Fields of whose combinations only the first row counts.

        Returns:
            The row, or None.
        """
        return await self._run(
            "find_first", skip=skip, where=where, cursor=cursor, include=include, orderBy=order, distinct=distinct
        )

    async def find_first_or_raise(
        self,
        skip: int | None = None,
        where: Value = None,
        cursor: Value = None,
        include: Value = None,
        order: Value = None,
        distinct: Value = None,
    ) -> Any:
        """Find the first row, which must be there; see `find_first`.

        Args:
            skip: How many of the first are left out.
            where: Filter.
            cursor: What names the row to begin with.
            include: Relations that the result has.
            order: By what they are sorted.
            distinct: Fields of whose combinations only the first row counts.

        Raises:
            RecordNotFoundError: There is none.
        """
        return await self._run(
            "find_first_or_raise",
            skip=skip,
            where=where,
            cursor=cursor,
            include=include,
            orderBy=order,
            distinct=distinct,
        )

    async def update(self, data: Value, where: Value, include: Value = None) -> Any:
        """Change a row.

        Args:
            data: What changes.
            where: What names it.
            include: Relations that the result has.

        Returns:
            The row as it is now; None if there is none.
        """
        try:
            return await self._run("update", data=data, where=where, include=include)
        except errors.RecordNotFoundError:
            return None

    async def upsert(self, where: Value, data: Mapping[str, Value], include: Value = None) -> Any:
        """Change a row, or create it.

        Args:
            where: What names it.
            data: {"create": its values, "update": what changes}.
            include: Relations that the result has.

        Returns:
            The row as it is now.
        """
        create, change = data.get("create"), data.get("update")
        return await self._run("upsert", where=where, create=create, update=change, include=include)

    async def update_many(self, data: Value, where: Value) -> int:
        """Change rows.

        Args:
            data: What changes.
            where: Filter.

        Returns:
            How many were changed.
        """
        return cast("int", await self._run("update_many", data=data, where=where))

    async def count(
        self,
        select: Value = None,
        take: int | None = None,
        skip: int | None = None,
        where: Value = None,
        cursor: Value = None,
    ) -> Any:
        """Count rows.

        Args:
            select: Fields whose values are counted; without them the rows are.
            take: How many are looked at, at most.
            skip: How many of the first are left out.
            where: Filter.
            cursor: What names the row to begin with.

        Returns:
            A number, or with `select` one for each field.
        """
        return await self._run("count", select=select, take=take, skip=skip, where=where, cursor=cursor)

    async def delete_many(self, where: Value = None) -> int:
        """Delete rows.

        Args:
            where: Filter.

        Returns:
            How many were deleted.
        """
        return cast("int", await self._run("delete_many", where=where))

    async def group_by(
        self,
        by: Sequence[str],
        *,
        where: Value = None,
        take: int | None = None,
        skip: int | None = None,
        avg: Value = None,
        sum: Value = None,  # noqa: A002 - prisma-client-py's name
        min: Value = None,  # noqa: A002
        max: Value = None,  # noqa: A002
        having: Value = None,
        count: Value = None,
        order: Value = None,
    ) -> Any:
        """Count and add up, by groups of rows.

        Args:
            by: Fields of whose combinations each is a group.
            where: Filter of rows.
            take: How many groups at most.
            skip: How many of the first are left out.
            avg: {"field": True}: averages, in `_avg`.
            sum: Sums, in `_sum`.
            min: Least values, in `_min`.
            max: Greatest values, in `_max`.
            having: Filter of groups.
            count: True: how many rows, in `_count`; or {"field": True}: how many values.
            order: By what the groups are sorted.

        Raises:
            TypeError: There is a `take` or a `skip`, and no order.
        """
        for name, value in (("take", take), ("skip", skip)):
            if order is None and value is not None:
                raise TypeError(f"Missing argument: 'order' which is required when '{name}' is present")
        wanted = {
            "_avg": avg,
            "_min": min,
            "_sum": sum,
            "_max": max,
            "_count": {"_all": True} if count is True else count,
        }
        aggregates = {
            name: [field for field, is_wanted in fields.items() if is_wanted is True]
            for name, fields in wanted.items()
            if isinstance(fields, Mapping)
        }
        return await self._run(
            "group_by", by=list(by), where=where, take=take, skip=skip, having=having, orderBy=order, **aggregates
        )


class BatchActions(_Methods):
    """The writes of a model, for a batch; see `Actions`.

    Args:
        batch: Where they are collected.
        model: The model's name.
    """

    __slots__ = ("_batch", "_name")

    def __init__(self, batch: "Batch", model: str) -> None:
        self._batch = batch
        self._name = model

    def _add(self, method: str, **arguments: Value) -> None:
        self._batch._steps.append(Operation(method, self._name, self._given(**arguments)))

    def create(self, data: Value, include: Value = None) -> None:
        """Create a row.

        Args:
            data: Its values.
            include: Without meaning here.
        """
        self._add("create", data=data, include=include)

    def create_many(self, data: Sequence[Value], *, skip_duplicates: bool | None = None) -> None:
        """Create rows.

        Args:
            data: Their values.
            skip_duplicates: Whether those that are there already are left out.
        """
        self._add("create_many", data=data, skipDuplicates=skip_duplicates)

    def delete(self, where: Value, include: Value = None) -> None:
        """Delete a row, which must be there.

        Args:
            where: What names it.
            include: Without meaning here.
        """
        self._add("delete", where=where, include=include)

    def update(self, data: Value, where: Value, include: Value = None) -> None:
        """Change a row, which must be there.

        Args:
            data: What changes.
            where: What names it.
            include: Without meaning here.
        """
        self._add("update", data=data, where=where, include=include)

    def upsert(self, where: Value, data: Mapping[str, Value], include: Value = None) -> None:
        """Change a row, or create it.

        Args:
            where: What names it.
            data: {"create": its values, "update": what changes}.
            include: Without meaning here.
        """
        self._add("upsert", where=where, create=data.get("create"), update=data.get("update"), include=include)

    def update_many(self, data: Value, where: Value) -> None:
        """Change rows.

        Args:
            data: What changes.
            where: Filter.
        """
        self._add("update_many", data=data, where=where)

    def delete_many(self, where: Value = None) -> None:
        """Delete rows.

        Args:
            where: Filter.
        """
        self._add("delete_many", where=where)


class Batch:
    """Writes that stand or fall together. Its attributes are the models, in lower case.

    Args:
        client: By which they are made.
    """

    def __init__(self, client: Prisma) -> None:
        self._client = client
        self._steps: list[Operation | RawStatement] = []
        for accessor, model in description().accessors.items():
            setattr(self, accessor, BatchActions(self, model))

    def __getattr__(self, name: str) -> Any:
        """Say that there is no such model; those that are there are set as attributes."""
        raise AttributeError(
            f"LiteLLM's schema has no model {name!r}: it and this release of LiteLLM do not belong together"
        )

    def execute_raw(self, query: str, *args: Value) -> None:
        """Run a statement.

        Args:
            query: With $1, $2, …
            args: Their values.
        """
        self._steps.append(RawStatement("execute_raw", query, tuple(parameters_in_json(args))))

    async def commit(self) -> None:
        """Do it all.

        Raises:
            PrismaError: One of the writes cannot be done, so none has been.
        """
        steps, self._steps = self._steps, []
        await self._client._engine.query(
            Query.of(*steps, text='{"batch": []}', is_batch=True), tx_id=self._client._tx_id
        )

    async def __aenter__(self) -> "Batch":
        """Begin to collect."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do it all, if nothing went wrong before."""
        if error is None:
            await self.commit()


class TransactionManager:
    """A transaction to be begun; made by `Prisma.tx`.

    Args:
        client: By which.
        max_wait: For a connection; milliseconds if it is a number.
        timeout: After which it is rolled back; milliseconds if it is a number.
    """

    def __init__(self, *, client: Prisma, max_wait: float | dt.timedelta, timeout: float | dt.timedelta) -> None:
        self._client = client
        self._limits = {"timeout": _milliseconds(timeout), "max_wait": _milliseconds(max_wait)}
        self._tx_id: str | None = None

    async def start(self) -> Prisma:
        """Begin.

        Returns:
            A client whose calls are within the transaction.

        Raises:
            TransactionError: No connection became free in time.
        """
        if self._client.is_transaction():
            warnings.warn(
                "The current client is already in a transaction. This can lead to surprising behaviour.",
                UserWarning,
                stacklevel=3,
            )
        self._tx_id = await self._client._engine.start_transaction(content=json.dumps(self._limits))
        client = self._client._copy()
        client._tx_id = self._tx_id
        return client

    async def commit(self) -> None:
        """Commit.

        Raises:
            TransactionError: It is not open, or cannot be committed.
        """
        await self._client._engine.commit_transaction(self._begun())

    async def rollback(self) -> None:
        """Roll back.

        Raises:
            TransactionError: It is not open.
        """
        await self._client._engine.rollback_transaction(self._begun())

    def _begun(self) -> str:
        if self._tx_id is None:
            raise errors.TransactionNotStartedError
        return self._tx_id

    async def __aenter__(self) -> Prisma:
        """Begin."""
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit; roll back, if something went wrong within."""
        if error is None:
            await self.commit()
            return
        try:
            await self.rollback()
        except errors.PrismaError as failure:  # it is over, then; what went wrong first counts
            log.warning("action=rollback_failed reason=%s", failure)


# --- the registry -------------------------------------------------------------------------------------------------

_registered: list[Prisma] = []


def register(client: Prisma) -> None:
    """Make a client the one that `get_client` gives.

    Args:
        client: Which.

    Raises:
        ClientAlreadyRegisteredError: There is one.
    """
    if _registered:
        raise errors.ClientAlreadyRegisteredError
    _registered.append(client)


def get_client() -> Prisma:
    """Give the client that was registered.

    Raises:
        ClientNotRegisteredError: There is none.
    """
    if not _registered:
        raise errors.ClientNotRegisteredError
    return _registered[0]
