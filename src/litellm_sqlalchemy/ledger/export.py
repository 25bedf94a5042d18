"""Exchanges written to a file: JSON Lines, or Parquet for analysis.

One line or row an exchange, with all columns of its request, response and usage. Read in pieces, each a short query of
its own: memory stays the same however much there is, and no transaction stands in the way of retention.
"""

import base64
import contextlib
import datetime as dt
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol
from uuid import UUID

import orjson
from sqlalchemy import Column, ColumnElement, Engine, Select, and_, cast, func, select, tuple_
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.types import (
    BigInteger,
    Boolean,
    DateTime,
    Double,
    LargeBinary,
    Numeric,
    SmallInteger,
    Text,
    TypeEngine,
    Uuid,
)

from litellm_sqlalchemy.ledger.models import Base
from litellm_sqlalchemy.ledger.whole_file import whole_file

PIECE_ROWS = 1_000
PIECE_BYTES = 16 << 20  # of bodies as they came
BEFORE_ANY = UUID(int=0)
TABLES = {name: Base.metadata.tables[f"{name}s"] for name in ("request", "response", "usage")}
KEY = ("received_at", "id")
COLUMNS: dict[str, Column[Any]] = {
    **{name: TABLES["request"].c[name] for name in KEY},
    **{
        f"{kind}_{column.name}": column
        for kind, table in TABLES.items()
        for column in table.c
        if column.name not in KEY
    },
}

Row = Sequence[Any]


class Writer(Protocol):
    """What writes rows in a format."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows, each with a value for each of COLUMNS."""

    def close(self) -> None:
        """Write what ends the file."""


def export(
    engine: Engine,
    since: dt.datetime,
    until: dt.datetime,
    make_writer: Callable[[IO[bytes]], Writer],
    output: Path | None,
) -> Iterator[tuple[int, dt.datetime]]:
    """Write the exchanges whose requests arrived in a span of time.

    Args:
        engine: The database.
        since: From here on.
        until: Up to here, itself not included.
        make_writer: Makes the format's writer of an open file.
        output: File, which appears when it is complete; None for standard output.

    Yields:
        After each piece, how many exchanges are written and when the last one's request arrived.

    Raises:
        OSError: The file cannot be written; nothing of it is left.
    """
    count = 0
    with whole_file(output) if output else contextlib.nullcontext(sys.stdout.buffer) as file:
        writer = make_writer(file)
        for rows in _pieces(engine, since, until):
            writer.write(rows)
            count += len(rows)
            yield count, rows[-1][0]
        writer.close()
        file.flush()


# --- reading ----------------------------------------------------------------------------------------------------


def _pieces(engine: Engine, since: dt.datetime, until: dt.datetime) -> Iterator[list[Row]]:
    position = (since, BEFORE_ANY)
    while True:
        with engine.connect() as connection:
            keys = connection.execute(_keys(position, until)).all()
            if not keys:
                return
            size = length = 0
            for row in keys:
                size += row[2]
                if length and size > PIECE_BYTES:
                    break
                length += 1
            last = (keys[length - 1][0], keys[length - 1][1])
            yield [*connection.execute(_rows(position, last))]
            position = last


def _joined(statement: Select[Any], first: dt.datetime, last: dt.datetime) -> Select[Any]:
    """Join the tables; that a piece has an end in each of them is not seen by PostgreSQL through the join."""
    requests = TABLES["request"]
    source: Any = requests
    for kind in ("response", "usage"):
        table = TABLES[kind]
        same = and_(table.c.received_at == requests.c.received_at, table.c.id == requests.c.id)
        source = source.outerjoin(table, and_(same, table.c.received_at.between(first, last)))
    return statement.select_from(source).where(requests.c.received_at.between(first, last))


def _keys(position: tuple[dt.datetime, UUID], until: dt.datetime) -> Select[Any]:
    requests, responses = TABLES["request"], TABLES["response"]
    size = requests.c.body_size + func.coalesce(responses.c.body_size, 0)
    key = tuple_(requests.c.received_at, requests.c.id)
    return (
        _joined(select(requests.c.received_at, requests.c.id, size), position[0], until)
        .where(key > position, requests.c.received_at < until)
        .order_by(requests.c.received_at, requests.c.id)
        .limit(PIECE_ROWS)
    )


def _rows(position: tuple[dt.datetime, UUID], last: tuple[dt.datetime, UUID]) -> Select[Any]:
    requests = TABLES["request"]
    columns = [_as_read(column).label(name) for name, column in COLUMNS.items()]
    key = tuple_(requests.c.received_at, requests.c.id)
    return (
        _joined(select(*columns), position[0], last[0])
        .where(key > position, key <= last)
        .order_by(requests.c.received_at, requests.c.id)
    )


def _as_read(column: Column[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, JSONB):
        # As text: reading it into Python's objects only to write them again takes most of the time.
        return cast(column, Text)
    return func.host(column) if isinstance(column.type, INET) else column


# --- JSON Lines -------------------------------------------------------------------------------------------------


class JsonLines:
    """One JSON object a line: jsonb as JSON, bytes in Base64, costs as numbers with all their digits.

    Args:
        file: Where to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writers = [_json_of(column.type) for column in COLUMNS.values()]

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows."""
        for row in rows:
            fields = {
                name: None if value is None else write(value)
                for name, write, value in zip(COLUMNS, self._writers, row, strict=True)
            }
            self._file.write(orjson.dumps(fields) + b"\n")

    def close(self) -> None:
        """Nothing ends such a file."""


def _json_of(kind: TypeEngine[Any]) -> Callable[[Any], Any]:
    if isinstance(kind, JSONB):
        return orjson.Fragment
    if isinstance(kind, LargeBinary):
        return lambda value: base64.b64encode(value).decode()
    if isinstance(kind, DateTime):
        return lambda value: value.astimezone(dt.UTC)
    if isinstance(kind, Numeric) and not isinstance(kind, Double):
        return lambda value: orjson.Fragment(f"{value:f}")
    return lambda value: value


# --- Parquet ----------------------------------------------------------------------------------------------------


class Parquet:
    """Apache Parquet: jsonb as text, costs as doubles, times in UTC.

    Args:
        file: Where to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow as pa  # noqa: PLC0415 - slow to import, and the drain needs none of it
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._arrow = pa
        types = {
            BigInteger: pa.int64(),
            Boolean: pa.bool_(),
            DateTime: pa.timestamp("us", tz="UTC"),
            Double: pa.float64(),
            LargeBinary: pa.binary(),
            SmallInteger: pa.int16(),
            Numeric: pa.float64(),
        }

        self._schema = pa.schema(
            [
                (name, next((arrow for kind, arrow in types.items() if isinstance(column.type, kind)), pa.string()))
                for name, column in COLUMNS.items()
            ]
        )
        self._writers = [_parquet_of(column.type) for column in COLUMNS.values()]
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows as a row group."""
        columns = [
            [None if value is None else write(value) for value in values]
            for write, values in zip(self._writers, zip(*rows, strict=True), strict=True)
        ]
        arrays = [self._arrow.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


def _parquet_of(kind: TypeEngine[Any]) -> Callable[[Any], Any]:
    if isinstance(kind, Numeric):
        return float
    if isinstance(kind, LargeBinary):
        return bytes
    return str if isinstance(kind, Uuid) else lambda value: value


FORMATS: dict[str, type[JsonLines] | type[Parquet]] = {"jsonl": JsonLines, "parquet": Parquet}
