"""Rows into PostgreSQL: COPY in its binary format, each row once.

A row that cannot be there yet is copied into its table at once. One that may be there, since the answer to a commit
can be lost on its way, is copied into a temporary table and inserted from there: what is there stays, but for a
response that only says `interrupted`, which the real one replaces.
"""

import contextlib
import datetime as dt
import decimal
import functools
import io
import ipaddress
import os
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg2
from sqlalchemy import Column, Connection, Engine, MetaData, Table, event, exists, func, select, update
from sqlalchemy.dialects.postgresql import INET, JSONB, dialect, insert
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import BigInteger, Boolean, DateTime, Double, LargeBinary, Numeric, SmallInteger, Text, Uuid

from litellm_sqlalchemy.ledger.models import Base
from litellm_sqlalchemy.ledger.rows import Row
from litellm_sqlalchemy.ledger.spool import Kind

REQUESTS, RESPONSES, USAGES = (Base.metadata.tables[name] for name in ("requests", "responses", "usages"))
TABLES: Mapping[Kind, Table] = {"request": REQUESTS, "response": RESPONSES, "usage": USAGES}
"""In the order in which they are filled: responses refer to requests."""
DIALECT: Dialect = dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
COPY_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # without flags, without an extension
COPY_END = b"\xff\xff"
COPY_BYTES_AT_ONCE = 1 << 24  # each piece waits for the lock of the thread that makes rows
NULL = b"\xff\xff\xff\xff"
EPOCH_MICROSECONDS = 946_684_800_000_000  # PostgreSQL counts from 2000 on


class Store:
    """The ledger's tables. Used by one thread at a time, but for `abort` and `busy_seconds`.

    Args:
        engine: Their database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: DBAPIConnection | None = None
        self._since: float | None = None
        event.listen(engine, "connect", self._connected, insert=True)  # first of all: what follows may hang

    def _connected(self, connection: DBAPIConnection, _record: object) -> None:
        self._connection = connection
        with contextlib.closing(connection.cursor()) as cursor:
            for table in TABLES.values():
                cursor.execute(str(CreateTable(_temporary(table)).compile(dialect=DIALECT)))
        connection.commit()

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def busy_seconds(self) -> float:
        """Say for how long PostgreSQL has had something to do that it has not done yet."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def abort(self) -> None:
        """Cut the connection, whatever waits for an answer on it: that gets an error."""
        if self._connection is not None:
            # The descriptor may be closed by now, or closes meanwhile.
            with (
                contextlib.suppress(psycopg2.Error, OSError),
                socket.socket(fileno=os.dup(self._connection.fileno())) as end,
            ):
                end.shutdown(socket.SHUT_RDWR)

    def add(self, rows: Mapping[Kind, Sequence[bytes]], *, may_be_there: bool) -> None:
        """Store rows in one transaction.

        Args:
            rows: By kind, as `packed` gives them; of two responses to a request only one.
            may_be_there: Whether some of them may be stored already.

        Raises:
            database.ERRORS: None of them is stored, or the answer that they are was lost.
        """
        with self._busy(), self._engine.begin() as connection:
            for kind, table in TABLES.items():
                if wanted := rows.get(kind):
                    # Of usages those are left out that have no request.
                    (_merge if may_be_there or kind == "usage" else _copy)(connection, table, wanted)

    def requests(self, ids: Iterable[tuple[int, bytes]]) -> dict[bytes, str]:
        """Look for requests.

        Args:
            ids: Of each, received_at in Unix microseconds and id.

        Returns:
            By id, what the policies let in of those that are there.
        """
        keys: list[tuple[dt.datetime, uuid.UUID]] = []
        for microseconds, identifier in ids:
            with contextlib.suppress(OverflowError):  # a time that no clock has: there is no such request
                keys.append((_moment(microseconds), uuid.UUID(bytes=identifier)))
        columns = REQUESTS.columns
        with self._busy(), self._engine.connect() as connection:
            found: dict[bytes, str] = {}
            for received_at, exchange in keys:  # few, if any: each in a partition of its own
                query = select(columns.capture).where(columns.received_at == received_at, columns.id == exchange)
                if (capture := connection.scalar(query)) is not None:
                    found[exchange.bytes] = capture
            return found

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()


def _moment(microseconds: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)


# --- SQL --------------------------------------------------------------------------------------------------------


@functools.cache
def _temporary(table: Table) -> Table:
    columns = [Column(column.name, column.type) for column in table.columns]
    return Table(
        f"incoming_{table.name}",
        MetaData(),
        *columns,
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DELETE ROWS",
    )


def _copy(connection: Connection, table: Table, rows: Sequence[bytes], into: str | None = None) -> None:
    with contextlib.closing(connection.connection.cursor()) as cursor:
        cursor.copy_expert(
            f"COPY {into or table.name} ({', '.join(_columns(table))}) FROM STDIN (FORMAT binary)",  # the models' names
            io.BytesIO(b"".join([COPY_BEGIN, *rows, COPY_END])),
            size=COPY_BYTES_AT_ONCE,
        )


def _merge(connection: Connection, table: Table, rows: Sequence[bytes]) -> None:
    incoming = _temporary(table)
    _copy(connection, table, rows, incoming.name)
    names = [column.name for column in table.columns]
    new = select(incoming)
    if table is USAGES:  # what the policies keep out has no request
        new = new.where(
            exists(REQUESTS.columns.id).where(  # of *, the drain may not read all
                REQUESTS.columns.received_at == incoming.columns.received_at, REQUESTS.columns.id == incoming.columns.id
            )
        )
    added = connection.execute(insert(table).from_select(names, new).on_conflict_do_nothing())
    if table is RESPONSES and added.rowcount < len(rows):
        _replace_interrupted(connection)


def _replace_interrupted(connection: Connection) -> None:
    # Not ON CONFLICT DO UPDATE: whoever refers to EXCLUDED must be allowed to read the table's column of that name, and
    # the drain may read no bodies.
    there, incoming = RESPONSES.columns, _temporary(RESPONSES).columns
    # As literals, that PostgreSQL looks into their days alone.
    first, last = connection.execute(select(func.min(incoming.received_at), func.max(incoming.received_at))).one()
    connection.execute(
        update(RESPONSES)
        .values({column.name: incoming[column.name] for column in there if not column.primary_key})
        .where(there.received_at.between(first, last))
        .where(there.received_at == incoming.received_at, there.id == incoming.id)
        .where(there.outcome == "interrupted", there.finished_at.is_(None), incoming.finished_at.is_not(None))
    )


# --- COPY's binary format: each value with its length before it -------------------------------------------------


def packed(kind: Kind, row: Row) -> bytes:
    """Write a row for COPY.

    Args:
        kind: Which table it is for.
        row: Its values.

    Raises:
        Exception: A value does not suit its column: a number is too large, a text has half a surrogate pair…
    """
    columns = _columns(TABLES[kind])
    fields = [len(columns).to_bytes(2, "big")]
    for name, pack in columns.items():
        value = row.get(name)
        fields.append(NULL if value is None else pack(value))
    return b"".join(fields)


@functools.cache
def _columns(table: Table) -> dict[str, Callable[[Any], bytes]]:
    return {column.name: _PACK[type(column.type)] for column in table.columns}


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(4, "big") + data


def _bytes(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _jsonb(value: str) -> bytes:
    data = value.encode()
    return (len(data) + 1).to_bytes(4, "big") + b"\x01" + data  # the format's version


def _numeric(value: decimal.Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - a finite number
    text = "".join(map(str, digits)) + "0" * (exponent % 4)
    text = "0" * (-len(text) % 4) + text
    groups = [int(text[at : at + 4]) for at in range(0, len(text), 4)]
    weight = len(groups) - 1 + exponent // 4
    header = struct.pack(">hhHH", len(groups), weight, 0x4000 if sign else 0, max(-exponent, 0))
    return _bytes(header + struct.pack(f">{len(groups)}H", *groups))


def _inet(value: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    family = 2 if value.version == 4 else 3
    return _bytes(bytes((family, value.max_prefixlen, 0, len(value.packed))) + value.packed)


def _fixed(layout: str) -> Callable[[Any], bytes]:
    size, pack = struct.calcsize(layout), struct.Struct(">i" + layout).pack
    return lambda value: pack(size, value)


_bigint = _fixed("q")
_PACK: Mapping[type, Callable[[Any], bytes]] = {
    BigInteger: _bigint,
    Boolean: _fixed("?"),
    DateTime: lambda value: _bigint(value - EPOCH_MICROSECONDS),
    Double: _fixed("d"),
    INET: _inet,
    JSONB: _jsonb,
    LargeBinary: _bytes,
    Numeric: _numeric,
    SmallInteger: _fixed("h"),
    Text: _text,
    Uuid: _bytes,
}
