"""What history costs: the same queries on databases of one day, ten days and a hundred days of the same traffic."""

import contextlib
import datetime as dt
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg2

from tests.bench.run import TABLES, Run, Server, make_partitions
from tests.fix_postgres import READER_PASSWORD, SUPERUSER_PASSWORD, Database

KEYS = 50
NEEDED_BYTES = 40 << 30  # free on the disk for 10^7 exchanges, their indexes and the write-ahead log
EXCHANGES = """
CREATE TEMPORARY TABLE exchanges_to_make AS
SELECT received_at,
       -- UUIDv7 of received_at's millisecond
       (lpad(to_hex((extract(epoch FROM received_at) * 1000)::bigint), 12, '0') || '7' || substr(noise, 1, 3)
           || '8' || substr(noise, 4, 15))::uuid AS id,
       encode(sha256(((n * 7919 % {keys})::text)::bytea), 'hex') AS key_hash,
       n, noise
FROM (SELECT n, md5(n::text || '{day}') AS noise,
             timestamptz '{day} 00:00:00+00' + (n * {microseconds}) * interval '1 microsecond' AS received_at
      FROM generate_series(0::bigint, {count} - 1) AS n)
"""
ROWS = {
    "requests": """
INSERT INTO requests (received_at, id, call_id, method, path, model, stream, key_hash, headers, body_size,
                      body_complete, body, body_text)
SELECT received_at, id, id::text, 'POST', '/v1/chat/completions', 'bench', false, key_hash,
       '{"content-type": "application/json"}', 60, true,
       jsonb_build_object('model', 'bench', 'user', noise), jsonb_build_object('model', 'bench', 'user', noise)::text
FROM exchanges_to_make
""",
    "responses": """
INSERT INTO responses (received_at, id, call_id, finished_at, outcome, status, model, provider, prompt_tokens,
                       completion_tokens, total_tokens, cost, cache_hit, time_to_first_byte_ms, duration_ms, headers,
                       body_size, body, body_text)
SELECT received_at, id, id::text, received_at + interval '1 second', 'completed', 200, 'gpt-4o-mini', 'openai',
       n % 1000, n % 300, n % 1000 + n % 300, (n % 1000) * 0.00000015 + (n % 300) * 0.0000006, false, 900, 1000,
       '{"content-type": "application/json"}', 60,
       jsonb_build_object('id', noise, 'choices', '[]'::jsonb),
       jsonb_build_object('id', noise, 'choices', '[]'::jsonb)::text
FROM exchanges_to_make
""",
    "usages": """
INSERT INTO usages (received_at, id, call_id, call_type, key_alias, team, model, model_group, provider, prompt_tokens,
                    completion_tokens, total_tokens, cost, cache_hit)
SELECT received_at, id, id::text, 'acompletion', 'key ' || n % 50, 'team ' || n % 5, 'gpt-4o-mini', 'bench', 'openai',
       n % 1000, n % 300, n % 1000 + n % 300, (n % 1000) * 0.00000015 + (n % 300) * 0.0000006, false
FROM exchanges_to_make
""",
}
# As the commands and the documents ask: the bounds are literals, by which PostgreSQL leaves days out before it plans.
QUERIES = {
    "newest": "SELECT * FROM exchanges_between(%(since)s, %(until)s) ORDER BY received_at DESC LIMIT 50",
    "one": "SELECT * FROM exchanges_between(%(since)s, %(until)s) WHERE id = %(id)s",
    "day_by_key": "SELECT key_hash, count(*), sum(total_tokens), sum(cost) "
    "FROM exchanges_between(%(since)s, %(until)s) GROUP BY key_hash",
}
ROWS_OF = {"newest": 50, "one": 1, "day_by_key": KEYS}
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class History:
    """A database with some days of traffic.

    Attributes:
        exchanges: How many there are.
        days: Over so many days, the last of which is yesterday.
    """

    database: Database
    exchanges: int
    days: list[dt.date]


def measure(run: Run) -> dict[str, Any]:
    """Measure all of it; gives the times, and what EXPLAIN says was read."""
    a_day = run.pick(100_000, 500)
    lengths = run.pick([1, 10, 100], [1, 5, 30])
    free = shutil.disk_usage(run.directory).free
    found: dict[str, Any] = {"exchanges_a_day": a_day, "histories": [], "milliseconds": [], "plans": []}
    if free < NEEDED_BYTES and not run.quick:
        found["left_out"] = f"{lengths.pop() * a_day} exchanges: the disk has only {free >> 30} GiB free"
    with run.cluster() as server, contextlib.ExitStack() as stack:
        histories = [_make(run, server, length, a_day) for length in lengths]
        connections = {}
        for history in histories:
            connections[history.exchanges] = stack.enter_context(contextlib.closing(_connect(history.database)))
            found["histories"].append(
                {
                    "exchanges": history.exchanges,
                    "days": len(history.days),
                    "bytes": int(
                        str(server.cluster.execute(f"SELECT pg_database_size('{history.database.name}')")[0][0])
                    ),
                }
            )
        run.say("queries: asking")
        for number in range(-run.pick(20, 4), run.pick(100, 4)):  # the first ones warm up
            for name in QUERIES:
                for history in random.sample(histories, len(histories)):
                    milliseconds = _ask(connections[history.exchanges], history, name)
                    if number >= 0:
                        found["milliseconds"].append(
                            {"round": number, "query": name, "exchanges": history.exchanges, "value": milliseconds}
                        )
        for history in histories:
            for name in QUERIES:
                plan = _explain(connections[history.exchanges], history, name)
                found["plans"].append({"query": name, "exchanges": history.exchanges, **plan})
    return found


def _make(run: Run, server: Server, length: int, a_day: int) -> History:
    """Fill a database, a day's partition at a time, two at once."""
    database = server.database()
    today = dt.datetime.now(dt.UTC).date()
    days = [today - dt.timedelta(days=back) for back in range(length, 0, -1)]
    make_partitions(database, days)
    run.say(f"queries: making {length * a_day:,} exchanges over {length} days")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda day: _fill(database, day, a_day), days))
    run.say("queries: vacuum")
    for table in TABLES:
        database.cluster.execute(f"VACUUM (ANALYZE) {table}", database.name)
    return History(database, length * a_day, days)


def _fill(database: Database, day: dt.date, count: int) -> None:
    values = {"day": day, "count": count, "keys": KEYS, "microseconds": 86_400_000_000 // count}
    with contextlib.closing(_connect(database, "postgres", SUPERUSER_PASSWORD)) as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            # The rows are made to fit each other: what the foreign key's triggers would look up, 10^7 times.
            cursor.execute("SET session_replication_role = replica")
            cursor.execute(EXCHANGES.format(**values))
            for sql in ROWS.values():
                cursor.execute(sql)
        connection.commit()


def _connect(database: Database, user: str = "litellm_reader_a", password: str = READER_PASSWORD) -> Any:
    connection = psycopg2.connect(
        host=database.cluster.host, port=database.cluster.port, dbname=database.name, user=user, password=password
    )
    connection.autocommit = True
    return connection


def _values(connection: Any, history: History, name: str) -> dict[str, Any]:
    """Give a query's bounds: the last day, or one of five from all of the history; of an id its millisecond."""
    days = history.days[:: -max(1, len(history.days) // 5)]
    day = dt.datetime.combine(days[0] if name == "newest" else random.choice(days), dt.time(), dt.UTC)
    if name != "one":
        return {"since": day, "until": day + DAY}
    moment = day + random.random() * DAY
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id::text FROM requests WHERE received_at < %s AND received_at >= %s ORDER BY received_at LIMIT 1",
            [day + DAY, min(moment, day + DAY - dt.timedelta(minutes=10))],
        )
        exchange = UUID(cursor.fetchone()[0])
    since = dt.datetime.fromtimestamp((exchange.int >> 80) / 1_000, dt.UTC)
    return {"since": since, "until": since + dt.timedelta(milliseconds=1), "id": str(exchange)}


def _ask(connection: Any, history: History, name: str) -> float:
    values = _values(connection, history, name)
    with connection.cursor() as cursor:
        began = time.perf_counter()
        cursor.execute(QUERIES[name], values)
        rows = cursor.fetchall()
        milliseconds = (time.perf_counter() - began) * 1e3
    if len(rows) != ROWS_OF[name]:
        raise RuntimeError(f"query {name} gave {len(rows)} rows")
    return round(milliseconds, 4)


def _explain(connection: Any, history: History, name: str) -> dict[str, Any]:
    """Let PostgreSQL say which partitions a query has read, of how many."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES[name]}", _values(connection, history, name))
        plan = cursor.fetchone()[0][0]["Plan"]
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = ANY (%s::regclass[])", [list(TABLES)])
        return {"partitions": cursor.fetchone()[0], "read": sorted(_read(plan))}


def _read(plan: dict[str, Any]) -> set[str]:
    found = {plan["Relation Name"]} if "Relation Name" in plan and plan["Actual Loops"] else set()
    return found.union(*(_read(below) for below in plan.get("Plans", ())))
