"""The spool: what has been captured and is not yet in the database, durable on the gateway's own disk.

A SQLite file in WAL mode with synchronous=FULL: when `append` returns, the records survive a power cut. Every
worker of the gateway appends through a process of its own (`writer`, `committer`); the drain reads in the order of the
commits and deletes what the database has.
"""

import contextlib
import fcntl
import os
import sqlite3
import stat
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
SPARE_DISK_BYTES = 32 << 20  # left free by writers, because to delete takes space as well
PROBE_BYTES = 1 << 20
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

INSERT = "INSERT INTO records (kind, exchange, received_at, facts, body) VALUES (?, ?, ?, ?, ?)"
Row = tuple[str, bytes, int, str, bytes | memoryview | None]
"""A record as the table has it: kind, exchange, received_at, facts, body."""

Kind = Literal["request", "response", "usage"]


class SpoolError(Exception):
    """The spool cannot be used, or a record could not be made durable; the message says why and what to do."""


class SpoolFullError(SpoolError):
    """There is no room for a record, in the spool's limit or on its disk."""


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
        max_bytes: What is appended here must not make the file and its write-ahead log larger; 0: no limit but the
            disk's.

    Raises:
        SpoolError: The directory is open to other users, the file cannot be opened, or a newer release wrote it.
        SpoolFullError: The disk has no room to make or open it.
    """

    def __init__(self, path: Path, max_bytes: int = 0) -> None:
        self._path = path
        self._log = path.with_name(path.name + "-wal")
        self._max_bytes = max_bytes
        try:
            make_private(path.parent)
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
            self._check_disk(0)
            raise SpoolError(
                f"cannot open the spool {path}: {error}. Its directory must exist on a local disk with space left, "
                "and belong to the user that runs this"
            ) from error

    def _prepare(self) -> None:
        execute = self._connection.execute
        self._page_size, self._pages = execute("PRAGMA page_size").fetchone()[0], 0
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
            SpoolFullError: The same, because there is no room for them.
        """
        self.insert([(r.kind, r.exchange.bytes, r.received_at, r.facts, r.body) for r in records])

    def insert(self, rows: Sequence[Row]) -> None:
        """Store rows as `append` does records.

        Args:
            rows: As `append`'s records.

        Raises:
            SpoolError: As `append`.
            SpoolFullError: As `append`.
        """
        try:
            self._check_disk(sum(len(body or b"") + len(facts) for _, _, _, facts, body in rows))
            if self._max_bytes:
                self._limit_pages()
            with self._transaction():
                if rows:
                    self._connection.executemany(INSERT, rows)
                else:
                    self._probe()
        except (OSError, sqlite3.Error, OverflowError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                self._check_disk(0)
                raise SpoolFullError(
                    f"the spool {self._path} is full: {self._max_bytes} bytes are its limit (LEDGER_SPOOL_MAX_BYTES); "
                    "there is room again when the drain has stored some of it in the database"
                ) from error
            raise SpoolError(f"cannot write to the spool {self._path}: {error}") from error

    def _probe(self) -> None:
        """Write what leaves nothing behind, and fails if a record would find no room."""
        execute = self._connection.execute
        execute(INSERT, ("request", b"", 0, "", bytes(PROBE_BYTES)))
        execute("DELETE FROM records WHERE sequence = last_insert_rowid()")
        version = execute("PRAGMA user_version").fetchone()[0]  # as it is: a newer release may have been here
        execute(f"PRAGMA user_version = {version}")

    def _check_disk(self, size: int) -> None:
        """Refuse to fill the disk, before SQLite finds it full: twice the size, for the log and for the file."""
        directory = next(parent for parent in self._path.parents if os.access(parent, os.F_OK))
        disk = os.statvfs(directory)
        free = disk.f_bavail * disk.f_frsize
        if free < SPARE_DISK_BYTES + 2 * size:
            raise SpoolFullError(
                f"the disk of the spool {self._path} is full: {free} bytes are free, and {SPARE_DISK_BYTES} are kept "
                "for the drain's work; make room on it"
            )

    def _limit_pages(self) -> None:
        """Let the file grow as far as its log leaves room: SQLite's limit is only of the file."""
        log = self._log.stat().st_size if self._log.exists() else 0
        pages = max(1, (self._max_bytes - max(log, LARGEST_IDLE_LOG_BYTES)) // self._page_size)
        if pages != self._pages:
            self._connection.execute(f"PRAGMA max_page_count = {pages}")
            self._pages = pages

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
        files = (self._path, self._log)
        size = sum(file.stat().st_size for file in files if file.exists())
        return SpoolStatus(records=records, oldest_received_at=oldest, rejected=rejected, bytes=size)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def make_private(directory: Path) -> None:
    """Make the spool's directory if it is not there.

    Args:
        directory: Its path.

    Raises:
        SpoolError: It is open to other users.
        OSError: It cannot be made.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o077:
        raise SpoolError(
            f"spool directory {directory} has mode {mode:04o}, which lets other users read prompts and answers; "
            f"it must be 0700: chmod 700 {directory}"
        )


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes out while one makes the file."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
