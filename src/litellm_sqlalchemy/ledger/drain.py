"""The service that takes records out of the spool and puts them into PostgreSQL, each exactly once.

A batch is copied into temporary tables and inserted from there with ON CONFLICT DO NOTHING in one transaction; only
when that is committed is it deleted from the spool. Whatever dies in between, the batch is read again, and the rows
that are there already stay as they are.
"""

import contextlib
import datetime as dt
import decimal
import functools
import hashlib
import io
import ipaddress
import json
import logging
import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, Table, event, select
from sqlalchemy.dialects.postgresql import dialect, insert
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.schema import CreateTable

from litellm_sqlalchemy import systemd
from litellm_sqlalchemy.database import ERRORS, one_line, sqlstate
from litellm_sqlalchemy.ledger.models import Base
from litellm_sqlalchemy.ledger.parse import decoded, parse_request, parse_response, storable_text
from litellm_sqlalchemy.ledger.spool import Record, Spool, SpooledRecord

POLL_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
# SQLSTATE classes that say "this row", not "this database": data exception, integrity constraint violation,
# program limit exceeded, internal error (so PostgreSQL calls jsonb that is too large; but not XX001 and XX002, a
# damaged table or index). Anything else (no connection, no space, no such table yet, …) is waited out.
ROW_ERRORS = frozenset({"22", "23", "54", "XX"})
DAMAGED = frozenset({"XX001", "XX002"})
TABLES: Mapping[str, Table] = {
    "request": Base.metadata.tables["requests"],
    "response": Base.metadata.tables["responses"],
}
DIALECT: Dialect = dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

log = logging.getLogger("litellm_sqlalchemy.drain")
Row = dict[str, Any]


class Drain:
    """Moves records from a spool into a database until it is told to stop.

    Args:
        spool: Where the records are.
        engine: The database.
        batch_records: Most records in one transaction.
        batch_bytes: Bytes of bodies after which a batch is closed.
    """

    def __init__(self, spool: Spool, engine: Engine, *, batch_records: int, batch_bytes: int) -> None:
        self._spool = spool
        self._engine = engine
        self._batch_records = batch_records
        self._batch_bytes = batch_bytes
        self._stop = threading.Event()
        event.listen(engine, "connect", _make_temporary_tables)

    def stop(self) -> None:
        """Ask `run` to return after the batch that it is at."""
        self._stop.set()

    def run(self) -> None:
        """Drain until `stop`; wait out whatever is wrong with the database.

        Raises:
            sqlite3.Error: The spool cannot be read; systemd starts the service again.
        """
        systemd.notify("READY=1")
        log.info("action=started")
        pause = FIRST_PAUSE_SECONDS
        while not self._stop.is_set():
            try:
                moved = self.run_once()
            except ERRORS as error:
                log.warning("action=waiting sqlstate=%s reason=%s", sqlstate(error) or "none", one_line(error))
                self._stop.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            if moved == 0:
                self._spool.shrink()
                self._stop.wait(POLL_SECONDS)
        self._engine.dispose()
        log.info("action=stopped")

    def run_once(self) -> int:
        """Move one batch.

        Returns:
            How many records left the spool.

        Raises:
            database.ERRORS: The database cannot take rows now; what it has not is still in the spool.
        """
        rows: list[tuple[SpooledRecord, Row]] = []
        handled = size = 0
        for record in self._spool.read(self._batch_records, self._batch_bytes):
            handled += 1
            row = self._row(record)
            if row is not None:
                rows.append((record, row))
                # Decoded, a batch may be far larger than in the spool.
                size += sum(len(row[name] or "") for name in ("body", "body_text", "body_bytes"))
                if size >= self._batch_bytes:
                    break
        if rows:
            self._move(rows)
        return handled

    def _row(self, record: SpooledRecord) -> Row | None:
        try:
            return row_of(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must not wait for it
            self._reject(record, f"{type(error).__name__}: {error}")
            return None

    def _move(self, rows: Sequence[tuple[SpooledRecord, Row]]) -> None:
        """Store rows; if PostgreSQL refuses one of them, halve them until that one is alone."""
        try:
            self._store(rows)
        except ERRORS as error:
            if not _is_about_a_row(error):
                raise
            if len(rows) == 1:
                self._move_refused(*rows[0])
                return
            middle = len(rows) // 2
            self._move(rows[:middle])
            self._move(rows[middle:])
            return
        self._spool.delete(record.sequence for record, _ in rows)

    def _move_refused(self, record: SpooledRecord, row: Row) -> None:
        """Store a row without its jsonb, which is the part that can be refused; else set its record aside."""
        try:
            self._store([(record, {**row, "body": None})])
        except ERRORS as error:
            if not _is_about_a_row(error):
                raise
            self._reject(record, f"{sqlstate(error)}: {one_line(error)}")
        else:
            self._spool.delete([record.sequence])
            log.warning("action=stored_without_jsonb kind=%s exchange=%s", record.kind, record.exchange)

    def _reject(self, record: SpooledRecord, reason: str) -> None:
        self._spool.reject(record.sequence, reason)
        log.error("action=rejected kind=%s exchange=%s reason=%s", record.kind, record.exchange, reason)

    def _store(self, rows: Sequence[tuple[SpooledRecord, Row]]) -> None:
        with self._engine.begin() as connection:
            for kind, table in TABLES.items():  # requests first: responses refer to them
                wanted = [row for record, row in rows if record.kind == kind]
                if wanted:
                    _copy(connection, table, wanted)


def _is_about_a_row(error: Exception) -> bool:
    code = sqlstate(error) or ""
    return code[:2] in ROW_ERRORS and code not in DAMAGED


# --- rows -------------------------------------------------------------------------------------------------------


def row_of(record: Record) -> Row:
    """Make a table's row of a record.

    Args:
        record: As it was spooled, by this release or the one before: what only this one writes is read with `get`.

    Returns:
        A value for each column of `requests` or `responses`; jsonb as JSON text.
    """
    facts = json.loads(record.facts)
    headers = {storable_text(name): storable_text(value) for name, value in facts["headers"].items()}
    row: Row = {
        "received_at": EPOCH + dt.timedelta(microseconds=record.received_at),
        "id": record.exchange,
        "call_id": storable_text(facts["call_id"]),
        "headers": json.dumps(headers, ensure_ascii=False),
        "content_type": headers.get("content-type"),
        "body_size": facts["size"],
        "capture": "full",
        "body_sha256": None if record.body is None else hashlib.sha256(record.body).digest(),
        "redactions": 0,
    }
    return row | (_request(facts, headers, record) if record.kind == "request" else _response(facts, headers, record))


def _request(facts: Row, headers: Mapping[str, str], record: Record) -> Row:
    # Not decoded: LiteLLM does not decode requests either.
    parsed = parse_request(facts["path"], record.body)
    said = headers.get("x-litellm-end-user-id") or headers.get("x-litellm-customer-id")
    return {
        "method": facts["method"],
        "path": storable_text(facts["path"]),
        "query": facts["query"] and storable_text(facts["query"]),
        "model": parsed.model,
        "stream": parsed.stream,
        "key_hash": facts["key_hash"],
        "end_user": said or parsed.end_user,
        "client_address": _address(facts["client"]),
        "user_agent": headers.get("user-agent"),
        "body_complete": facts["complete"],
        "body": parsed.body.document,
        "body_text": parsed.body.text,
        "body_bytes": parsed.body.other,
    }


def _response(facts: Row, headers: Mapping[str, str], record: Record) -> Row:
    body = decoded(record.body, headers.get("content-encoding", ""))
    parsed = parse_response(facts["outcome"], facts["status"], headers.get("content-type", ""), body)
    received_at = EPOCH + dt.timedelta(microseconds=record.received_at)
    return {
        "finished_at": received_at + dt.timedelta(milliseconds=facts["duration_ms"]),
        "outcome": parsed.outcome,
        "status": facts["status"],
        "model": parsed.model,
        "provider": _provider(headers),
        "prompt_tokens": parsed.prompt_tokens,
        "completion_tokens": parsed.completion_tokens,
        "total_tokens": parsed.total_tokens,
        "cost": _cost(headers.get("x-litellm-response-cost")),
        "cache_hit": "x-litellm-cache-key" in headers,
        "time_to_first_byte_ms": facts["time_to_first_byte_ms"],
        "duration_ms": facts["duration_ms"],
        "error": parsed.error or facts["error"],
        "body": parsed.body.document,
        "body_text": parsed.body.text,
        "body_bytes": parsed.body.other,
    }


def _address(text: str | None) -> str | None:
    try:
        return str(ipaddress.ip_address((text or "").partition("%")[0]))
    except ValueError:  # a Unix socket, or a proxy that reports a name
        return None


def _cost(text: str | None) -> decimal.Decimal | None:
    try:
        cost = decimal.Decimal(text or "")
    except decimal.InvalidOperation:  # LiteLLM writes None where it knows no price
        return None
    return cost if cost.is_finite() and -30 < cost.adjusted() < 30 else None


def _provider(headers: Mapping[str, str]) -> str | None:
    provider, slash, _ = headers.get("x-litellm-model-name", "").partition("/")
    return provider if slash else None


# --- COPY -------------------------------------------------------------------------------------------------------


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


def _make_temporary_tables(connection: DBAPIConnection, _record: object) -> None:
    with contextlib.closing(connection.cursor()) as cursor:
        for table in TABLES.values():
            cursor.execute(str(CreateTable(_temporary(table)).compile(dialect=DIALECT)))
    connection.commit()


def _copy(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    """Insert rows, those that are there already left as they are."""
    incoming = _temporary(table)
    names = [column.name for column in table.columns]
    lines = ("\t".join(_field(row[name]) for name in names) + "\n" for row in rows)
    with contextlib.closing(connection.connection.cursor()) as cursor:
        cursor.copy_expert(
            f"COPY {incoming.name} ({', '.join(names)}) FROM STDIN",  # the models' names
            io.StringIO("".join(lines)),
        )
    connection.execute(insert(table).from_select(names, select(incoming)).on_conflict_do_nothing())


def _field(value: object) -> str:
    r"""Write a value for COPY's text format: \N is NULL, a backslash goes before what would end a field."""
    if value is None:
        return r"\N"
    if isinstance(value, bytes):
        return rf"\\x{value.hex()}"
    return str(value).translate(_ESCAPES)


_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
