"""Exchanges whose worker died: the drain says so, once, and only of those."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from litellm_sqlalchemy.ledger import drain as drain_module
from litellm_sqlalchemy.ledger import locks
from litellm_sqlalchemy.ledger.drain import Drain
from litellm_sqlalchemy.ledger.policy import Policy
from litellm_sqlalchemy.ledger.rows import RowMaker
from litellm_sqlalchemy.ledger.spool import Spool
from tests.fix_postgres import Database
from tests.fix_records import new_id, pair, part, rejected

NOTHING_TO_DO = 0


class Worker:
    """A worker's lock."""

    def __init__(self, spool: Spool) -> None:
        self.name = uuid4().hex
        self.file = spool.path.parent / locks.WORKERS / f"{self.name}.lock"
        self.file.parent.mkdir(exist_ok=True)
        self._descriptor = locks.take(self.file)

    def die(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@pytest.fixture
def spool(tmp_path: Path, opened: Callable[[Path], Spool]) -> Spool:
    return opened(tmp_path / "spool" / "spool.sqlite3")


@pytest.fixture
def worker(spool: Spool) -> Iterator[Worker]:
    worker = Worker(spool)
    yield worker
    worker.die()


@pytest.fixture
def new_drain(
    spool: Spool, ledger_database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Drain]]:
    """Makes drains as a start of the service makes them; each looks for dead workers in every round."""
    monkeypatch.setattr(drain_module, "ALIVE_SECONDS", 0)
    engines = []

    def make(policies: tuple[Policy, ...] = ()) -> Drain:
        engines.append(ledger_database.engine())
        return Drain(spool, engines[-1], batch_records=100, batch_bytes=1 << 24, rows=RowMaker(policies))

    yield make
    for engine in engines:
        engine.dispose()


def settle(drain: Drain) -> None:
    """Let a drain do all that there is to do."""
    for _ in range(4):
        drain.run_once()


def outcomes(database: Database) -> list[tuple[object, ...]]:
    rows = database.rows("SELECT outcome, status, finished_at IS NULL AS unknown FROM responses ORDER BY outcome")
    return [tuple(row.values()) for row in rows]


INTERRUPTED = ("interrupted", None, True)
COMPLETED = ("completed", 200, False)


def test_an_exchange_whose_worker_died(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, worker: Worker
) -> None:
    drain = new_drain()
    exchange = new_id()
    spool.append([part("request", exchange, b"{}", worker=worker.name, call_id="c7")])
    settle(drain)
    assert outcomes(ledger_database) == []
    assert list(spool.open_exchanges()) == [exchange.bytes]
    worker.die()
    settle(drain)
    (row,) = ledger_database.rows("SELECT * FROM responses")
    known = {name: value for name, value in row.items() if value is not None}
    assert known == {
        "received_at": row["received_at"],
        "id": exchange,
        "call_id": "c7",
        "outcome": "interrupted",
        "cache_hit": False,
        "headers": {},
        "body_size": 0,
        "capture": "full",
        "redactions": 0,
    }
    assert spool.open_exchanges() == {}


def test_a_drain_that_starts_later_knows_it_too(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, worker: Worker
) -> None:
    spool.append([part("request", new_id(), worker=worker.name)])
    settle(new_drain())
    worker.die()
    settle(new_drain())
    assert outcomes(ledger_database) == [INTERRUPTED]


def test_a_lock_that_is_gone_is_free(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, worker: Worker
) -> None:
    spool.append([part("request", new_id(), worker=worker.name)])
    worker.die()
    worker.file.unlink()
    settle(new_drain())
    assert outcomes(ledger_database) == [INTERRUPTED]


def test_a_response_that_waits_in_the_spool_is_not_overtaken(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, worker: Worker
) -> None:
    exchange = new_id()
    spool.append([part("request", exchange, worker=worker.name)])
    drain = new_drain()
    drain.run_once()
    for _ in range(250):  # more than two batches
        spool.append(pair(new_id()))
    spool.append([part("response", exchange, b"{}")])
    worker.die()
    while drain.run_once():
        pass
    settle(drain)
    assert set(outcomes(ledger_database)) == {COMPLETED}
    assert spool.open_exchanges() == {}


def test_exchanges_of_other_workers_and_of_releases_that_named_none_stay_open(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, worker: Worker
) -> None:
    dead = Worker(spool)
    spool.append(
        [
            part("request", new_id(), worker=worker.name),
            part("request", new_id()),
            part("request", new_id(), worker=dead.name),
        ]
    )
    dead.die()
    settle(new_drain())
    assert outcomes(ledger_database) == [INTERRUPTED]
    assert len(spool.open_exchanges()) == 2


def test_the_worker_that_died_is_noticed_under_load(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, worker: Worker
) -> None:
    lost = new_id()
    drain = new_drain()
    spool.append([part("request", lost, worker=worker.name)])
    worker.die()
    for _ in range(8):  # the spool is never empty
        for _ in range(150):
            spool.append(pair(new_id()))
        drain.run_once()
    assert spool.status().records > 0
    assert ledger_database.rows("SELECT outcome FROM responses WHERE finished_at IS NULL") == [
        {"outcome": "interrupted"}
    ]


def test_a_response_that_comes_after_all_takes_its_place(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, worker: Worker
) -> None:
    exchange = new_id()
    drain = new_drain()
    spool.append([part("request", exchange, b"{}", worker=worker.name)])
    worker.die()
    settle(drain)
    assert outcomes(ledger_database) == [INTERRUPTED]
    spool.append([*pair(new_id()), part("response", exchange, b'{"late": true}'), *pair(new_id())])
    settle(drain)
    assert outcomes(ledger_database) == [COMPLETED] * 3
    assert ledger_database.rows("SELECT body FROM responses WHERE body ? 'late'") == [{"body": {"late": True}}]
    assert rejected(spool) == []


def test_what_the_gateway_said_itself_is_never_overwritten(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    exchange = new_id()
    spool.append([part("request", exchange), part("response", exchange, status=None, outcome="interrupted")])
    settle(new_drain())
    spool.append([part("response", exchange, b"{}")])
    settle(new_drain())
    assert outcomes(ledger_database) == [("interrupted", None, False)]


def dies_before_it_settles(drain: Drain, spool: Spool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "settle", lambda *_, **__: (_ for _ in ()).throw(sqlite3.OperationalError("died here")))
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="died here"):
                settle(drain)


def test_killed_after_the_commit_it_repeats_itself_without_a_trace(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, worker: Worker
) -> None:
    lost, answered = new_id(), new_id()
    spool.append([part("request", lost, worker=worker.name), part("request", answered, worker=worker.name)])
    settle(new_drain())
    spool.append([part("response", answered, b"{}")])
    worker.die()
    dies_before_it_settles(new_drain(), spool)  # the response is in the table, and still in the spool
    assert outcomes(ledger_database) == [COMPLETED]
    assert len(spool.open_exchanges()) == 2
    drain = new_drain()
    drain.run_once()
    dies_before_it_settles(drain, spool)  # now also what it made itself
    settle(new_drain())
    assert outcomes(ledger_database) == [COMPLETED, INTERRUPTED]
    assert rejected(spool) == []
    assert spool.open_exchanges() == {}


def test_nothing_is_said_of_what_the_policies_keep_out(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, worker: Worker
) -> None:
    spool.append([part("request", new_id(), worker=worker.name)])
    worker.die()
    settle(new_drain((Policy(capture="none"),)))
    assert outcomes(ledger_database) == []
    assert spool.open_exchanges() == {}


def test_what_was_forgotten_in_the_database_meanwhile_is_let_go(
    new_drain: Callable[..., Drain],
    spool: Spool,
    ledger_database: Database,
    worker: Worker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spool.append([part("request", new_id(), worker=worker.name)])
    settle(new_drain())
    ledger_database.cluster.execute("DELETE FROM requests", ledger_database.name)
    worker.die()
    settle(new_drain())
    assert "action=rejected kind=response" in caplog.text
    assert spool.open_exchanges() == {}
    assert rejected(spool) == []  # there is no record of it


def test_lock_files_of_dead_workers_are_removed_when_nothing_of_theirs_is_open(
    new_drain: Callable[..., Drain], spool: Spool, worker: Worker
) -> None:
    dead, serving = Worker(spool), Worker(spool)
    spool.append([part("request", new_id(), worker=serving.name)])
    drain = new_drain()
    drain.run_once()
    dead.die()
    drain.run_once()
    assert [other.file.exists() for other in (dead, serving, worker)] == [False, True, True]
    serving.die()
    settle(drain)
    assert not serving.file.exists()
    assert worker.file.exists()
