"""The spool: what it says is durable is there, in order, whoever dies."""

import asyncio
import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.ledger.spool import SCHEMA_VERSION, Record, Spool, SpooledRecord, SpoolError, SpoolWriter

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Opened = Callable[[Path], Spool]
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "spool.sqlite3"


def record(number: int, body: bytes | None = b"body") -> Record:
    return Record(
        kind="request", exchange=UUID(int=number), received_at=number, facts=json.dumps({"n": number}), body=body
    )


def everything(path: Path) -> list[SpooledRecord]:
    spool = Spool(path)
    found = spool.read(1_000_000, 1 << 40)
    spool.close()
    return found


def numbers(records: list[SpooledRecord]) -> list[int]:
    return [found.exchange.int for found in records]


def test_records_come_back_as_they_were_in_order(path: Path, opened: Opened) -> None:
    written = [record(3), record(1, None), record(2, b"\0\xff" * 10), record(2**62, b"")]
    opened(path).append(written)
    found = everything(path)
    assert [Record(kind=f.kind, exchange=f.exchange, received_at=f.received_at, facts=f.facts, body=f.body)
            for f in found] == written  # fmt: skip
    assert [f.sequence for f in found] == [1, 2, 3, 4]


@given(body=st.none() | st.binary())
def test_any_body(tmp_path_factory: pytest.TempPathFactory, body: bytes | None) -> None:
    with contextlib.closing(Spool(tmp_path_factory.mktemp("any") / "private" / "spool.sqlite3")) as spool:
        spool.append([record(1, body)])
        assert spool.read(1, 1)[0].body == body


def test_only_the_owner_can_read_it(path: Path, opened: Opened) -> None:
    opened(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(SpoolError, match=rf"has mode 0750.*must be 0700: chmod 700 {tmp_path}"):
        Spool(tmp_path / "spool.sqlite3")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match=r"cannot open the spool .*File exists"):
        Spool(tmp_path / "file" / "spool.sqlite3")


def test_something_else_in_its_place_is_told(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(SpoolError, match="file is not a database"):
        Spool(path)


def test_a_newer_releases_spool_is_left_alone(path: Path, opened: Opened) -> None:
    spool = opened(path)
    spool.append([record(1)])
    spool.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(SpoolError, match="schema version 2, this release knows 1"):
        opened(path)


def test_it_is_durable(path: Path, opened: Opened) -> None:
    spool = opened(path)
    assert spool._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert spool._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_reading_stops_at_the_limits(path: Path, opened: Opened) -> None:
    spool = opened(path)
    spool.append([record(n, b"x" * 10) for n in range(5)])
    assert numbers(spool.read(3, 1_000)) == [0, 1, 2]
    assert numbers(spool.read(5, 20)) == [0, 1]
    assert numbers(spool.read(5, 1)) == [0]


def test_what_is_deleted_is_gone_and_its_number_is_not_used_again(path: Path, opened: Opened) -> None:
    spool = opened(path)
    spool.append([record(1), record(2)])
    spool.delete([2, 1])
    spool.append([record(3)])
    assert [(f.sequence, f.exchange.int) for f in everything(path)] == [(3, 3)]


def test_rejected_records_are_set_aside_with_the_reason(path: Path, opened: Opened) -> None:
    spool = opened(path)
    spool.append([record(1), record(2, b"odd")])
    spool.reject(2, "22P05: not for jsonb")
    assert numbers(spool.read(9, 9)) == [1]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT sequence, body, reason FROM rejected").fetchall() == [
            (2, b"odd", "22P05: not for jsonb")
        ]
    connection.close()


def test_status(path: Path, opened: Opened) -> None:
    spool = opened(path)
    empty = spool.status()
    assert (empty.records, empty.oldest_received_at, empty.rejected) == (0, None, 0)
    spool.append([record(7), record(5), record(9)])
    spool.reject(3, "no")
    found = spool.status()
    assert (found.records, found.oldest_received_at, found.rejected) == (2, 5, 1)
    assert found.bytes > empty.bytes > 0


def test_space_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.ledger.spool.SPARE_PAGES", 100)
    spool = opened(path)
    spool.append([record(n, os.urandom(100_000)) for n in range(50)])
    full = spool.status().bytes
    spool.delete(range(1, 51))
    for _ in range(3):
        spool.shrink()
    spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert full > 5_000_000
    assert spool.status().bytes < 1_000_000


async def test_the_writer_answers_when_it_is_on_disk(path: Path) -> None:
    writer = SpoolWriter(path)
    await asyncio.gather(*(writer.append(record(n)) for n in range(200)))
    assert numbers(everything(path)) == list(range(200))
    writer.close()


async def test_closing_the_writer_writes_what_is_queued(path: Path) -> None:
    writer = SpoolWriter(path)
    for n in range(50):
        writer.append(record(n))
    writer.close()
    assert numbers(everything(path)) == list(range(50))


async def test_a_closed_writer_says_so(path: Path) -> None:
    writer = SpoolWriter(path)
    writer.close()
    with pytest.raises(SpoolError, match="the gateway is stopping"):
        await writer.append(record(1))


async def test_one_that_waits_no_longer_does_not_hurt_the_others(path: Path) -> None:
    writer = SpoolWriter(path)
    given_up, waiting = writer.append(record(1)), writer.append(record(2))
    given_up.cancel()
    await waiting
    assert numbers(everything(path)) == [1, 2]
    writer.close()


async def test_a_write_that_fails_is_told_and_later_ones_succeed(path: Path) -> None:
    writer = SpoolWriter(path)
    other = sqlite3.connect(path)
    other.execute("ALTER TABLE records RENAME TO elsewhere")
    with pytest.raises(SpoolError, match=r"cannot write to the spool .*no such table: records"):
        await writer.append(record(1))
    assert writer.failed
    other.execute("ALTER TABLE elsewhere RENAME TO records")
    other.close()
    await writer.append()  # only whether it takes a write
    assert not writer.failed
    await writer.append(record(2))
    assert numbers(everything(path)) == [2]
    writer.close()


async def test_a_full_disk_is_told_and_nothing_half_is_kept(path: Path) -> None:
    writer = SpoolWriter(path)
    await writer.append(record(1))
    writer._spool._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(SpoolError, match="database or disk is full"):
        await writer.append(record(2), record(3, b"x" * 1_000_000))
    with pytest.raises(SpoolError, match="database or disk is full"):
        await writer.append(record(4, b"x" * 1_000_000))
    await writer.append(record(5))
    assert numbers(everything(path)) == [1, 5]
    writer.close()


async def test_one_that_cannot_be_written_does_not_take_the_others_with_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(path)
    writer._spool._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    begin, commit = threading.Event(), SpoolWriter._commit

    def wait_and_commit(self: SpoolWriter, batch: Any) -> None:
        begin.wait(60)
        commit(self, batch)

    monkeypatch.setattr(SpoolWriter, "_commit", wait_and_commit)
    waiting = [writer.append(record(n, b"x" * (200_000 if n == 2 else 10))) for n in range(5)]
    begin.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in told] == [type(None), type(None), SpoolError, type(None), type(None)]
    assert numbers(everything(path)) == [0, 1, 3, 4]
    writer.close()


async def test_the_writer_outlives_whatever_goes_wrong(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(path)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "append", lambda *_: (_ for _ in ()).throw(MemoryError("no more")))
        with pytest.raises(SpoolError, match="cannot write to the spool: MemoryError: no more"):
            await writer.append(record(1))
    await writer.append(record(2))
    assert numbers(everything(path)) == [2]
    writer.close()


async def test_a_probe_leaves_a_newer_releases_version_alone(path: Path) -> None:
    writer = SpoolWriter(path)
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        await writer.append()
        assert newer.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    writer.close()


def _write_and_tell(path: Path, first: int, told: "Connection[int, int]") -> None:
    async def write() -> None:
        writer = SpoolWriter(path)
        for n in range(first, first + 100_000):
            await writer.append(record(n, b"x" * 500))
            told.send(n)

    asyncio.run(write())


def test_nothing_that_was_told_durable_is_lost_when_workers_are_killed(path: Path, opened: Opened) -> None:
    workers, ends = [], []
    for first in (0, 1_000_000, 2_000_000):
        end, other_end = SPAWN.Pipe(duplex=False)
        worker = SPAWN.Process(target=_write_and_tell, args=(path, first, other_end))
        worker.start()
        other_end.close()
        workers.append(worker)
        ends.append(end)
    told: list[set[int]] = []
    for worker, end in zip(workers, ends, strict=True):
        seen = {end.recv() for _ in range(200)}
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        while True:
            try:
                seen.add(end.recv())
            except (EOFError, OSError):
                break
        told.append(seen)
    found = numbers(everything(path))
    assert len(found) == len(set(found))
    assert set().union(*told) <= set(found)
    for first, seen in zip((0, 1_000_000, 2_000_000), told, strict=True):
        own = [n for n in found if first <= n < first + 1_000_000]
        assert own == list(range(first, first + len(own)))  # in the order of the appends
        assert len(own) - len(seen) <= 1  # at most the one that was on its way
    opened(path).append([record(9_999_999)])


def test_many_may_make_it_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def make(number: int) -> None:
        together.wait()
        Spool(tmp_path / str(number // 8) / "spool.sqlite3").close()

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(8 * 60)))


def test_a_reader_does_not_keep_a_writer_waiting(path: Path, opened: Opened) -> None:
    writer, reader = opened(path), opened(path)
    writer.append([record(n, b"x" * 100) for n in range(10)])
    cursor = reader._connection.execute("SELECT sequence FROM records")
    cursor.fetchone()
    writer._connection.execute("PRAGMA busy_timeout = 0")
    writer.append([Record(kind="response", exchange=uuid4(), received_at=1, facts="{}", body=None)])
    cursor.close()
