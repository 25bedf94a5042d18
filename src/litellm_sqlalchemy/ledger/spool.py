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
from typing import Literal, NamedTuple
from uuid import UUID

SCHEMA_VERSION = 2
BUSY_TIMEOUT_SECONDS = 10
SPARE_PAGES = 4_096  # of 4 KiB: kept for the next records
PAGES_AT_ONCE = 1_024
LARGEST_IDLE_LOG_BYTES = 16 << 20
SPARE_DISK_BYTES = 32 << 20  # left free by writers, because to delete takes space as well
PROBE_BYTES = 1 << 20
VERSION_1 = (
    """
    CREATE TABLE records (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of the commits; no number is used twice
        kind TEXT NOT NULL,                          -- 'request', 'response' or 'usage'
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
VERSION_2 = (
    """
    CREATE TABLE open (              -- requests that the drain has handled, and whose responses have not come
        exchange BLOB PRIMARY KEY,
        received_at INTEGER NOT NULL,
        worker TEXT,                 -- who serves it: the name of its lock file; NULL: an older release did not say
        capture TEXT NOT NULL,       -- what the policies let in of it: 'full', 'metadata' or 'none'
        facts TEXT NOT NULL          -- JSON: what a response needs of its request
    ) WITHOUT ROWID
    """,
    "CREATE INDEX rejected_kinds ON rejected (kind)",  # to count them without reading them
)
VERSIONS = (VERSION_1, VERSION_2)
"""The statements that lead from each version of the schema to the next."""

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
    """A part of an exchange.

    Attributes:
        kind: Which part.
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


class SpooledRecord(NamedTuple):
    """A record as it is in the spool.

    Attributes:
        sequence: Its place.
        kind: Which part of the exchange.
        id: The exchange's: the UUID's bytes.
        received_at: When its request arrived, in Unix microseconds.
        facts: JSON of everything but the body.
        body: The body's bytes; None if it is not kept.
    """

    sequence: int
    kind: Kind
    id: bytes
    received_at: int
    facts: str
    body: bytes | None

    @property
    def exchange(self) -> UUID:
        """The exchange's id."""
        return UUID(bytes=self.id)


class OpenExchange(NamedTuple):
    """An exchange whose request the drain has handled, and whose response has not come.

    Attributes:
        id: The exchange's: the UUID's bytes.
        received_at: When its request arrived, in Unix microseconds.
        worker: Name of the lock file of the worker that serves it; None if its release did not say.
        capture: What the policies let in of it: full, metadata or none.
        facts: JSON of what its response needs of its request.
    """

    id: bytes
    received_at: int
    worker: str | None
    capture: str
    facts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStatus:
    """How much waits in the spool.

    Attributes:
        records: Records that the database does not have yet.
        oldest_received_at: When the exchange began whose record waits longest, in Unix microseconds; None if there
            is none.
        rejected: Records set aside because PostgreSQL refuses them.
        bytes: Size of the file and its write-ahead log.
        free_bytes: What its disk has left for it.
    """

    records: int
    oldest_received_at: int | None
    rejected: int
    bytes: int
    free_bytes: int

    def limit(self, max_bytes: int) -> int:
        """Say how large it may get.

        Args:
            max_bytes: The largest it may get by the settings; 0: as large as the disk.

        Returns:
            That, or less if its disk has not so much room.
        """
        room = self.bytes + self.free_bytes
        return min(max_bytes, room) if max_bytes else room

    def is_filling(self, max_bytes: int, alarm_ratio: float) -> bool:
        """Say whether there is an alarm.

        Args:
            max_bytes: As of `limit`.
            alarm_ratio: Part of the limit from which on there is one; 0: none.
        """
        return 0 < self.limit(max_bytes) * alarm_ratio <= self.bytes


class RejectedRecord(NamedTuple):
    """A record that was set aside because PostgreSQL refuses it.

    Attributes:
        record: As it was in the spool.
        rejected_at: When it was set aside, in Unix seconds.
        reason: What PostgreSQL said.
    """

    record: SpooledRecord
    rejected_at: int
    reason: str


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
        self.path = path
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
                    f"spool {self.path} has schema version {version}, this release knows {SCHEMA_VERSION}: "
                    "go back to the release that wrote it, or a newer one"
                )
            for statements in VERSIONS[version:]:
                for statement in statements:
                    execute(statement)
            if version < SCHEMA_VERSION:
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
                    f"the spool {self.path} is full: {self._max_bytes} bytes are its limit (LEDGER_SPOOL_MAX_BYTES); "
                    "there is room again when the drain has stored some of it in the database"
                ) from error
            raise SpoolError(f"cannot write to the spool {self.path}: {error}") from error

    def _probe(self) -> None:
        """Write what leaves nothing behind, and fails if a record would find no room."""
        execute = self._connection.execute
        execute(INSERT, ("request", b"", 0, "", bytes(PROBE_BYTES)))
        execute("DELETE FROM records WHERE sequence = last_insert_rowid()")
        version = execute("PRAGMA user_version").fetchone()[0]  # as it is: a newer release may have been here
        execute(f"PRAGMA user_version = {version}")

    def _check_disk(self, size: int) -> None:
        """Refuse to fill the disk, before SQLite finds it full: twice the size, for the log and for the file."""
        free = self._free_bytes()
        if free < SPARE_DISK_BYTES + 2 * size:
            raise SpoolFullError(
                f"the disk of the spool {self.path} is full: {free} bytes are free, and {SPARE_DISK_BYTES} are kept "
                "for the drain's work; make room on it"
            )

    def _free_bytes(self) -> int:
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:  # it is not there, or not this user's: the disk is known from above
            disk = os.statvfs(next(parent for parent in self.path.parents if os.access(parent, os.F_OK)))
        return disk.f_bavail * disk.f_frsize

    def _limit_pages(self) -> None:
        """Let the file grow as far as its log leaves room: SQLite's limit is only of the file."""
        try:
            log = self._log.stat().st_size
        except FileNotFoundError:
            log = 0
        pages = max(1, (self._max_bytes - max(log, LARGEST_IDLE_LOG_BYTES)) // self._page_size)
        if pages != self._pages:
            self._connection.execute(f"PRAGMA max_page_count = {pages}")
            self._pages = pages

    def relax(self) -> None:
        """Do not wait for the disk from now on: after a power cut, what was settled last is there once more."""
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def read(self, most_records: int, most_bytes: int, *, after: int = 0) -> list[SpooledRecord]:
        """Read the oldest records.

        Args:
            most_records: At most so many.
            most_bytes: Stop after so many bytes of bodies; at least one record is read.
            after: Only what comes after this place.
        """
        batch: list[SpooledRecord] = []
        size = 0
        cursor = self._connection.execute(
            "SELECT sequence, kind, exchange, received_at, facts, body FROM records WHERE sequence > ? "
            "ORDER BY sequence LIMIT ?",
            (after, most_records),
        )
        with contextlib.closing(cursor):
            for record in map(SpooledRecord._make, cursor):
                batch.append(record)
                size += len(record.body or b"")
                if size >= most_bytes:
                    break
        return batch

    def last_sequence(self) -> int:
        """Give the place of the newest record; 0 if there is none."""
        last: int | None = self._connection.execute("SELECT max(sequence) FROM records").fetchone()[0]
        return last or 0

    def settle(
        self,
        last: int,
        *,
        rejected: Iterable[tuple[int, str]] = (),
        opened: Iterable[OpenExchange] = (),
        closed: Iterable[bytes] = (),
    ) -> None:
        """Forget records that have been handled, all of them up to a place, in one transaction.

        Args:
            last: That place.
            rejected: Of these, the places of those that PostgreSQL refuses, with what it said: they are set aside, so
                that they do not stand in the way of the others.
            opened: Exchanges whose requests were among them, and whose responses have not come.
            closed: Ids of exchanges that are open no longer.
        """
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO rejected (sequence, kind, exchange, received_at, facts, body, reason) "
                "SELECT sequence, kind, exchange, received_at, facts, body, ? FROM records WHERE sequence = ?",
                [(reason, sequence) for sequence, reason in rejected],
            )
            self._connection.execute("DELETE FROM records WHERE sequence <= ?", (last,))
            self._connection.executemany("INSERT OR REPLACE INTO open VALUES (?, ?, ?, ?, ?)", opened)
            self._connection.executemany("DELETE FROM open WHERE exchange = ?", [(exchange,) for exchange in closed])

    def open_exchanges(self) -> dict[bytes, OpenExchange]:
        """Give the exchanges whose responses have not come, by their ids."""
        rows = self._connection.execute("SELECT exchange, received_at, worker, capture, facts FROM open")
        return {row[0]: OpenExchange._make(row) for row in rows}

    def rejected(self) -> Iterator[RejectedRecord]:
        """Read what was set aside, the oldest first."""
        rows = self._connection.execute(
            "SELECT sequence, kind, exchange, received_at, facts, body, rejected_at, reason FROM rejected "
            "ORDER BY sequence"
        )
        return (RejectedRecord(SpooledRecord._make(record), at, reason) for *record, at, reason in rows)

    def forget_rejected(self, last: int) -> None:
        """Forget what was set aside.

        Args:
            last: Up to this place.
        """
        with self._transaction():
            self._connection.execute("DELETE FROM rejected WHERE sequence <= ?", (last,))

    def replay(self) -> range:
        """Put what was set aside back among the records, behind the others, for the drain to try again.

        Returns:
            The places that they have now.
        """
        with self._transaction():
            before = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()
            moved = self._connection.execute(
                "INSERT INTO records (kind, exchange, received_at, facts, body) "
                "SELECT kind, exchange, received_at, facts, body FROM rejected ORDER BY sequence"
            ).rowcount
            self._connection.execute("DELETE FROM rejected")
        first = (before[0] if before else 0) + 1
        return range(first, first + moved)

    def outcome(self, places: range) -> tuple[int, int]:
        """Say what has become of records.

        Args:
            places: Where they were.

        Returns:
            How many of them still wait, and how many are set aside.
        """
        if not places:
            return 0, 0
        limits = (places[0], places[-1])
        waiting = self._connection.execute("SELECT count(*) FROM records WHERE sequence BETWEEN ? AND ?", limits)
        rejected = self._connection.execute("SELECT count(*) FROM rejected WHERE sequence BETWEEN ? AND ?", limits)
        return waiting.fetchone()[0], rejected.fetchone()[0]

    def shrink(self) -> None:
        """Give some of a drained backlog's space back to the file system; some, because writers wait meanwhile."""
        if self._connection.execute("PRAGMA freelist_count").fetchone()[0] > SPARE_PAGES:
            # Not `execute`: that stops after the first page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")

    def status(self) -> SpoolStatus:
        """Count what waits."""
        # Places are given without gaps, and left from the first on: to count a backlog would be to read all of it.
        records, oldest = self._connection.execute(
            "SELECT coalesce(last.sequence - first.sequence + 1, 0), first.received_at "
            "FROM (SELECT max(sequence) AS sequence FROM records) AS last LEFT JOIN "
            "(SELECT sequence, received_at FROM records ORDER BY sequence LIMIT 1) AS first"
        ).fetchone()
        rejected = self._connection.execute("SELECT count(*) FROM rejected").fetchone()[0]
        files = (self.path, self._log)
        size = sum(file.stat().st_size for file in files if file.exists())
        return SpoolStatus(
            records=records,
            oldest_received_at=oldest,
            rejected=rejected,
            bytes=size,
            free_bytes=max(0, self._free_bytes() - SPARE_DISK_BYTES),
        )

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
