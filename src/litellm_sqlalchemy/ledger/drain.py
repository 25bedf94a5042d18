"""The service that takes records out of the spool and puts them into PostgreSQL, each exactly once.

A batch is stored in one transaction; only when that is committed does it leave the spool. Whatever dies in between,
the batch is read again, and what is there already stays as it is. While PostgreSQL stores one batch, the next one is
read and made ready.
"""

import concurrent.futures
import logging
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from sqlalchemy import Engine

from litellm_sqlalchemy import systemd
from litellm_sqlalchemy.database import ERRORS, one_line, sqlstate
from litellm_sqlalchemy.ledger import locks
from litellm_sqlalchemy.ledger.exporter import DrainMetrics
from litellm_sqlalchemy.ledger.policy import Capture
from litellm_sqlalchemy.ledger.rows import Row, RowMaker, interrupted
from litellm_sqlalchemy.ledger.spool import Kind, OpenExchange, Spool, SpooledRecord
from litellm_sqlalchemy.ledger.store import TABLES, Store, packed

POLL_SECONDS = 0.5  # what has come meanwhile is one batch, which costs less than many small ones
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
LONGEST_SILENCE_SECONDS = 60.0  # of PostgreSQL within a transaction: then the connection is cut
LAST_BATCH_SECONDS = 5.0  # at shutdown; what is not stored by then stays in the spool
BATCH_SECONDS = 5.0  # of making rows: then the batch is closed
ALIVE_SECONDS = 1.0
# SQLSTATE classes that say "this row", not "this database": data exception, integrity constraint violation,
# program limit exceeded, internal error (so PostgreSQL calls jsonb that is too large; but not XX001 and XX002, a
# damaged table or index). Anything else (no connection, no space, no such table yet, …) is waited out.
ROW_ERRORS = frozenset({"22", "23", "54", "XX"})
DAMAGED = frozenset({"XX001", "XX002"})

log = logging.getLogger("litellm_sqlalchemy.drain")


@dataclass(slots=True)
class _Item:
    """A row on its way; sequence is 0 for one that no record of the spool is behind."""

    sequence: int
    kind: Kind
    id: bytes
    row: Row
    packed: bytes


@dataclass(slots=True)
class _Batch:
    """What was read of the spool and leaves it together."""

    last: int
    more: bool = True  # may be in the spool behind it
    handled: int = 0
    size: int = 0
    items: list[_Item] = field(default_factory=list)
    orphans: dict[bytes, SpooledRecord] = field(default_factory=dict)  # responses to requests that are not known
    rejected: list[tuple[SpooledRecord | _Item, str]] = field(default_factory=list)
    opened: dict[bytes, OpenExchange] = field(default_factory=dict)
    closed: list[bytes] = field(default_factory=list)
    stored: dict[Kind, int] = field(default_factory=dict)  # rows
    seen: set[tuple[Kind, bytes]] = field(default_factory=set)  # of an exchange's responses and usages the first counts


class Drain:
    """Moves records from a spool into a database until it is told to stop.

    Args:
        spool: Where the records are.
        engine: The database.
        batch_records: Most records in one transaction.
        batch_bytes: Bytes of bodies after which a batch is closed.
        rows: Makes rows of records, by the policies and redactions.
        metrics: Where it says how it is.
    """

    def __init__(
        self,
        spool: Spool,
        engine: Engine,
        *,
        batch_records: int,
        batch_bytes: int,
        rows: RowMaker | None = None,
        metrics: DrainMetrics | None = None,
    ) -> None:
        self._spool = spool
        spool.relax()
        self._store = Store(engine)
        self._batch_records = batch_records
        self._batch_bytes = batch_bytes
        self._rows = rows or RowMaker()
        self._metrics = metrics or DrainMetrics()
        self._stop = threading.Event()
        self._certain = False  # that no row of the next batch is stored already
        self._alive_at = 0.0
        self._looked_at = 0.0
        self._waiting = False  # for the database to take rows again
        self._read_again()

    def _read_again(self) -> None:
        """Forget what was read and is not settled."""
        self._read = self._settled = 0
        self._open = self._spool.open_exchanges()
        self._gone: dict[str, int] = {}

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
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="store") as storing:
            while not self._stop.is_set():
                self._alive()
                try:
                    moved = self._run(storing)
                except ERRORS as error:
                    if self._stop.is_set():
                        break
                    self._waiting = True
                    log.warning("action=waiting sqlstate=%s reason=%s", sqlstate(error) or "none", one_line(error))
                    self._stop.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                    continue
                pause = FIRST_PAUSE_SECONDS
                if moved == 0:
                    self._spool.shrink()
                self._stop.wait(POLL_SECONDS)
        self._store.close()
        log.info("action=stopped")

    def run_once(self) -> int:
        """Move one batch.

        Returns:
            How many records left the spool.

        Raises:
            database.ERRORS: The database cannot take rows now; what it has not is still in the spool.
        """
        with ThreadPoolExecutor(max_workers=1) as storing:
            return self._run(storing, most_batches=1)

    def _run(self, storing: ThreadPoolExecutor, most_batches: int | None = None) -> int:
        """Move batches until there is less than a whole one; count the records.

        While PostgreSQL stores one, the one before leaves the spool and the next is made ready.
        """
        moved = batches = 0
        done: _Batch | None = None
        try:
            batch = self._next()
            while batch is not None:
                moving = storing.submit(self._move, batch)
                batches += 1
                try:
                    if done is not None:
                        self._settle(done)
                    last = self._stop.is_set() or batches == most_batches or not batch.more
                    following = None if last else self._next()
                finally:
                    self._wait(moving)
                moved += batch.handled
                done, batch = batch, following
            if done is not None:
                self._settle(done)
        except BaseException:
            self._certain = False
            self._read_again()
            raise
        return moved

    def _wait(self, moving: "Future[None]") -> None:
        give_up: float | None = None
        while not moving.done():
            concurrent.futures.wait([moving], timeout=ALIVE_SECONDS)
            self._alive()
            if self._stop.is_set():
                give_up = give_up or time.monotonic() + LAST_BATCH_SECONDS
            if self._store.busy_seconds() > LONGEST_SILENCE_SECONDS or (give_up and time.monotonic() > give_up):
                self._store.abort()
        moving.result()

    def _alive(self) -> None:
        if (now := time.monotonic()) > self._alive_at:
            self._alive_at = now + ALIVE_SECONDS
            systemd.notify("WATCHDOG=1")
            status = self._spool.status()
            age = 0.0 if status.oldest_received_at is None else time.time() - status.oldest_received_at / 1e6
            self._metrics.show(status, age, waiting=self._waiting)

    # --- a batch is made ready ---

    def _next(self) -> _Batch | None:
        self._look_for_workers()
        if (left := self._interrupted()) is not None:
            return left
        records = self._spool.read(self._batch_records, self._batch_bytes, after=self._read)
        if not records:
            return None
        size = sum(len(record.body or b"") for record in records)
        batch = _Batch(last=self._read, more=len(records) == self._batch_records or size >= self._batch_bytes)
        close_at = time.monotonic() + BATCH_SECONDS
        for record in records:
            self._alive()
            self._take(record, batch)
            batch.last = record.sequence
            batch.handled += 1
            # Decoded, a batch may be far larger than in the spool.
            if batch.size >= self._batch_bytes or time.monotonic() > close_at:
                batch.more = True
                break
        self._read = batch.last
        return batch

    def _take(self, record: SpooledRecord, batch: _Batch) -> None:
        if (record.kind, record.id) in batch.seen:
            return
        batch.seen.add((record.kind, record.id))
        try:
            if record.kind == "request":
                self._take_request(record, batch)
            elif record.kind == "response":
                self._take_response(record, batch)
            else:
                opened = self._open.get(record.id)
                if opened is None or opened.capture != "none":
                    _add(batch, record, self._rows.usage(record))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must not wait for it
            batch.rejected.append((record, f"{type(error).__name__}: {error}"))

    def _take_request(self, record: SpooledRecord, batch: _Batch) -> None:
        row, opened, problem = self._rows.request(record)
        if row is not None:
            _add(batch, record, row)
            _tell_left_out(record, problem)
        if record.id not in self._open:  # else it came before, and is known
            self._open[record.id] = batch.opened[record.id] = opened

    def _take_response(self, record: SpooledRecord, batch: _Batch) -> None:
        opened = self._open.pop(record.id, None)
        if opened is None:
            # Where only the response found room in the spool, both come once more: then this one does not count.
            batch.orphans[record.id] = record
            batch.seen.discard((record.kind, record.id))
            return
        batch.orphans.pop(record.id, None)
        if batch.opened.pop(record.id, None) is None:
            batch.closed.append(record.id)
        if opened.capture != "none":
            self._add_response(record, cast("Capture", opened.capture), batch)

    def _add_response(self, record: SpooledRecord, capture: Capture, batch: _Batch) -> None:
        row, problem = self._rows.response(record, capture)
        _add(batch, record, row)
        _tell_left_out(record, problem)

    def _look_for_workers(self) -> None:
        """Notice whose lock is free; what they have spooled has a place up to the one that is the last now."""
        if (now := time.monotonic()) < self._looked_at + ALIVE_SECONDS:
            return
        self._looked_at = now
        directory = self._spool.path.parent / locks.WORKERS
        serving = {opened.worker for opened in self._open.values() if opened.worker is not None}
        for worker in serving - self._gone.keys():
            if locks.is_free(directory / f"{worker}.lock"):
                self._gone[worker] = self._spool.last_sequence()
        for file in locks.free_files(directory):
            if file.stem not in serving:
                file.unlink(missing_ok=True)

    def _interrupted(self) -> _Batch | None:
        """Make the responses of exchanges whose worker is gone, and of which there is no record any more."""
        over = {worker for worker, last in self._gone.items() if self._settled >= last}
        batch = _Batch(last=self._read)
        for exchange, opened in list(self._open.items()):
            if opened.worker in over:
                del self._open[exchange]
                batch.closed.append(exchange)
                if opened.capture != "none":
                    row = interrupted(opened)
                    batch.items.append(_Item(0, "response", exchange, row, packed("response", row)))
        for worker in over:
            del self._gone[worker]
        return batch if batch.closed else None

    # --- a batch is stored ---

    def _move(self, batch: _Batch) -> None:
        self._find_requests(batch)
        self._move_items(batch.items, batch)
        self._certain = True

    def _find_requests(self, batch: _Batch) -> None:
        """Make rows of responses whose requests went before: those of an older release, replayed ones, late ones."""
        if not batch.orphans:
            return
        found = self._store.requests([(record.received_at, record.id) for record in batch.orphans.values()])
        for record in batch.orphans.values():
            capture = found.get(record.id)
            if capture is None:
                batch.rejected.append((record, "its request is not in the database"))
                continue
            try:
                self._add_response(record, cast("Capture", capture), batch)
            except Exception as error:  # noqa: BLE001 - as above
                batch.rejected.append((record, f"{type(error).__name__}: {error}"))

    def _move_items(self, items: Sequence[_Item], batch: _Batch) -> None:
        """Store rows; if PostgreSQL refuses one of them, halve them until that one is alone."""
        try:
            self._add(items, batch)
        except ERRORS as error:
            if not _is_about_a_row(error):
                raise
            if self._certain:  # not for this batch, it seems
                self._certain = False
                self._move_items(items, batch)
            elif len(items) == 1:
                self._move_refused(items[0], batch)
            else:
                middle = len(items) // 2
                self._move_items(items[:middle], batch)
                self._move_items(items[middle:], batch)

    def _add(self, items: Sequence[_Item], batch: _Batch) -> None:
        rows: dict[Kind, list[bytes]] = {}
        for item in items:
            rows.setdefault(item.kind, []).append(item.packed)
        if rows:
            self._store.add(rows, may_be_there=not self._certain)
        for kind, added in rows.items():
            batch.stored[kind] = batch.stored.get(kind, 0) + len(added)

    def _move_refused(self, item: _Item, batch: _Batch) -> None:
        """Store a row without its jsonb, which is the part that can be refused; else set its record aside."""
        item.packed = packed(item.kind, {**item.row, "body": None})
        try:
            self._add([item], batch)
        except ERRORS as error:
            if not _is_about_a_row(error):
                raise
            batch.rejected.append((item, f"{sqlstate(error)}: {one_line(error)}"))
        else:
            log.warning("action=stored_without_jsonb kind=%s exchange=%s", item.kind, UUID(bytes=item.id))

    def _settle(self, batch: _Batch) -> None:
        """Let a batch leave the spool."""
        for refused, reason in batch.rejected:
            log.error("action=rejected kind=%s exchange=%s reason=%s", refused.kind, UUID(bytes=refused.id), reason)
            if refused.kind == "request":  # there is nothing that its response could refer to
                self._open.pop(refused.id, None)
                batch.opened.pop(refused.id, None)
        self._spool.settle(
            batch.last,
            rejected=[(refused.sequence, reason) for refused, reason in batch.rejected],
            opened=batch.opened.values(),
            closed=batch.closed,
        )
        self._settled = batch.last
        for kind, rows in batch.stored.items():
            self._metrics.count(TABLES[kind].name, rows)
        if self._waiting:
            self._waiting = False
            log.info("action=resumed")


def _add(batch: _Batch, record: SpooledRecord, row: Row) -> None:
    batch.items.append(_Item(record.sequence, record.kind, record.id, row, packed(record.kind, row)))
    batch.size += len(batch.items[-1].packed)


def _tell_left_out(record: SpooledRecord, problem: str | None) -> None:
    if problem:
        exchange = UUID(bytes=record.id)
        log.warning("action=body_left_out kind=%s exchange=%s reason=%s", record.kind, exchange, problem)


def _is_about_a_row(error: Exception) -> bool:
    code = sqlstate(error) or ""
    return code[:2] in ROW_ERRORS and code not in DAMAGED
