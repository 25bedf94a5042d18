"""The spool: what has been captured and is not yet in the database, durable on the gateway's own disk.

A SQLite file in WAL mode with synchronous=FULL: when `append` returns, the records survive a power cut. Every
worker of the gateway appends through one connection in one thread (`SpoolWriter`: whatever waits is committed
together); the drain reads in the order of the commits and deletes what the database has.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

SCHEMA_VERSION = 1
BUSY_TIMEOUT_SECONDS = 10
SPARE_PAGES = 4_096  # of 4 KiB: kept for the next records
PAGES_AT_ONCE = 1_024
LARGEST_IDLE_LOG_BYTES = 16 << 20
SCHEMA = (
    """
    CREATE TABLE records (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of the commits; no number is used twice
        kind TEXT NOT NULL,                          -- 'request' or 'response'
        exchange BLOB NOT NULL,                      -- UUIDv7, 16 bytes
        received_at INTEGER NOT NULL,                -- Unix microseconds
        facts TEXT NOT NULL,                         -- JSON: all but the body
        body BLOB                                    -- NULL: not kept
    )
    """,
    """
    CREATE TABLE rejected (
        sequence INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        exchange BLOB NOT NULL,
        received_at INTEGER NOT NULL,
        facts TEXT NOT NULL,
        body BLOB,
        rejected_at INTEGER NOT NULL DEFAULT (unixepoch()),  -- Unix seconds
        reason TEXT NOT NULL                                 -- what PostgreSQL said
    )
    """,
)

Kind = Literal["request", "response"]


class SpoolError(Exception):
    """The spool cannot be used, or a record could not be made durable; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Half of an exchange.

    Attributes:
        kind: Which half.
        exchange: The exchange's id.
        received_at: When its request arrived, in Unix microseconds.
        facts: JSON of everything but the body.
        body: The body's bytes; None if it is not kept.
    """

    kind: Kind
    exchange: UUID
    received_at: int
    facts: str
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledRecord(Record):
    """A record with its place in the spool."""

    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStatus:
    """How much waits in the spool.

    Attributes:
        records: Records that the database does not have yet.
        oldest_received_at: Unix microseconds of the oldest of them; None if there is none.
        rejected: Records set aside because PostgreSQL refuses them.
        bytes: Size of the file and its write-ahead log.
    """

    records: int
    oldest_received_at: int | None
    rejected: int
    bytes: int


class Spool:
    """One connection to the spool's file. Used by one thread at a time.

    Args:
        path: The SQLite file. Its directory is made with mode 0700 if it is not there.

    Raises:
        SpoolError: The directory is open to other users, the file cannot be opened, or a newer release wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = stat.S_IMODE(path.parent.stat().st_mode)
            if mode & 0o077:
                raise SpoolError(
                    f"spool directory {path.parent} has mode {mode:04o}, which lets other users read prompts and "
                    f"answers; it must be 0700: chmod 700 {path.parent}"
                )
            with _locked(path.parent):  # a busy timeout does not cover the change to WAL
                self._connection = sqlite3.connect(
                    path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
                )
                try:
                    self._prepare()
                except BaseException:
                    self._connection.close()
                    raise
        except (OSError, sqlite3.Error) as error:
            raise SpoolError(
                f"cannot open the spool {path}: {error}. Its directory must exist on a local disk with space left, "
                "and belong to the user that runs this"
            ) from error

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or it has no effect
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute(f"PRAGMA journal_size_limit = {LARGEST_IDLE_LOG_BYTES}")
        with self._transaction():
            version = execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise SpoolError(
                    f"spool {self._path} has schema version {version}, this release knows {SCHEMA_VERSION}: "
                    "let the newer release's drain empty it first (litellm-sqlalchemy status)"
                )
            if version == 0:
                for statement in SCHEMA:
                    execute(statement)
                execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            # After some errors (disk full) SQLite has rolled back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def append(self, records: Sequence[Record]) -> None:
        """Store records in one transaction; when this returns they are on disk.

        Args:
            records: In the order in which the drain is to read them. None at all: only try whether the disk takes
                a write.

        Raises:
            SpoolError: They are not stored, none of them.
        """
        try:
            with self._transaction():
                self._connection.executemany(
                    "INSERT INTO records (kind, exchange, received_at, facts, body) VALUES (?, ?, ?, ?, ?)",
                    [(r.kind, r.exchange.bytes, r.received_at, r.facts, r.body) for r in records],
                )
                if not records:  # as it is: a newer release may have been here
                    version = self._connection.execute("PRAGMA user_version").fetchone()[0]
                    self._connection.execute(f"PRAGMA user_version = {version}")
        except (sqlite3.Error, OverflowError) as error:
            raise SpoolError(f"cannot write to the spool {self._path}: {error}") from error

    def read(self, most_records: int, most_bytes: int) -> list[SpooledRecord]:
        """Read the oldest records.

        Args:
            most_records: At most so many.
            most_bytes: Stop after so many bytes of bodies; at least one record is read.
        """
        batch: list[SpooledRecord] = []
        size = 0
        cursor = self._connection.execute(
            "SELECT sequence, kind, exchange, received_at, facts, body FROM records ORDER BY sequence LIMIT ?",
            (most_records,),
        )
        with contextlib.closing(cursor):
            for sequence, kind, exchange, received_at, facts, body in cursor:
                record = SpooledRecord(
                    sequence=sequence,
                    kind=kind,
                    exchange=UUID(bytes=exchange),
                    received_at=received_at,
                    facts=facts,
                    body=body,
                )
                batch.append(record)
                size += len(body or b"")
                if size >= most_bytes:
                    break
        return batch

    def delete(self, sequences: Iterable[int]) -> None:
        """Forget records that the database has.

        Args:
            sequences: Their places in the spool.
        """
        with self._transaction():
            self._connection.executemany("DELETE FROM records WHERE sequence = ?", [(s,) for s in sequences])

    def reject(self, sequence: int, reason: str) -> None:
        """Set a record aside that PostgreSQL refuses, so that it does not stand in the way of the others.

        Args:
            sequence: Its place in the spool.
            reason: What PostgreSQL said.
        """
        with self._transaction():
            self._connection.execute(
                "INSERT INTO rejected (sequence, kind, exchange, received_at, facts, body, reason) "
                "SELECT sequence, kind, exchange, received_at, facts, body, ? FROM records WHERE sequence = ?",
                (reason, sequence),
            )
            self._connection.execute("DELETE FROM records WHERE sequence = ?", (sequence,))

    def shrink(self) -> None:
        """Give some of a drained backlog's space back to the file system; some, because writers wait meanwhile."""
        if self._connection.execute("PRAGMA freelist_count").fetchone()[0] > SPARE_PAGES:
            # Not `execute`: that stops after the first page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")

    def status(self) -> SpoolStatus:
        """Count what waits."""
        records, oldest = self._connection.execute("SELECT count(*), min(received_at) FROM records").fetchone()
        rejected = self._connection.execute("SELECT count(*) FROM rejected").fetchone()[0]
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        size = sum(file.stat().st_size for file in files if file.exists())
        return SpoolStatus(records=records, oldest_received_at=oldest, rejected=rejected, bytes=size)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes out while one makes the file."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


_Waiting = tuple[Sequence[Record], asyncio.Future[None]]


class SpoolWriter:
    """Appends from an event loop: one thread commits together whatever has come meanwhile.

    Args:
        path: The SQLite file.

    Raises:
        SpoolError: As `Spool`.
    """

    def __init__(self, path: Path) -> None:
        self._spool = Spool(path)
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._thread.start()
        self.failed = False
        """Whether the last commit failed."""

    def append(self, *records: Record) -> asyncio.Future[None]:
        """Queue records.

        Args:
            records: What to store, in order. None at all: only try whether the disk takes a write.

        Returns:
            A future that is done when they are durable, or has a SpoolError when they are not stored. Records
            queued earlier are durable by then, or failed.
        """
        future = asyncio.get_running_loop().create_future()
        with self._closing:
            if self._closed:
                _resolve([future], SpoolError("the spool is closed: the gateway is stopping"))
            else:
                self._waiting.put((records, future))
        return future

    def close(self) -> None:
        """Commit what is queued, then stop. Blocks until that is done."""
        with self._closing:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()
        self._spool.close()

    def _run(self) -> None:
        stopped = False
        while not stopped:
            batch = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(self._waiting.get_nowait())
            stopped = None in batch
            self._commit([waiting for waiting in batch if waiting is not None])

    def _commit(self, batch: list[_Waiting]) -> None:
        problem = self._append([record for records, _ in batch for record in records]) if batch else None
        if problem is None or len(batch) == 1:
            self._tell([future for _, future in batch], problem)
            return
        for records, future in batch:  # one that is too large, say, must not take the others with it
            self._tell([future], self._append(records))

    def _append(self, records: Sequence[Record]) -> SpoolError | None:
        problem = None
        try:
            self._spool.append(records)
        except SpoolError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - whatever it is: this thread must live, and somebody waits
            problem = SpoolError(f"cannot write to the spool: {type(error).__name__}: {error}")
        self.failed = problem is not None
        return problem

    @staticmethod
    def _tell(futures: list[asyncio.Future[None]], problem: SpoolError | None) -> None:
        if futures:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                futures[0].get_loop().call_soon_threadsafe(_resolve, futures, problem)


def _resolve(futures: list[asyncio.Future[None]], problem: SpoolError | None) -> None:
    for future in futures:
        if future.done():  # its waiter was cancelled
            continue
        if problem is None:
            future.set_result(None)
        else:
            future.set_exception(problem)
            future.exception()  # whoever awaits it gets it; if nobody does, asyncio need not complain
