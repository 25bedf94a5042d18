"""What people read: each exchange in a row, sums by key, the slowest, the errors; and the removal of somebody's."""

import datetime as dt
import json
import re
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text

from litellm_sqlalchemy.ledger.models import Request, Response, Usage
from litellm_sqlalchemy.ledger.uuid7 import uuid7
from tests.fix_postgres import OWNER_PASSWORD, Database

NOON = dt.datetime.now(dt.UTC).replace(hour=12, minute=0, second=0, microsecond=0)
DAYS = 40
KEY = "a" * 64
HELLO = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]}


@pytest.fixture
def owner(ledger_database: Database) -> Iterator[Connection]:
    """The owner's connection, in one transaction."""
    engine = ledger_database.engine("litellm_owner", OWNER_PASSWORD)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def store(
    owner: Connection,
    at: dt.datetime = NOON,
    *,
    request: dict[str, Any] | None = None,
    response: dict[str, Any] | None = None,
    usage: dict[str, Any] | None = None,
) -> uuid.UUID:
    """Store an exchange: what is given of it, and what each row must have."""
    at += dt.timedelta(microseconds=123_456)
    own = {"received_at": at, "id": uuid7(int(at.timestamp() * 1000)), "call_id": "call"}
    must = {"headers": {}, "body_size": 0}
    requested = {"method": "POST", "path": "/v1/chat/completions", "stream": False, "body_complete": True}
    owner.execute(insert(Request), {**own, **must, **requested, **(request or {})})
    if response is not None:
        owner.execute(insert(Response), {**own, **must, "outcome": "completed", "cache_hit": False, **response})
    if usage is not None:
        owner.execute(insert(Usage), {**own, **usage})
    return uuid.UUID(str(own["id"]))


def rows(owner: Connection, sql: str) -> list[dict[str, Any]]:
    return [dict(row) for row in owner.execute(text(sql)).mappings()]


def exchange(owner: Connection, name: object) -> list[dict[str, Any]]:
    found = owner.execute(text("SELECT id FROM exchange(:name)"), {"name": str(name)})
    return [dict(row) for row in found.mappings()]


def test_an_exchange_is_one_readable_row(owner: Connection) -> None:
    found = store(
        owner,
        request={"model": "gpt", "key_hash": KEY, "stream": True, "body": HELLO, "body_size": 70, "end_user": "anna"},
        response={
            "call_id": "answered",
            "status": 200,
            "model": "gpt-4",
            "provider": "openai",
            "prompt_tokens": 3,
            "time_to_first_byte_ms": 12.5,
            "duration_ms": 1500.25,
            "body": {"choices": [{"message": {"role": "assistant", "content": "Hi."}}]},
            "body_size": 9,
        },
        usage={
            "key_alias": "shop",
            "team": "sales",
            "user_id": "u1",
            "provider": "azure",
            "total_tokens": 7,
            "completion_tokens": 4,
            "cost": Decimal("0.01"),
            "cache_hit": True,
        },
    )
    assert rows(owner, "SELECT * FROM exchanges") == [
        {
            "received_at": NOON + dt.timedelta(microseconds=123_456),
            "id": found,
            "call_id": "answered",
            "outcome": "completed",
            "status": 200,
            "method": "POST",
            "path": "/v1/chat/completions",
            "model": "gpt",
            "answered_by": "gpt-4",
            "provider": "azure",
            "key_hash": KEY,
            "key_alias": "shop",
            "team": "sales",
            "user_id": "u1",
            "end_user": "anna",
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "cost": Decimal("0.01"),
            "stream": True,
            "cache_hit": True,
            "time_to_first_byte_ms": 12.5,
            "duration_ms": 1500.25,
            "error": None,
            "question": "Hello?",
            "answer": "Hi.",
            "request_size": 70,
            "response_size": 9,
            "capture": "full",
        }
    ]


def test_what_has_no_response_and_no_usage_is_there_as_well(owner: Connection) -> None:
    store(owner, request={"capture": "metadata"})
    (row,) = rows(owner, "SELECT outcome, cost, question, answer, capture FROM exchanges")
    assert row == {"outcome": None, "cost": None, "question": None, "answer": None, "capture": "metadata"}


@pytest.mark.parametrize(
    ("asked", "question"),
    [
        (HELLO, "Hello?"),
        ({"messages": [{"content": [{"type": "image_url"}, {"type": "text", "text": "What is it?"}]}]}, "What is it?"),
        ({"messages": [{"role": "tool", "content": None}]}, None),
        ({"messages": []}, None),
        ({"prompt": "Once"}, "Once"),
        ({"prompt": ["a", "b"]}, "b"),
        ({"input": "Embed me"}, "Embed me"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Say it"}]}]}, "Say it"),
        ({"query": "Which?", "documents": ["one"]}, "Which?"),
        ([1, 2], None),
        (None, None),
    ],
)
def test_questions(owner: Connection, asked: object, question: str | None) -> None:
    store(owner, request={"body": asked}, response={})
    assert rows(owner, "SELECT question FROM exchanges") == [{"question": question}]


@pytest.mark.parametrize(
    ("answered", "answer"),
    [
        ({"choices": [{"message": {"content": "One"}}, {"message": {"content": "Two"}}]}, "One"),
        ({"choices": [{"message": {"content": None, "tool_calls": []}}]}, None),
        ({"choices": [{"text": " upon a time"}]}, " upon a time"),
        ({"content": [{"type": "text", "text": "Bonjour"}]}, "Bonjour"),
        ({"output": [{"type": "reasoning"}, {"content": [{"type": "output_text", "text": "Said"}]}]}, "Said"),
        ({"data": [{"embedding": [0.1]}]}, None),
        (None, None),
    ],
)
def test_answers(owner: Connection, answered: object, answer: str | None) -> None:
    store(owner, response={"body": answered})
    assert rows(owner, "SELECT answer FROM exchanges") == [{"answer": answer}]


def test_spend_is_by_day_key_team_and_model(owner: Connection) -> None:
    midnight = NOON.replace(hour=0)
    for at, key, cost in (
        (midnight, "a", "0.1"),
        (NOON, "a", "0.2"),
        (midnight + dt.timedelta(hours=23, minutes=59), "b", "4"),
        (midnight + dt.timedelta(days=1), "a", "8"),
    ):
        store(
            owner,
            at,
            request={"model": "gpt", "key_hash": key * 64},
            response={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": Decimal("99")},
            usage={"key_alias": key, "team": "sales", "cost": Decimal(cost)},
        )
    owner.execute(text("SET timezone = 'America/New_York'"))  # a reader's, which changes no day
    columns = (
        "SELECT day, key_alias, exchanges, prompt_tokens, completion_tokens, total_tokens, cost FROM {} ORDER BY 1, 2"
    )
    today = [
        {"key_alias": "a", "exchanges": 2, "prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6},
        {"key_alias": "b", "exchanges": 1, "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    ]
    today[0] |= {"day": NOON.date(), "cost": Decimal("0.3")}
    today[1] |= {"day": NOON.date(), "cost": Decimal(4)}
    tomorrow = {**today[1], "key_alias": "a", "day": NOON.date() + dt.timedelta(days=1), "cost": Decimal(8)}
    assert rows(owner, columns.format("spend")) == [*today, tomorrow]
    bounds = f"'{midnight}', '{midnight + dt.timedelta(days=1)}'"
    assert rows(owner, columns.format(f"spend_between({bounds})")) == today


def test_the_slowest_and_the_errors_come_first(owner: Connection) -> None:
    for minute, (outcome, duration) in enumerate(
        [("completed", 5.0), ("error", 70.0), ("interrupted", None), ("completed", 9000.0), ("refused", 1.0)]
    ):
        store(
            owner,
            NOON + dt.timedelta(minutes=minute),
            response={"outcome": outcome, "duration_ms": duration, "error": "e"},
        )
    store(owner, NOON + dt.timedelta(minutes=9))  # not answered yet
    assert [row["duration_ms"] for row in rows(owner, "SELECT * FROM slowest")] == [9000, 70, 5, 1]
    assert [row["outcome"] for row in rows(owner, "SELECT * FROM errors")] == ["refused", "interrupted", "error"]


def test_forgetting_somebody_removes_their_rows_and_no_others(owner: Connection) -> None:
    for ago in (0, 1, 30):  # in a day, in the default partition
        at = NOON - dt.timedelta(days=ago)
        store(owner, at, request={"end_user": "anna"}, response={}, usage={})
        store(owner, at, request={"end_user": "bert"}, response={}, usage={"end_user": "bert"})
        store(owner, at, response={})
    store(owner, request={"end_user": "anna"})  # not answered yet
    store(owner, response={}, usage={"end_user": "anna"})  # only LiteLLM knew

    assert rows(owner, "SELECT * FROM forget_end_user('anna')") == [
        {"table_name": "requests", "rows_removed": 5},
        {"table_name": "responses", "rows_removed": 4},
        {"table_name": "usages", "rows_removed": 4},
    ]

    assert rows(owner, "SELECT end_user, count(*) FROM exchanges GROUP BY 1 ORDER BY 1") == [
        {"end_user": "bert", "count": 3},
        {"end_user": None, "count": 3},
    ]
    assert rows(owner, "SELECT count(*) FROM usages") == [{"count": 3}]
    assert sum(row["rows_removed"] for row in rows(owner, "SELECT * FROM forget_end_user('anna')")) == 0


# --- only the days that matter are looked at --------------------------------------------------------------------


@pytest.fixture
def history(owner: Connection) -> dict[str, Any]:
    """Many days with an exchange each; and what to ask for."""
    ids = [
        store(owner, NOON - dt.timedelta(days=ago), request={"call_id": f"call-{ago}"}, response={}, usage={})
        for ago in range(DAYS)
    ]
    assert owner.execute(text("SELECT make_days()")).scalar() == DAYS - 1
    owner.commit()
    day = NOON - dt.timedelta(days=DAYS // 2)
    return {
        "id": ids[DAYS // 2],
        "call_id": f"call-{DAYS // 2}",
        "day": f"'{day.date()}', '{day.date() + dt.timedelta(days=1)}'",
        "partitions": {f"{table}_p{day:%Y%m%d}" for table in ("requests", "responses", "usages")},
    }


def partitions_in(plan: object) -> set[str]:
    return set(re.findall(r'"Relation Name": "(\w+)"', json.dumps(plan)))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM exchanges_between({day}) ORDER BY received_at DESC LIMIT 20",
        "SELECT key_hash, sum(cost), sum(total_tokens) FROM exchanges_between({day}) GROUP BY key_hash",
        "SELECT * FROM spend_between({day}) ORDER BY cost DESC",
        "SELECT * FROM exchanges_between({day}) WHERE id = '{id}'",
    ],
)
def test_a_question_about_a_time_looks_only_into_its_days(
    owner: Connection, history: dict[str, Any], query: str
) -> None:
    plan = owner.execute(text(f"EXPLAIN (FORMAT JSON) {query.format_map(history)}")).scalar()
    assert partitions_in(plan) == history["partitions"]


def locked_days(owner: Connection) -> set[str]:
    """The partitions that this transaction has come near to: planning locks them as well."""
    return set(
        owner.execute(
            text(
                "SELECT relname FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
                " WHERE pid = pg_backend_pid() AND relispartition AND relkind = 'r'"
            )
        ).scalars()
    )


def test_an_id_says_in_which_day_to_look(owner: Connection, history: dict[str, Any]) -> None:
    for name in (history["id"], str(history["id"]).upper()):
        (row,) = exchange(owner, name)
        assert row == {"id": history["id"]}
        assert locked_days(owner) == history["partitions"]


def test_a_call_id_is_found_by_the_index_of_each_day(owner: Connection, history: dict[str, Any]) -> None:
    (row,) = exchange(owner, history["call_id"])
    assert row == {"id": history["id"]}
    days = {name for name in locked_days(owner) if name.startswith("re")}
    assert {name for name in locked_days(owner) if name.startswith(("responses", "usages"))} < history["partitions"]
    assert len(days) > DAYS
    assert exchange(owner, "no-such-call") == []


def test_a_call_id_that_looks_like_an_id_is_found(owner: Connection) -> None:
    theirs = uuid7(1)  # a client's own
    found = store(owner, request={"call_id": str(theirs)}, response={"call_id": str(theirs)})
    assert exchange(owner, theirs) == [{"id": found}]
    assert exchange(owner, uuid7(1)) == []


# The questions for which there are indexes, and theirs.
INDEXED = {
    "SELECT * FROM requests WHERE call_id = '9'": "requests_p{day}_call_id_idx",
    "SELECT * FROM requests WHERE end_user = '9'": "requests_p{day}_end_user_idx",
    "SELECT * FROM usages WHERE end_user = '9'": "usages_p{day}_end_user_idx",
    "SELECT outcome, count(*) FROM responses WHERE received_at >= '{since}' AND received_at < '{until}'"
    " AND finished_at >= '{since} 00:05' AND finished_at < '{since} 00:06' GROUP BY outcome": (
        "responses_p{day}_finished_at_idx"
    ),
    "SELECT * FROM requests WHERE received_at >= '{since}' AND received_at < '{until}'"
    " ORDER BY received_at DESC LIMIT 20": "requests_p{day}_pkey",
}
MANY = """
INSERT INTO requests (received_at, id, call_id, end_user, method, path, stream, headers, body_size, body_complete)
SELECT timestamptz '{since}' + n * interval '1 second', gen_random_uuid(), n, n, 'POST', '/', false, '{{}}', 0, true
  FROM generate_series(0, 29999) AS n;
INSERT INTO responses (received_at, id, call_id, outcome, finished_at, cache_hit, headers, body_size)
SELECT received_at, id, call_id, 'completed', received_at, false, '{{}}', 0 FROM requests ORDER BY received_at;
INSERT INTO usages (received_at, id, end_user) SELECT received_at, id, end_user FROM requests;
ANALYZE requests, responses, usages;
"""


def test_each_index_serves_its_question(owner: Connection) -> None:
    names = {"since": NOON.date(), "until": NOON.date() + dt.timedelta(days=1), "day": f"{NOON:%Y%m%d}"}
    owner.exec_driver_sql("SET timezone = 'UTC'")
    owner.exec_driver_sql(MANY.format_map(names))
    for query, index in INDEXED.items():
        plan = json.dumps(owner.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {query.format_map(names)}").scalar())
        assert f'"Index Name": "{index.format_map(names)}"' in plan


def test_bodies_are_compressed_the_fast_way(owner: Connection) -> None:
    found = rows(
        owner,
        "SELECT DISTINCT attcompression FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relname ~ '^(requests|responses)' AND relkind IN ('p', 'r') AND attname ~ '^body(_text|_bytes)?$'",
    )
    assert found == [{"attcompression": "l"}]
