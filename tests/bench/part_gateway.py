"""What the ledger costs a request, beside the same gateway without it, the usual design, and stock LiteLLM."""

import asyncio
import contextlib
import functools
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import text

from tests.bench import load, processes
from tests.bench.gateways import KEY, KINDS, SMALL, Gateway, Kind, Workplace, scripted_upstream
from tests.bench.orm_model import Base
from tests.bench.run import Run
from tests.bench.service import draining, wait_until_empty
from tests.bench.upstream import WORDS
from tests.fix_postgres import OWNER_PASSWORD, Database

QUESTION = json.dumps(
    {"model": "bench", "messages": [{"role": "user", "content": f"{WORDS * 9}What is the capital of France?"}]}
).encode()
REQUEST = load.post("/v1/chat/completions", QUESTION, KEY)
STORING: tuple[Kind, ...] = ("ledger", "orm")
PAUSE_SECONDS = 0.3  # after each slice, so that its drain, and its late callbacks, are not in the next one
SETTLED_SECONDS = 120

T = TypeVar("T")


def measure(run: Run) -> dict[str, Any]:
    """Measure all of it; gives the raw rounds."""
    with run.cluster() as server, scripted_upstream(run.directory) as upstream:
        database = server.database()
        _make_orm_table(database)
        place = Workplace(run.directory, database, upstream)
        found: dict[str, Any] = {"latency_ms": {}, "throughput": [], "killed": []}
        answered: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
        with draining(run.directory, database):
            for workers in (1, 2):
                run.say(f"gateway: starting four gateways with {workers} worker(s) each")
                with place.gateways(KINDS, workers) as gateways:
                    asyncio.run(_with_workers(run, gateways, workers, upstream, found, answered))
                    settle(run)
                    found["stored"] = [
                        {
                            "kind": kind,
                            "answered": len(answered[kind]),
                            "stored": _stored(database, kind, answered[kind]),
                        }
                        for kind in STORING
                    ]
                    for kind in STORING:
                        run.say(f"gateway: kill -9 of {kind} under load")
                        ids = asyncio.run(_until_killed(gateways[kind], run.pick(300, 100)))
                        settle(run)
                        stored = _stored(database, kind, ids)
                        found["killed"].append(
                            {"kind": kind, "workers": workers, "answered": len(ids), "stored": stored}
                        )
            run.say("gateway: the ledger alone")
            with place.gateways(SMALL, 1) as gateways:
                found["alone"] = asyncio.run(_alone(run, gateways))
    return found


async def _with_workers(
    run: Run,
    gateways: dict[Kind, Gateway],
    workers: int,
    upstream: int,
    found: dict[str, Any],
    answered: dict[Kind, list[str]],
) -> None:
    for kind in KINDS:
        run.say(f"gateway: warming up {kind}")
        answered[kind] += _ids(await ask(gateways[kind], 16, run.pick(300, 20) * workers))
    if workers == 1:
        run.say("gateway: latency, one request at a time")
        found["latency_ms"] = await _latency(run, gateways, upstream, answered)
    rounds = run.pick(14, 2)
    for number in range(rounds):
        run.say(f"gateway: throughput with {workers} worker(s), round {number + 1} of {rounds}")
        for concurrency in (16, 64):
            for kind in _shuffled(KINDS):
                times = run.pick(max(120, 3 * concurrency) * workers, concurrency)
                answers, sample = await _slice(gateways[kind], concurrency, times)
                answered[kind] += _ids(answers)
                found["throughput"].append(
                    {"workers": workers, "concurrency": concurrency, "round": number, "kind": kind, **sample}
                )


async def _slice(gateway: Gateway, concurrency: int, times: int) -> tuple[list[load.Answer], dict[str, Any]]:
    """Ask so many times; how long it took, and how long the gateway's processes were on a CPU for it."""
    connections = await gateway.connect(concurrency)
    cpu, began = processes.cpu_seconds(gateway.pid), time.perf_counter()
    answers = await load.ask_all(connections, REQUEST, times)
    seconds = time.perf_counter() - began
    await asyncio.sleep(PAUSE_SECONDS)
    cpu = processes.cpu_seconds(gateway.pid) - cpu
    load.close(connections)
    return answers, {"requests": len(answers), "seconds": round(seconds, 5), "cpu_seconds": round(cpu, 2)}


async def ask(gateway: Gateway, concurrency: int, times: int) -> list[load.Answer]:
    """Ask a gateway over new connections."""
    connections = await gateway.connect(concurrency)
    answers = await load.ask_all(connections, REQUEST, times)
    load.close(connections)
    return answers


async def _alone(run: Run, gateways: dict[Kind, Gateway]) -> list[dict[str, Any]]:
    """Ask an application that costs nothing, with and without the ledger."""
    found: list[dict[str, Any]] = []
    for number in range(-1, run.pick(12, 2)):  # the first one warms up
        for kind in _shuffled(SMALL):
            _, sample = await _slice(gateways[kind], 16, run.pick(2_000, 100))
            if number >= 0:
                found.append({"round": number, "kind": kind, **sample})
    return found


async def _latency(
    run: Run,
    gateways: dict[Kind, Gateway],
    upstream: int,
    answered: dict[Kind, list[str]],
) -> dict[str, list[float]]:
    """Ask one after the other, all in turn, in a new order each time; beside them the upstream itself, and the disk."""
    connections: dict[str, load.Connection] = {"upstream": await load.connect(upstream)}
    for kind, gateway in gateways.items():
        (connections[kind],) = await gateway.connect(1)
    taken: dict[str, list[float]] = {name: [] for name in ("disk", *connections)}
    with _disk(run.directory / "written") as write:
        for _ in range(run.pick(1_000, 15)):
            for name in _shuffled(list(taken)):
                if name == "disk":
                    taken[name].append(write())
                    continue
                answer = await connections[name].ask(REQUEST)
                taken[name].append(answer.milliseconds)
                if name != "upstream":
                    answered[cast("Kind", name)] += _ids([answer])
    load.close(list(connections.values()))
    return {name: [round(value, 4) for value in values] for name, values in taken.items()}


@contextlib.contextmanager
def _disk(file: Path) -> Iterator[Callable[[], float]]:
    """Write where SQLite's log would be; gives what writes 4 KB, makes them durable, and says in how many ms."""
    file.write_bytes(bytes(4 << 20))  # as a log that is used again
    with file.open("r+b", buffering=0) as written:
        os.fsync(written)

        def write() -> float:
            began = time.perf_counter()
            if written.tell() >= 4 << 20:
                written.seek(0)
            written.write(bytes(4096))
            os.fdatasync(written)
            return (time.perf_counter() - began) * 1e3

        yield write


def _shuffled(values: Sequence[T]) -> list[T]:
    return random.sample(values, len(values))


def _ids(answers: Sequence[load.Answer]) -> list[str]:
    wrong = [answer.status for answer in answers if answer.status != 200]
    if wrong:
        raise RuntimeError(f"answers with status {wrong[0]}")
    return [answer.call_id for answer in answers]


async def _until_killed(gateway: Gateway, times: int) -> list[str]:
    """Load a gateway, kill -9 all of it after so many answers; the call ids of what was answered completely."""
    connections = await gateway.connect(64)
    kill = functools.partial(processes.kill_tree, gateway.pid)
    return _ids(await load.ask_until_closed(connections, REQUEST, times, kill))


def settle(run: Run) -> None:
    """Wait until callbacks have had their time, and the drain has nothing left."""
    time.sleep(2)
    wait_until_empty(run.directory, SETTLED_SECONDS)


def _stored(database: Database, kind: Kind, call_ids: list[str]) -> int:
    """Count whose rows are there: with the ledger, the request's and the completed response's."""
    pairs = "SELECT s.call_id FROM responses s JOIN requests USING (received_at, id) WHERE outcome = 'completed'"
    sql = pairs if kind == "ledger" else "SELECT call_id FROM exchanges_of_the_callback"
    engine = database.engine("litellm_owner", OWNER_PASSWORD)
    with engine.connect() as connection:
        rows = list(connection.execute(text(sql)).scalars())
    engine.dispose()
    if len(rows) != len(set(rows)):
        raise RuntimeError(f"{kind}: {len(rows) - len(set(rows))} rows are there twice")
    return len(set(call_ids) & set(rows))


def _make_orm_table(database: Database) -> None:
    engine = database.engine("litellm_owner", OWNER_PASSWORD)
    Base.metadata.create_all(engine)
    engine.dispose()
