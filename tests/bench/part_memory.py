"""What memory the ledger adds to a worker, and whether it grows: with requests, and while the database is away."""

import asyncio
import contextlib
import time
from typing import Any

from tests.bench import load, processes
from tests.bench.gateways import Gateway, Kind, Workplace, scripted_upstream
from tests.bench.part_gateway import REQUEST, ask, settle
from tests.bench.run import Run
from tests.bench.service import draining

PAIR: tuple[Kind, ...] = ("ledger", "none")
CONCURRENCY = 16


def measure(run: Run) -> dict[str, Any]:
    """Measure all of it; gives the samples."""
    with run.cluster() as server, scripted_upstream(run.directory) as upstream:
        database = server.database()
        place = Workplace(run.directory, database, upstream)
        with draining(run.directory, database):
            run.say("memory: starting LiteLLM with and without the ledger")
            with place.gateways(PAIR, 1) as gateways:
                samples = asyncio.run(_beside_each_other(run, gateways))
            settle(run)
        found: dict[str, Any] = {"beside": samples}
        with place.gateways(("recorded",), 1) as gateways:
            for phase in ("draining", "outage"):
                requests = run.pick(100_000, 2_000)
                run.say(f"memory: {requests} requests through the ledger, {phase}")
                with draining(run.directory, database) if phase == "draining" else contextlib.nullcontext():
                    found[phase] = asyncio.run(_through_the_ledger(gateways["recorded"], requests))
    return found


async def _beside_each_other(run: Run, gateways: dict[Kind, Gateway]) -> list[dict[str, Any]]:
    """Ask both the same, and look at both workers after each slice."""
    samples: list[dict[str, Any]] = []
    requests, until = 0, time.monotonic() + run.pick(75, 4)
    while time.monotonic() < until or len(samples) < 4:
        for gateway in gateways.values():
            await ask(gateway, CONCURRENCY, run.pick(100, 20))
        requests += run.pick(100, 20)
        samples.append({"requests": requests, **{kind: _memory(gateway) for kind, gateway in gateways.items()}})
    return samples


async def _through_the_ledger(gateway: Gateway, requests: int) -> list[dict[str, Any]]:
    connections = await gateway.connect(CONCURRENCY)
    samples = []
    for number in range(1, 51):
        await load.ask_all(connections, REQUEST, requests // 50)
        samples.append({"requests": number * requests // 50, **_memory(gateway)})
    load.close(connections)
    return samples


def _memory(gateway: Gateway) -> dict[str, float]:
    """Look at the one worker, and what it has started."""
    return {name: round(value, 3) for name, value in processes.memory(gateway.worker_pids[0]).items()}
