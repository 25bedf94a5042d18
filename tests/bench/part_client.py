"""What the Prisma client costs: beside asyncpg alone, and beside the client that prisma-client-py generates."""

import asyncio
import contextlib
import datetime as dt
import gc
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from litellm_sqlalchemy.prisma_client.client import description
from litellm_sqlalchemy.prisma_client.description import Entity
from prisma import Prisma
from tests.bench import load
from tests.bench.gateways import KEY, Gateway, Workplace, scripted_upstream
from tests.bench.part_gateway import QUESTION
from tests.bench.run import Run, Server
from tests.contract.oracle.install import oracle
from tests.fix_litellm_database import MIGRATIONS
from tests.fix_postgres import SUPERUSER_PASSWORD

IMPORT = """
import json, sys, time
began = time.process_time()
if sys.argv[1:]:
    import prisma
    prisma.Prisma()
seconds = time.process_time() - began
(pss,) = [line.split()[1] for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:")]
print(json.dumps({"cpu_seconds": seconds, "pss_mb": int(pss) * 1024 / 1e6}))
"""
BULK = 10_000
BEAT_SECONDS = 0.001  # of the task that sees how long the event loop is blocked
Call = Callable[[], Awaitable[object]]


def measure(run: Run) -> dict[str, Any]:
    """Measure all of it; gives the raw rounds."""
    found: dict[str, Any] = {"imports": _imports(run)}
    if run.quick:
        found["left_out"] = "the generated client, which takes minutes to make"
    with run.cluster() as server, scripted_upstream(run.directory) as upstream:
        url = _migrated(server)
        found |= uvloop.run(_calls(run, url))
        database = server.database()
        place = Workplace(run.directory, database, upstream, database_url=url)
        run.say("client: starting LiteLLM with virtual keys")
        with place.gateways(("ledger",), 1) as gateways:
            found["chat_ms"] = uvloop.run(_chats(run, gateways["ledger"], url))
    return found


def _imports(run: Run) -> list[dict[str, Any]]:
    """Import each client in a process of its own, its modules compiled already or not.

    They are not where a client is generated when an image is made, and who runs it may not write there.
    """
    clients = {"ours": (Path(sys.executable), dict(os.environ))}
    if not run.quick:
        run.say("client: the generated client")
        genuine = oracle()
        clients["generated"] = (genuine.python, genuine.environment)
    found = []
    nowhere = ["-B", "-X", f"pycache_prefix={run.directory}/nowhere"]
    for number in range(-1, run.pick(10, 2)):  # the first one compiles
        for name, (python, environment) in clients.items():
            for compiled, arguments in itertools.product((True, False), (["prisma"], [])):
                command = [str(python), *([] if compiled else nowhere), "-c", IMPORT, *arguments]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd="/")
                about = {"client": name, "compiled": compiled, "imported": bool(arguments)}
                if number >= 0:
                    found.append({"round": number, **about, **json.loads(done.stdout)})
    return found


def _migrated(server: Server) -> str:
    """Make a database with LiteLLM's tables, and give its URL."""
    server.cluster.execute("CREATE DATABASE client TEMPLATE template0")
    for migration in sorted(MIGRATIONS.glob("*/migration.sql")):
        server.cluster.execute(migration.read_text(), "client")
    return f"postgresql://postgres:{SUPERUSER_PASSWORD}@{server.cluster.host}:{server.cluster.port}/client"


@contextlib.asynccontextmanager
async def _bare(url: str) -> AsyncIterator[Any]:
    """Connect by asyncpg alone; it gives JSON as a text, which the rows' decoder reads."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def _select(entity: Entity) -> str:
    columns = ", ".join(f'"{field.column}"' for field in entity.columns)
    return f'SELECT {columns} FROM "{entity.model.table}"'  # noqa: S608  # of the schema


async def _calls(run: Run, url: str) -> dict[str, Any]:
    keys, spend = (description().entities[name] for name in ("LiteLLM_VerificationToken", "LiteLLM_SpendLogs"))
    client = Prisma(datasource={"url": f"{url}?connection_limit=1"})
    await client.connect()
    async with _bare(url) as bare:
        await client.litellm_verificationtoken.create({"token": "a key", "key_name": "bench", "models": ["a", "b"]})
        by_key = f"{_select(keys)} WHERE token = $1"
        found: dict[str, Any] = {
            "find_unique": await _paired(
                run,
                "find_unique",
                lambda: client.litellm_verificationtoken.find_unique({"token": "a key"}),
                lambda: _one(bare, by_key, keys),
                calls=run.pick(1_000, 20),
                rounds=run.pick(60, 3),
            )
        }
        rows = [_spend(number) for number in range(BULK)]
        # As asyncpg takes them for timestamp.
        inserted = [
            [value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value for value in row.values()]
            for row in rows
        ]
        numbers = ", ".join(f"${number}" for number in range(1, len(rows[0]) + 1))
        names = ", ".join(f'"{name}"' for name in rows[0])
        insert = f'INSERT INTO "LiteLLM_SpendLogs" ({names}) VALUES ({numbers})'  # noqa: S608  # of this file

        async def empty() -> None:
            await bare.execute('TRUNCATE "LiteLLM_SpendLogs"')

        many: dict[str, Any] = {"rounds": run.pick(20, 2), "calls": 1}
        found["create_many"] = await _paired(
            run,
            "create_many",
            lambda: client.litellm_spendlogs.create_many(rows),
            lambda: bare.executemany(insert, inserted),
            before=empty,
            **many,
        )
        found["find_many"] = await _paired(
            run,
            "find_many",
            client.litellm_spendlogs.find_many,
            lambda: _many(bare, _select(spend), spend),
            **many,
        )
    await client.disconnect()
    return found


async def _one(connection: Any, sql: str, entity: Entity) -> object:
    return entity.decode(await connection.fetchrow(sql, "a key"))


async def _many(connection: Any, sql: str, entity: Entity) -> Sequence[object]:
    return [entity.decode(row) for row in await connection.fetch(sql)]


def _spend(number: int) -> dict[str, Any]:
    """Make a row as LiteLLM writes one for each call."""
    began = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=number)
    return {
        "request_id": f"request-{number}",
        "call_type": "acompletion",
        "api_key": hashlib.sha256(str(number % 50).encode()).hexdigest(),
        "spend": number * 1e-6,
        "total_tokens": number % 1_300,
        "prompt_tokens": number % 1_000,
        "completion_tokens": number % 300,
        "startTime": began,
        "endTime": began + dt.timedelta(seconds=1),
        "request_duration_ms": 1_000,
        "completionStartTime": began,
        "model": "gpt-4o-mini",
        "model_id": "0123456789abcdef",
        "model_group": "bench",
        "custom_llm_provider": "openai",
        "api_base": "https://upstream/v1",
        "user": f"user-{number % 20}",
        "metadata": json.dumps({"user_api_key_alias": f"key {number % 50}", "usage": {"total_tokens": number % 1_300}}),
        "cache_hit": "False",
        "cache_key": "Cache OFF",
        "request_tags": '["bench", "client"]',
        "team_id": f"team-{number % 5}",
        "organization_id": None,
        "end_user": "",
        "requester_ip_address": "127.0.0.1",
        "messages": "{}",
        "response": "{}",
        "session_id": f"session-{number}",
        "status": "success",
        "proxy_server_request": "{}",
        "litellm_call_id": f"call-{number}",
        "created_at": began,
        "updated_at": began,
    }


async def _paired(
    run: Run, name: str, ours: Call, theirs: Call, *, rounds: int, calls: int, before: Call | None = None
) -> list[dict[str, Any]]:
    """Call both in turn; gives milliseconds a call, and for how long the event loop was blocked at most."""
    run.say(f"client: {name}")
    gc.freeze()  # nor is what the benchmark has imported
    found = []
    for number in range(-1, rounds):  # the first one warms up
        one: dict[str, Any] = {"round": number}
        for kind, call in (
            (("ours", ours), ("asyncpg", theirs)) if number % 2 else (("asyncpg", theirs), ("ours", ours))
        ):
            if before is not None:
                await before()
            gc.collect()  # what the call before has left is not its own
            blocked: list[float] = []
            beating = asyncio.create_task(_beat(blocked)) if calls == 1 else None  # which takes its own time
            await asyncio.sleep(0)
            began = time.perf_counter()
            for _ in range(calls):
                await call()
            one[kind] = (time.perf_counter() - began) / calls * 1e3
            if beating is not None:
                await asyncio.sleep(2 * BEAT_SECONDS)  # for the beat that was held up last
                beating.cancel()
                one[f"{kind}_blocked"] = max(blocked)
        if number >= 0:
            found.append(one)
    return found


async def _beat(blocked: list[float]) -> None:
    """Note, beat for beat, by how many milliseconds it comes too late."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(BEAT_SECONDS)
        blocked.append((time.perf_counter() - began - BEAT_SECONDS) * 1e3)


async def _chats(run: Run, gateway: Gateway, url: str) -> list[dict[str, float]]:
    """Ask by the master key, and by keys that the gateway has not seen before; beside them, one SELECT of a key."""
    count = run.pick(300, 10)
    keys = [f"sk-bench-{number}" for number in range(count + 20)]
    entity = description().entities["LiteLLM_VerificationToken"]
    found = []
    async with Prisma(datasource={"url": url}) as client, _bare(url) as bare:
        tokens = [
            {"token": hashlib.sha256(key.encode()).hexdigest(), "key_name": key[-4:], "models": []} for key in keys
        ]
        await client.litellm_verificationtoken.create_many(tokens)
        connection = await gateway.connect(1)
        for number, key in enumerate(keys):
            one: dict[str, float] = {"round": number}
            for kind, token in (("master", KEY), ("cold", key), ("warm", key)):
                answer = await connection[0].ask(load.post("/v1/chat/completions", QUESTION, token))
                if answer.status != 200:
                    raise RuntimeError(f"a chat by the {kind} key was answered with {answer.status}")
                one[kind] = answer.milliseconds
            began = time.perf_counter()
            await _one(bare, f"{_select(entity)} WHERE token = $1", entity)
            one["select"] = (time.perf_counter() - began) * 1e3
            if number >= len(keys) - count:
                found.append(one)
        load.close(connection)
    return found
