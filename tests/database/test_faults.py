"""The drain and a database that fails: what waits is stored once, when the database is itself again."""

import contextlib
import json
import logging
import os
import random
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from litellm_sqlalchemy import database
from litellm_sqlalchemy.ledger import drain as drain_module
from litellm_sqlalchemy.ledger import exporter, locks, metrics
from litellm_sqlalchemy.ledger.drain import Drain
from litellm_sqlalchemy.ledger.exporter import DrainMetrics
from litellm_sqlalchemy.ledger.metrics import Metrics
from litellm_sqlalchemy.ledger.spool import Spool
from tests.fix_postgres import LEDGER_PASSWORD, Database
from tests.fix_proxy import Proxy, proxy_to
from tests.fix_records import new_id, pair, part, rejected
from tests.fix_server import wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from uuid import UUID

Start = Callable[[Database], Drain]


@pytest.fixture
def spool(tmp_path: Path, opened: Callable[[Path], Spool]) -> Spool:
    return opened(tmp_path / "spool" / "spool.sqlite3")


@pytest.fixture
def writer(spool: Spool, opened: Callable[[Path], Spool]) -> Spool:
    """The gateway's side of it."""
    return opened(spool.path)


@pytest.fixture
def start(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the service, with pauses that a test can wait for."""
    monkeypatch.setattr(drain_module, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(drain_module, "ALIVE_SECONDS", 0.02)
    monkeypatch.setattr(drain_module, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(drain_module, "LONGEST_PAUSE_SECONDS", 0.05)
    with contextlib.ExitStack() as stack:

        def started(database: Database) -> Drain:
            drain = Drain(spool, database.engine(), batch_records=50, batch_bytes=1 << 24)
            thread = threading.Thread(target=drain.run)
            thread.start()
            stack.callback(thread.join, 60)
            stack.callback(drain.stop)
            return drain

        yield started


@pytest.fixture
def network(ledger_database: Database) -> Iterator[tuple[Proxy, Database]]:
    with proxy_to(ledger_database.cluster) as (proxy, cluster):
        yield proxy, replace(ledger_database, cluster=cluster)


def wait_until_empty(spool: Spool) -> None:
    wait_for(lambda: not spool.status().records, "the spool is empty")


def counts(database: Database) -> list[object]:
    return [
        database.rows(f"SELECT count(*), count(DISTINCT id) AS ids FROM {table}")[0]  # noqa: S608
        for table in ("requests", "responses")
    ]


def both(count: int) -> list[object]:
    return [{"count": count, "ids": count}] * 2


def test_a_network_that_is_cut_again_and_again(
    start: Start, writer: Spool, network: tuple[Proxy, Database], ledger_database: Database
) -> None:
    proxy, seen = network
    start(seen)
    for _ in range(20):
        writer.append([record for _ in range(20) for record in pair(new_id(), b'{"a": 1}', b'{"b": 2}')])
        proxy.cut()
    wait_until_empty(writer)
    assert counts(ledger_database) == both(400)
    assert rejected(writer) == []


def test_a_copy_whose_source_dies_midway(
    start: Start, writer: Spool, network: tuple[Proxy, Database], ledger_database: Database
) -> None:
    proxy, seen = network
    start(seen)
    body = json.dumps({"text": "x" * 20_000}).encode()
    for size in (1, 1_000, 30_000, 100_000, 300_000):  # of about 800,000 bytes
        proxy.cut_after(size)
        writer.append([record for _ in range(10) for record in pair(new_id(), body, body)])
        wait_until_empty(writer)
    assert counts(ledger_database) == both(50)
    assert ledger_database.rows("SELECT count(*) FROM requests WHERE body_text IS NULL OR body IS NULL") == [
        {"count": 0}
    ]
    assert rejected(writer) == []


def test_a_database_that_is_gone_for_a_while(
    start: Start,
    writer: Spool,
    network: tuple[Proxy, Database],
    ledger_database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy, seen = network
    proxy.stop()
    caplog.set_level(logging.INFO)
    start(seen)
    writer.append(pair(new_id()))
    wait_for(lambda: "action=waiting sqlstate=none reason=" in caplog.text, "the drain waits")
    writer.append(pair(new_id()))
    assert writer.status().records == 4
    proxy.start()
    wait_until_empty(writer)
    wait_for(lambda: "action=resumed" in caplog.text, "the drain says so")
    assert counts(ledger_database) == both(2)


def test_a_connection_on_which_nothing_comes_back_is_cut(
    start: Start,
    writer: Spool,
    network: tuple[Proxy, Database],
    ledger_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_SECONDS", 5)  # after which it says that nobody answers
    monkeypatch.setattr(drain_module, "LONGEST_SILENCE_SECONDS", 0.2)
    proxy, seen = network
    start(seen)
    writer.append(pair(new_id()))
    wait_until_empty(writer)
    proxy.deafen()
    writer.append(pair(new_id()))
    wait_for(lambda: "action=waiting" in caplog.text, "the drain gives it up")
    assert writer.status().records == 2
    proxy.cut()
    proxy.hear()
    wait_until_empty(writer)
    assert counts(ledger_database) == both(2)


def test_it_stops_although_the_database_does_not_answer(
    start: Start,
    spool: Spool,
    writer: Spool,
    network: tuple[Proxy, Database],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain_module, "LAST_BATCH_SECONDS", 0.1)
    proxy, seen = network
    drain = start(seen)
    writer.append(pair(new_id()))
    wait_until_empty(writer)
    proxy.deafen()
    writer.append(pair(new_id()))
    wait_for(lambda: drain._store.busy_seconds() > 0, "the drain waits for an answer")
    drain.stop()  # the fixture joins it
    assert writer.status().records == 2


@pytest.mark.parametrize("code", ["53100", "53200", "57P01", "25006", "40P01", "55P03", "XX001"])
def test_what_is_not_about_a_row_is_waited_out(
    start: Start, writer: Spool, ledger_database: Database, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    execute = ledger_database.cluster.execute
    execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END $$; "
        "CREATE TRIGGER fail BEFORE INSERT ON responses FOR EACH ROW EXECUTE FUNCTION fail()",
        ledger_database.name,
    )
    start(ledger_database)
    writer.append(pair(new_id()))
    wait_for(lambda: caplog.text.count(f"action=waiting sqlstate={code} reason=not now") > 1, "it tries again")
    assert counts(ledger_database) == both(0)
    execute("DROP TRIGGER fail ON responses", ledger_database.name)
    wait_until_empty(writer)
    assert counts(ledger_database) == both(1)
    assert rejected(writer) == []


# --- the process ------------------------------------------------------------------------------------------------


def service(spool: Spool, database: Database, **settings: str) -> "subprocess.Popen[str]":
    """Start the drain as its unit does."""
    credentials = spool.path.parents[1] / "credentials"
    credentials.mkdir(exist_ok=True)
    (credentials / "ledger_database_password").write_text(LEDGER_PASSWORD)
    return subprocess.Popen(
        [sys.executable, "-m", "litellm_sqlalchemy.cli", "drain"],
        env={
            "PATH": os.environ["PATH"],
            "CREDENTIALS_DIRECTORY": str(credentials),
            "LEDGER_SPOOL_PATH": str(spool.path),
            **database.environment(),
            **settings,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_while_records_come_it_stores_everything_once(writer: Spool, ledger_database: Database) -> None:
    """Workers come and go meanwhile: what they answered has its answer, what they did not is interrupted."""
    (writer.path.parent / locks.WORKERS).mkdir()
    answered: list[UUID] = []
    lost: list[UUID] = []

    def handled() -> int:
        return 3 * len(answered) + len(lost) - writer.status().records

    pause = threading.Event()
    for number in range(8):
        name = f"{number:032x}"
        lock = locks.take(writer.path.parent / locks.WORKERS / f"{name}.lock")
        assert lock is not None
        before = handled()
        enough = len(answered) + random.randint(30, 90)
        drain = service(writer, ledger_database, LEDGER_BATCH_RECORDS="40")
        while len(answered) < enough or (handled() < before + 50 and drain.poll() is None):
            exchange = new_id()
            words = exchange.hex.encode()
            writer.append([part("request", exchange, words, worker=name)])
            pause.wait(0.01)  # so that the drain sees the request before its response
            writer.append([part("response", exchange, words), part("usage", exchange)])
            answered.append(exchange)
        exchange = new_id()
        writer.append([part("request", exchange, b"1", worker=name)])
        lost.append(exchange)
        os.close(lock)
        if number < 7:
            drain.kill()
            drain.communicate()
    wait_until_empty(writer)
    wait_for(lambda: writer.open_exchanges() == {}, "nothing is open any more")
    drain.terminate()
    _, err = drain.communicate(timeout=60)
    assert "ERROR" not in err
    assert rejected(writer) == []
    rows = ledger_database.rows(
        "SELECT id, outcome, u.id IS NOT NULL AS counted, "
        "coalesce(s.body_text, '') = r.body_text AND r.body_text = replace(id::text, '-', '') AS same "
        "FROM requests r LEFT JOIN responses s USING (received_at, id) LEFT JOIN usages u USING (received_at, id)"
    )
    found = sorted((str(row["id"]), row["outcome"], row["same"], row["counted"]) for row in rows)
    expected = [(str(exchange), "completed", True, True) for exchange in answered]
    expected += [(str(exchange), "interrupted", False, False) for exchange in lost]
    assert found == sorted(expected)


def test_there_is_one_drain_at_a_time(writer: Spool, ledger_database: Database) -> None:
    first = service(writer, ledger_database)
    try:
        writer.append(pair(new_id()))
        wait_until_empty(writer)
        second = service(writer, ledger_database)
        _, err = second.communicate(timeout=60)
        assert second.returncode == 1
        assert err == (
            f"litellm-sqlalchemy: another drain is at work on {writer.path}: stop that one first, or let it do "
            "the work\n"
        )
    finally:
        first.kill()
        first.communicate()
    third = service(writer, ledger_database)  # a lock is free when its holder is dead
    writer.append(pair(new_id()))
    wait_until_empty(writer)
    third.terminate()
    third.communicate(timeout=60)
    assert third.returncode == 0


def test_it_tells_systemd_that_it_lives(writer: Spool, ledger_database: Database, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        drain = service(writer, ledger_database, NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    drain.kill()
    drain.communicate()


# --- metrics ----------------------------------------------------------------------------------------------------


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def test_the_drain_shows_the_metrics_of_all_processes(writer: Spool, ledger_database: Database, tmp_path: Path) -> None:
    directory, port = tmp_path / "metrics", free_port()
    directory.mkdir()
    gateway = Metrics(directory)
    gateway.add(metrics.EXCHANGES, 3, "completed")
    drain = service(writer, ledger_database, LEDGER_METRICS_DIRECTORY=str(directory), LEDGER_METRICS_PORT=str(port))
    try:
        exchange = new_id()
        writer.append([*pair(exchange), part("usage", exchange), part("response", new_id())])
        wait_until_empty(writer)
        wait_for(lambda: scrape(port).get("ledger_rejected_records") == 1, "the metrics say so")
        found = scrape(port)
        assert found['ledger_exchanges_total{outcome="completed"}'] == 3
        assert [
            found[f'ledger_stored_rows_total{{table="{name}"}}'] for name in ("requests", "responses", "usages")
        ] == [1] * 3
        assert (found["ledger_spool_records"], found["ledger_drain_waiting"], found["ledger_spool_alarm"]) == (0, 0, 0)
        assert found["ledger_spool_max_bytes"] == 10 << 30
        assert found["ledger_spool_bytes"] > 0
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
    finally:
        drain.terminate()
        drain.communicate(timeout=60)
        gateway.close()
    assert drain.returncode == 0


def test_the_metrics_tell_of_a_spool_that_grows(writer: Spool, tmp_path: Path) -> None:
    measured = Metrics(tmp_path)
    writer.append(pair(new_id()))
    status = writer.status()
    for limit, ratio, alarm in ((0, 0.5, 0), (2 * status.bytes, 0.5, 1), (2 * status.bytes, 0.51, 0)):
        DrainMetrics(measured, limit, ratio).show(status, 12.5, waiting=True)
        shown = metrics.render(tmp_path)
        assert f"ledger_spool_alarm {alarm}.0\n" in shown
        assert "ledger_spool_records 2.0\n" in shown
        assert "ledger_spool_oldest_age_seconds 12.5\n" in shown
        assert "ledger_drain_waiting 1.0\n" in shown
    measured.close()


def test_a_port_that_is_taken_does_not_stop_the_drain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    exporter.serve(tmp_path, port)
    exporter.serve(tmp_path, port)
    assert re.search(rf"action=no_metrics port={port} reason=.*Address already in use", caplog.text)
