"""The spool: what it says is durable is there, in order, whoever dies."""

import concurrent.futures
import contextlib
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.ledger.spool import (
    SCHEMA_VERSION,
    Record,
    Spool,
    SpooledRecord,
    SpoolError,
    SpoolFullError,
    SpoolStatus,
)

Opened = Callable[[Path], Spool]


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
    with pytest.raises(SpoolError, match=f"schema version {SCHEMA_VERSION + 1}, this release knows {SCHEMA_VERSION}"):
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
    spool.settle(2)
    spool.append([record(3)])
    assert [(f.sequence, f.exchange.int) for f in everything(path)] == [(3, 3)]


def test_rejected_records_are_set_aside_with_the_reason(path: Path, opened: Opened) -> None:
    spool = opened(path)
    spool.append([record(1), record(2, b"odd")])
    spool.settle(2, rejected=[(2, "22P05: not for jsonb")])
    assert spool.read(9, 9) == []
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
    spool.settle(1, rejected=[(1, "no")])
    found = spool.status()
    assert (found.records, found.oldest_received_at, found.rejected) == (2, 5, 1)
    assert found.bytes > empty.bytes > 0


def test_space_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.ledger.spool.SPARE_PAGES", 100)
    spool = opened(path)
    spool.append([record(n, os.urandom(100_000)) for n in range(50)])
    full = spool.status().bytes
    spool.settle(50)
    for _ in range(3):
        spool.shrink()
    spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert full > 5_000_000
    assert spool.status().bytes < 1_000_000


def test_a_full_spool_takes_records_again_when_some_are_deleted(path: Path, opened: Opened) -> None:
    limit = 36 << 20
    with contextlib.closing(Spool(path, limit)) as writer:
        drain = opened(path)

        def append(first: int, last: int) -> None:
            for number in range(first, last):
                writer.append([record(number, b"x" * 100_000)])

        with pytest.raises(SpoolFullError, match=rf"the spool {path} is full: {limit} bytes are its limit"):
            append(0, 1_000)
        written = drain.status().records
        assert 150 < written < 250
        with pytest.raises(SpoolFullError):
            writer.append([])  # whoever asks beforehand is told as well
        drain.settle(drain.read(50, 1 << 40)[-1].sequence)
        writer.append([])
        append(written, written + 50)
        assert numbers(everything(path)) == list(range(50, written + 50))
        assert drain.status().bytes <= limit


def test_a_record_larger_than_the_room_left_is_told_and_nothing_half_is_kept(path: Path) -> None:
    with contextlib.closing(Spool(path, max_bytes=36 << 20)) as spool:
        spool.append([record(1)])
        with pytest.raises(SpoolFullError, match="LEDGER_SPOOL_MAX_BYTES"):
            spool.append([record(2), record(3, bytes(30 << 20))])
        spool.append([record(4)])
    assert numbers(everything(path)) == [1, 4]


def test_a_disk_is_not_filled_to_the_brim(path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    spool = opened(path)
    monkeypatch.setattr("litellm_sqlalchemy.ledger.spool.SPARE_DISK_BYTES", 1 << 60)
    with pytest.raises(SpoolFullError, match=rf"the disk of the spool {path} is full: \d+ bytes are free"):
        spool.append([record(1)])
    opened(path)  # a full disk is no reason not to start


def test_a_probe_leaves_nothing_behind(path: Path, opened: Opened) -> None:
    spool = opened(path)
    spool.append([])
    assert everything(path) == []
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        spool.append([])
        assert newer.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)


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


@pytest.mark.parametrize(
    ("max_bytes", "free_bytes", "limit"), [(0, 500, 600), (300, 500, 300), (1_000, 500, 600), (300, 0, 100)]
)
def test_the_limit_is_what_the_settings_and_the_disk_have(max_bytes: int, free_bytes: int, limit: int) -> None:
    status = SpoolStatus(records=0, oldest_received_at=None, rejected=0, bytes=100, free_bytes=free_bytes)
    assert status.limit(max_bytes) == limit
