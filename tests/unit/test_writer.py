"""The writer: what it says is durable is in the spool, whoever dies; and nobody waits for ever."""

import asyncio
import contextlib
import fcntl
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litellm_sqlalchemy.ledger import writer as writer_module
from litellm_sqlalchemy.ledger.committer import LARGEST_COPY
from litellm_sqlalchemy.ledger.spool import SCHEMA_VERSION, Record, Spool, SpoolError, SpoolFullError
from litellm_sqlalchemy.ledger.writer import SpoolWriter
from tests.fix_spool import commits

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Opened = Callable[[Path], Spool]
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "spool.sqlite3"


@pytest.fixture
async def writer(path: Path) -> AsyncIterator[SpoolWriter]:
    with contextlib.closing(SpoolWriter(path)) as made:
        yield made


def record(number: int, body: bytes | None = b"body") -> Record:
    return Record(
        kind="request", exchange=UUID(int=number), received_at=number, facts=json.dumps({"n": number}), body=body
    )


def rows(path: Path) -> list[tuple[int, str, bytes | None]]:
    """What is in the spool, read with nothing of ours: number, facts, body."""
    with contextlib.closing(sqlite3.connect(path)) as spool:
        found = spool.execute("SELECT exchange, facts, body FROM records ORDER BY sequence").fetchall()
    return [(int.from_bytes(exchange), facts, body) for exchange, facts, body in found]


def numbers(path: Path) -> list[int]:
    return [number for number, _, _ in rows(path)]


def child(writer: SpoolWriter) -> int:
    assert writer._process is not None
    return writer._process.pid


def is_locked(path: Path, worker: str) -> bool:
    lock = os.open(path.parent / "workers" / f"{worker}.lock", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def eventually(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


# --- what is stored ---------------------------------------------------------------------------------------------


async def test_it_answers_when_all_is_on_disk(path: Path, writer: SpoolWriter) -> None:
    await asyncio.gather(*(writer.append(record(n)) for n in range(200)))
    assert numbers(path) == list(range(200))


def test_the_same_bytes_come_out(path: Path) -> None:
    async def append(records: list[Record], lazily: bool) -> None:
        await writer.append(*records, lazily=lazily)

    async def make() -> SpoolWriter:
        return SpoolWriter(path)

    async def close() -> None:
        writer.close()

    @given(
        parts=st.lists(
            st.tuples(
                st.text(st.characters(codec="utf-8")),
                st.none() | st.binary() | st.binary(min_size=1, max_size=9).map(lambda some: some * LARGEST_COPY),
            ),
            min_size=1,
            max_size=5,
        ),
        lazily=st.booleans(),
    )
    @settings(deadline=None)
    def check(parts: list[tuple[str, bytes | None]], lazily: bool) -> None:
        records = [
            Record(kind="response", exchange=UUID(int=n), received_at=-n, facts=facts, body=body)
            for n, (facts, body) in enumerate(parts)
        ]
        runner.run(append(records, lazily))
        assert rows(path)[-len(parts) :] == [(n, facts, body) for n, (facts, body) in enumerate(parts)]

    with asyncio.Runner() as runner:
        writer = runner.run(make())
        check()
        runner.run(close())


async def test_large_bodies(path: Path, writer: SpoolWriter) -> None:
    bodies = [os.urandom(20_000_000), b"small", os.urandom(3_000_000), os.urandom(70_000)]
    await asyncio.gather(*(writer.append(record(n, body)) for n, body in enumerate(bodies)))
    assert [body for _, _, body in rows(path)] == bodies


async def test_what_comes_at_once_is_committed_together(path: Path, writer: SpoolWriter) -> None:
    await writer.append(record(0))
    before = commits(path)
    await asyncio.gather(*(writer.append(record(n)) for n in range(1, 1_001)))
    assert numbers(path) == list(range(1_001))
    assert 1 <= commits(path) - before < 100


async def test_what_nobody_waits_for_is_committed_with_the_next(path: Path, writer: SpoolWriter) -> None:
    await writer.append(record(0))
    before = commits(path)
    os.kill(child(writer), signal.SIGSTOP)  # so that both are there when it begins
    lazy, other = writer.append(record(1), lazily=True), writer.append(record(2))
    os.kill(child(writer), signal.SIGCONT)
    await other
    assert lazy.done()
    assert numbers(path) == [0, 1, 2]
    assert commits(path) - before == 1


async def test_what_nobody_waits_for_is_committed_all_the_same(path: Path, writer: SpoolWriter) -> None:
    await writer.append(record(1), lazily=True)
    assert numbers(path) == [1]


async def test_one_that_waits_no_longer_does_not_hurt_the_others(path: Path, writer: SpoolWriter) -> None:
    given_up, waiting = writer.append(record(1)), writer.append(record(2))
    given_up.cancel()
    await waiting
    assert numbers(path) == [1, 2]


async def test_closing_writes_what_was_appended(path: Path, writer: SpoolWriter) -> None:
    appended = [writer.append(record(n, os.urandom(100_000)), lazily=n % 2 == 1) for n in range(50)]
    writer.close()
    assert numbers(path) == list(range(50))
    assert all(future.done() and future.exception() is None for future in appended)
    with pytest.raises(SpoolError, match="the gateway is stopping"):
        await writer.append(record(51))


# --- what cannot be stored --------------------------------------------------------------------------------------


async def test_a_write_that_fails_is_told_and_later_ones_succeed(path: Path, writer: SpoolWriter) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE records RENAME TO elsewhere")
        with pytest.raises(SpoolError, match=r"cannot write to the spool .*no such table: records"):
            await writer.append(record(1))
        assert writer.failed
        other.execute("ALTER TABLE elsewhere RENAME TO records")
    await writer.append()  # only whether it takes a write
    assert not writer.failed
    await writer.append(record(2))
    assert numbers(path) == [2]


@pytest.mark.parametrize(
    "wrong",
    [
        Record(kind="request", exchange=UUID(int=9), received_at=1 << 63, facts="{}", body=b""),
        Record(kind="request", exchange=UUID(int=9), received_at=1, facts="\ud800", body=b""),
    ],
)
async def test_one_that_cannot_be_written_does_not_take_the_others_with_it(
    path: Path, writer: SpoolWriter, wrong: Record
) -> None:
    told = await asyncio.gather(
        writer.append(record(1)), writer.append(record(2), wrong), writer.append(record(3)), return_exceptions=True
    )
    assert [type(answer) for answer in told] == [type(None), SpoolError, type(None)]
    assert numbers(path) == [1, 3]


async def test_one_for_which_there_is_no_room_does_not_take_the_others_with_it(path: Path) -> None:
    with contextlib.closing(SpoolWriter(path, max_bytes=36 << 20)) as writer:
        await writer.append(record(0))
        os.kill(child(writer), signal.SIGSTOP)  # so that all are there when it begins
        waiting = [writer.append(record(n, bytes(40_000_000 if n == 2 else 10))) for n in range(1, 4)]
        os.kill(child(writer), signal.SIGCONT)
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in told] == [type(None), SpoolFullError, type(None)]
        assert "37748736 bytes are its limit (LEDGER_SPOOL_MAX_BYTES)" in str(told[1])
    assert numbers(path) == [0, 1, 3]


async def test_a_full_spool_is_told_until_there_is_room(path: Path, opened: Opened) -> None:
    drain = opened(path)
    with contextlib.closing(SpoolWriter(path, max_bytes=36 << 20)) as writer:
        with pytest.raises(SpoolFullError):
            await fill(writer, 100_000)
        assert writer.failed
        with pytest.raises(SpoolFullError):
            await writer.append()
        drain.settle(drain.read(50, 1 << 40)[-1].sequence)
        await writer.append()
        assert not writer.failed
        await writer.append(record(2_000, bytes(1_000_000)))
    assert numbers(path)[-1] == 2_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of its own")
@pytest.mark.parametrize("is_there", [True, False])
async def test_it_starts_on_a_full_disk_and_writes_when_there_is_room(tmp_path: Path, is_there: bool) -> None:
    disk = tmp_path / "disk"
    await asyncio.to_thread(disk.mkdir)
    await run("mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "spool", str(disk))
    try:
        path = disk / "spool.sqlite3"
        if is_there:
            Spool(path).close()
        filling = disk / "filling"
        with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        with contextlib.closing(SpoolWriter(path)) as writer:
            assert writer.failed
            with pytest.raises(SpoolFullError, match=r"is full: \d+ bytes are free|No space left on device"):
                await writer.append(record(1))
            filling.unlink()
            await writer.append(record(2))
            assert not writer.failed
            assert is_locked(path, writer.worker)
        assert numbers(path) == [2]
    finally:
        await run("umount", "-l", str(disk))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of its own")
async def test_a_full_disk_can_be_drained(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    await asyncio.to_thread(disk.mkdir)
    await run("mount", "-t", "tmpfs", "-o", "size=96m,mode=0700", "spool", str(disk))
    try:
        path = disk / "spool.sqlite3"
        with contextlib.closing(SpoolWriter(path)) as writer, contextlib.closing(Spool(path)) as drain:
            with pytest.raises(SpoolFullError, match="the disk of the spool"):
                await fill(writer, 30_000)
            filling = disk / "filling"
            with contextlib.suppress(OSError), filling.open("wb") as file:  # by somebody else
                file.write(bytes(16 << 20))
            stored = drain.status().records
            assert stored > 500
            while found := drain.read(100, 1 << 40):
                drain.settle(found[-1].sequence)
                stored -= len(found)
            assert stored == 0
    finally:
        await run("umount", "-l", str(disk))


async def fill(writer: SpoolWriter, size: int) -> None:
    for n in range(10_000):
        await writer.append(record(n, os.urandom(size)))


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


def newer(path: Path) -> None:
    Spool(path).close()
    with contextlib.closing(sqlite3.connect(path)) as spool:
        spool.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def garbage(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"no database" * 1_000)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.parent.mkdir(mode=0o755), r"has mode 0755.*must be 0700"),
        (lambda path: path.parent.touch(), "File exists"),
        (newer, rf"schema version {SCHEMA_VERSION + 1}, this release knows {SCHEMA_VERSION}"),
        (garbage, "file is not a database"),
    ],
    ids=["mode", "file", "newer", "garbage"],
)
async def test_a_spool_that_cannot_be_used_is_told_at_the_start(
    path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    spoil(path)
    with pytest.raises(SpoolError, match=told):
        SpoolWriter(path)
    assert not list(path.parent.glob("workers/*"))


# --- who dies ---------------------------------------------------------------------------------------------------


async def test_nothing_is_lost_when_its_process_is_killed_again_and_again(path: Path, writer: SpoolWriter) -> None:
    told: set[int] = set()
    last = 0
    for _ in range(8):
        before = child(writer)
        waiting = {n: writer.append(record(n, os.urandom(20_000))) for n in range(last, last + 200)}
        last += 200
        await waiting[last - 150]
        os.kill(before, signal.SIGKILL)
        await asyncio.gather(*waiting.values())
        told |= set(waiting)
        assert child(writer) != before
    found = numbers(path)
    assert set(found) == told == set(range(last))
    assert not writer.failed


async def test_a_killed_process_is_replaced_while_nobody_writes(path: Path, writer: SpoolWriter) -> None:
    before = child(writer)
    os.kill(before, signal.SIGKILL)
    await asyncio.to_thread(eventually, lambda: writer._process is not None and child(writer) != before, "a new one")
    assert is_locked(path, writer.worker)
    await writer.append(record(1))
    assert numbers(path) == [1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_its_process_ends_by_no_signal_that_the_gateway_may_get(
    path: Path, writer: SpoolWriter, number: signal.Signals
) -> None:
    before = child(writer)
    os.kill(before, number)
    await writer.append(record(1))
    assert child(writer) == before
    assert numbers(path) == [1]


async def test_a_process_that_hangs_is_told_and_replaced(
    path: Path, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writer.append(record(0))
    monkeypatch.setattr(writer_module, "LONGEST_STALL_SECONDS", 0.5)
    before = child(writer)
    os.kill(before, signal.SIGSTOP)
    waiting = [writer.append(record(n, os.urandom(100_000))) for n in range(1, 20)]
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(answer) for answer in told} == {SpoolError}
    assert "has taken no write for 0.5 seconds" in str(told[0])
    assert writer.failed
    monkeypatch.setattr(writer_module, "LONGEST_STALL_SECONDS", 60)
    await writer.append(record(100))
    assert not writer.failed
    assert child(writer) != before
    assert {0, 100} <= set(numbers(path)) <= {0, 100, *range(1, 20)}


async def test_a_loop_that_was_blocked_takes_nobody_for_hanging(
    path: Path, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "LONGEST_STALL_SECONDS", 1)
    before = child(writer)
    waiting = writer.append(record(1))
    eventually(lambda: numbers(path) == [1], "it is stored")
    time.sleep(1.5)  # noqa: ASYNC251 - to block the loop is the point
    await waiting
    assert child(writer) == before


async def test_it_is_closed_in_its_thread(writer: SpoolWriter) -> None:
    with pytest.raises(RuntimeError, match="in the thread of its loop"):
        await asyncio.to_thread(writer.close)


async def test_closing_does_not_wait_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(path)
    monkeypatch.setattr(writer_module, "LONGEST_STALL_SECONDS", 0.5)
    process = child(writer)
    os.kill(process, signal.SIGSTOP)
    waiting = writer.append(record(1))
    writer.close()
    with pytest.raises(SpoolError, match="has taken no write"):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def test_processes_that_die_at_once_are_told_and_tried_again_later(
    path: Path, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dies = tmp_path / "dies"
    dies.write_text("#!/bin/sh\nexit 7\n")
    dies.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(dies))
        os.kill(child(writer), signal.SIGKILL)
        with pytest.raises(SpoolError, match=r"has ended 3 times without .*exit status 7 "):
            await writer.append(record(1))
        assert writer.failed
        patch.setattr(sys, "executable", str(tmp_path / "missing"))
        with pytest.raises(SpoolError, match=r"cannot start the process .*No such file"):
            await writer.append(record(2))
    await writer.append(record(3))
    assert not writer.failed
    assert numbers(path) == [3]


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
    eventually(lambda: not any(is_locked(path, lock.stem) for lock in locks(path)), "the locks are free")
    found = numbers(path)
    assert len(found) == len(set(found))
    assert set().union(*told) <= set(found)
    for first, seen in zip((0, 1_000_000, 2_000_000), told, strict=True):
        own = [n for n in found if first <= n < first + 1_000_000]
        assert own == list(range(first, first + len(own)))  # in the order of the appends
        assert len(own) - len(seen) <= 1  # at most the one that was on its way
    opened(path).append([record(9_999_999)])


def locks(path: Path) -> list[Path]:
    return list((path.parent / "workers").glob("*.lock"))


def _send_and_wait(path: Path, told: "Connection[tuple[str, int], None]") -> None:
    async def send() -> None:
        writer = SpoolWriter(path)
        os.kill(child(writer), signal.SIGSTOP)
        writer.append(record(1), lazily=True)
        writer.append(record(2, b"x" * 50_000), lazily=True)
        told.send((writer.worker, child(writer)))
        await asyncio.sleep(1_000)

    asyncio.run(send())


def test_what_a_killed_worker_has_sent_is_stored_before_its_lock_is_free(path: Path) -> None:
    end, other_end = SPAWN.Pipe(duplex=False)
    worker = SPAWN.Process(target=_send_and_wait, args=(path, other_end))
    worker.start()
    name, process = end.recv()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert is_locked(path, name)
    assert numbers(path) == []
    os.kill(process, signal.SIGCONT)
    eventually(lambda: not is_locked(path, name), "the lock is free")
    assert numbers(path) == [1, 2]


async def test_a_closed_writers_lock_is_gone(path: Path) -> None:
    writer = SpoolWriter(path)
    assert is_locked(path, writer.worker)
    writer.close()
    assert locks(path) == []


# --- what it costs ----------------------------------------------------------------------------------------------


def _memory(process: int) -> int:
    status = Path(f"/proc/{process}/smaps_rollup").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines()[1:])
    return int(fields["Pss"].split()[0]) << 10


async def test_its_process_is_small_also_after_large_bodies(writer: SpoolWriter) -> None:
    await writer.append(record(0))
    at_first = await asyncio.to_thread(_memory, child(writer))
    assert at_first < 15 << 20
    for n, size in enumerate((50, 20, 20, 8, 8, 3)):
        await writer.append(record(n, bytes(size << 20)))
    await writer.append(record(9))
    assert await asyncio.to_thread(_memory, child(writer)) < at_first + (5 << 20)
