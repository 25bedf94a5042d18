"""How fast a backlog gets into the partitioned tables, beside COPY of the same rows: into plain tables, into these."""

import contextlib
import hashlib
import io
import json
import random
import shutil
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg2

from litellm_sqlalchemy.ledger.spool import Record, Spool
from litellm_sqlalchemy.ledger.uuid7 import uuid7
from tests.bench.run import Run
from tests.bench.service import draining, spool_path, wait_until_empty
from tests.bench.upstream import answer_body
from tests.fix_postgres import SUPERUSER_PASSWORD, Database

BODY_BYTES = (1_000, 2_000)  # of each half of a pair
WORDS = ("the", "of", "and", "capital", "in", "that", "is", "was", "river", "for", "it", "with", "as", "since", "year")
TABLES = ("requests", "responses")
PATIENCE_SECONDS = 300


def measure(run: Run) -> dict[str, Any]:
    """Measure all of it; gives the raw rounds."""
    records = run.pick(40_000, 1_000)
    rounds: list[dict[str, Any]] = []
    with run.cluster() as server:
        for size in BODY_BYTES:
            count = run.pick(6, 2)
            saved: dict[str, bytes] = {}
            for number in range(-1, count):  # the first one warms up, and makes what COPY copies
                run.say(f"drain: bodies of {size} bytes, round {number + 1} of {count}")
                ways = random.sample(("drain", "copy", "copy_same"), 3)
                found: dict[str, Any] = {"body_bytes": size, "round": number, "rows": records}
                for way in ["drain"] if number < 0 else ways:
                    database = server.database()
                    server.cluster.execute("CHECKPOINT")
                    if way == "drain":
                        seconds = _drain(run, database, size, records)
                        saved = saved or _save(database, records)
                    else:
                        seconds = _copy(database, saved, plain=way == "copy")
                    found[f"{way}_seconds"] = round(seconds, 5)
                    server.cluster.execute(f"DROP DATABASE {database.name} WITH (FORCE)")
                if number >= 0:
                    rounds.append(found)
    return {"rounds": rounds}


def _drain(run: Run, database: Database, size: int, records: int) -> float:
    """Fill a spool, have the drain empty it; gives the seconds from its being ready until the spool is empty."""
    directory = run.directory / "drained"
    directory.mkdir()
    with contextlib.closing(Spool(spool_path(directory))) as spool:
        for pairs in _in_thousands(_pairs(size, records // 2)):
            spool.append(pairs)
    with draining(directory, database):
        began = time.perf_counter()
        wait_until_empty(directory, PATIENCE_SECONDS)
        seconds = time.perf_counter() - began
    with contextlib.closing(Spool(spool_path(directory))) as spool:
        rejected = spool.status().rejected
    shutil.rmtree(directory)
    if rejected:
        raise RuntimeError(f"{rejected} records were rejected")
    return seconds


def _pairs(size: int, count: int) -> Iterator[tuple[Record, Record]]:
    """Make requests and responses that differ, as of a minute's traffic."""
    choose = random.Random(1)
    key = hashlib.sha256(b"sk-bench").hexdigest()
    now = time.time_ns() // 1_000 - 60_000_000
    answer = json.loads(answer_body(1_000))
    headers = {"content-type": "application/json"}
    for number in range(count):
        received_at = now + number * 60_000_000 // count
        exchange = uuid7(received_at // 1_000)
        said = " ".join(choose.choices(WORDS, k=size // 4))[: size - 100]
        question = json.dumps({"model": "bench", "messages": [{"role": "user", "content": said}]}).encode()
        answer["choices"][0]["message"]["content"] = said[:-200]
        yield (
            _record("request", exchange, received_at, question, {
                "method": "POST", "path": "/v1/chat/completions", "query": None, "client": "192.0.2.7",
                "complete": True, "key_hash": key, "headers": {**headers, "user-agent": "bench"},
                "worker": "0" * 32, "scheme": "http",
            }),
            _record("response", exchange, received_at, json.dumps(answer).encode(), {
                "status": 200, "outcome": "completed", "error": None, "key_hash": key,
                "headers": {**headers, "x-litellm-model-name": "openai/gpt-4o-mini",
                            "x-litellm-response-cost": "0.000138"},
                "time_to_first_byte_ms": 31.5, "duration_ms": 32.25,
            }),
        )  # fmt: skip


def _record(kind: Any, exchange: UUID, received_at: int, body: bytes, facts: dict[str, Any]) -> Record:
    known = {"call_id": str(exchange), "size": len(body)}
    return Record(
        kind=kind, exchange=exchange, received_at=received_at, facts=json.dumps({**known, **facts}), body=body
    )


def _in_thousands(pairs: Iterator[tuple[Record, Record]]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for pair in pairs:
        batch += pair
        if len(batch) >= 1_000:
            yield batch
            batch = []
    yield batch


def _connect(database: Database) -> Any:
    connection = psycopg2.connect(
        host=database.cluster.host,
        port=database.cluster.port,
        dbname=database.name,
        user="postgres",
        password=SUPERUSER_PASSWORD,
    )
    connection.autocommit = True
    return connection


def _save(database: Database, records: int) -> dict[str, bytes]:
    """Take the rows that the drain has stored, as COPY writes them."""
    saved: dict[str, bytes] = {}
    with contextlib.closing(_connect(database)) as connection, connection.cursor() as cursor:
        for table in TABLES:
            output = io.BytesIO()
            cursor.copy_expert(f"COPY (SELECT * FROM {table}) TO STDOUT", output)  # noqa: S608 - our tables
            saved[table] = output.getvalue()
    rows = sum(text.count(b"\n") for text in saved.values())
    if rows != records:
        raise RuntimeError(f"of {records} records {rows} are in the tables")
    return saved


def _copy(database: Database, saved: dict[str, bytes], *, plain: bool) -> float:
    """COPY rows; gives the seconds.

    Args:
        database: A fresh one.
        saved: The rows.
        plain: Into tables without indexes, constraints or partitions; else into the ledger's own.
    """
    with contextlib.closing(_connect(database)) as connection, connection.cursor() as cursor:
        names = {table: f"plain_{table}" if plain else table for table in TABLES}
        if plain:
            for table, name in names.items():
                cursor.execute(f"CREATE TABLE {name} (LIKE {table})")
        began = time.perf_counter()
        for table, name in names.items():
            cursor.copy_expert(f"COPY {name} FROM STDIN", io.BytesIO(saved[table]))
        return time.perf_counter() - began
