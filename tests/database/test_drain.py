"""The drain: what was spooled is in the tables, exactly once and unaltered, whatever goes wrong on the way."""

import contextlib
import datetime as dt
import gzip
import hashlib
import io
import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings

from litellm_sqlalchemy.database import ERRORS, one_line
from litellm_sqlalchemy.ledger import drain as drain_module
from litellm_sqlalchemy.ledger.drain import Drain
from litellm_sqlalchemy.ledger.spool import Record, Spool
from tests.fix_bodies import BODIES, sse
from tests.fix_postgres import (
    LEDGER_PASSWORD,
    READER_PASSWORD,
    Cluster,
    Database,
    bring_privileges_into_force,
    run_db_init,
)
from tests.fix_records import RECEIVED_AT, new_id, pair, part, rejected
from tests.fix_server import wait_for
from tests.ports import free_port

Opened = Callable[[Path], Spool]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool" / "spool.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def drain(spool: Spool, ledger_database: Database) -> Iterator[Drain]:
    engine = ledger_database.engine()
    yield Drain(spool, engine, batch_records=500, batch_bytes=1 << 24)
    engine.dispose()


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with bytes for what the driver gives as memory."""
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}


def test_an_exchange(drain: Drain, spool: Spool, ledger_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    exchange = new_id()
    question = b'{"model": "gpt", "stream": false, "user": "anna", "n": 1.10}'
    answer = json.dumps(
        {"model": "gpt-4", "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, "choices": []}
    ).encode()
    headers = {
        "content-type": "application/json",
        "x-litellm-model-name": "openai/gpt-4-turbo",
        "x-litellm-response-cost": "1.2e-05",
        "x-litellm-cache-key": "abc",
    }
    spool.append(
        [
            part("request", exchange, question, query="a=1"),
            part("response", exchange, answer, headers=headers, call_id="call-2"),
        ]
    )
    assert drain.run_once() == 2
    assert spool.status().records == 0
    assert caplog.text == ""  # in one transaction, without a detour
    received_at = dt.datetime(2026, 11, 24, 2, 21, 19, 123456, tzinfo=dt.UTC)
    (request,) = ledger_database.rows("SELECT * FROM requests")
    assert plain(request) == {
        "received_at": received_at,
        "id": exchange,
        "call_id": "call-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query": "a=1",
        "model": "gpt",
        "stream": False,
        "key_hash": hashlib.sha256(b"sk-1").hexdigest(),
        "end_user": "anna",
        "client_address": "192.0.2.7",
        "user_agent": "tests",
        "headers": {"user-agent": "tests", "content-type": "application/json"},
        "content_type": "application/json",
        "body_size": len(question),
        "body_complete": True,
        "body": json.loads(question),
        "body_text": question.decode(),
        "body_bytes": None,
        "capture": "full",
        "body_sha256": hashlib.sha256(question).digest(),
        "redactions": 0,
    }
    (response,) = ledger_database.rows("SELECT * FROM responses")
    assert plain(response) == {
        "received_at": received_at,
        "id": exchange,
        "call_id": "call-2",
        "finished_at": received_at + dt.timedelta(milliseconds=1500.25),
        "outcome": "completed",
        "status": 200,
        "model": "gpt-4",
        "provider": "openai",
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "cost": Decimal("0.000012"),
        "cache_hit": True,
        "time_to_first_byte_ms": 12.5,
        "duration_ms": 1500.25,
        "error": None,
        "headers": headers,
        "content_type": "application/json",
        "body_size": len(answer),
        "body": json.loads(answer),
        "body_text": answer.decode(),
        "body_bytes": None,
        "capture": "full",
        "body_sha256": hashlib.sha256(answer).digest(),
        "redactions": 0,
    }


def test_a_streamed_answer_is_kept_exactly_and_assembled(drain: Drain, spool: Spool, ledger_database: Database) -> None:
    exchange = new_id()
    stream = sse(*({"object": "chat.completion.chunk", "choices": [{"delta": {"content": c}}]} for c in ("Pa", "ris")))
    facts = {"headers": {"content-type": "text/event-stream"}}
    spool.append([part("request", exchange), part("response", exchange, stream, **facts)])
    drain.run_once()
    (row,) = ledger_database.rows(
        "SELECT body_text, body #>> '{choices,0,message,content}' AS said, body ->> 'object' AS kind FROM responses"
    )
    assert row == {"body_text": stream.decode(), "said": "Paris", "kind": "chat.completion"}


def test_half_an_exchange_says_nothing_that_it_does_not_know(
    drain: Drain, spool: Spool, ledger_database: Database
) -> None:
    exchange = new_id()
    spool.append(
        [
            part("request", exchange, key_hash=None, client=None, headers={}, complete=False),
            part("response", exchange, status=None, outcome="interrupted", time_to_first_byte_ms=None, headers={}),
        ]
    )
    drain.run_once()
    (request,) = ledger_database.rows("SELECT * FROM requests")
    nothing = ("query", "model", "key_hash", "end_user", "client_address", "user_agent", "content_type", "body")
    assert [request[name] for name in (*nothing, "body_text", "body_bytes")] == [None] * 10
    (response,) = ledger_database.rows("SELECT * FROM responses")
    nothing = ("status", "model", "provider", "total_tokens", "cost", "time_to_first_byte_ms", "error", "body_text")
    assert [response[name] for name in nothing] == [None] * 8
    assert response["outcome"] == "interrupted"


@pytest.mark.parametrize(
    ("facts", "column", "value"),
    [
        ({"client": "fe80::1%eth0"}, "client_address", "fe80::1"),
        ({"client": "some-name"}, "client_address", None),
        ({"headers": {"x-litellm-end-user-id": "eva"}}, "end_user", "eva"),
        ({"call_id": "a\0b\ud800\\\t\n\r"}, "call_id", "a\ufffdb?\\\t\n\r"),
        ({"headers": {"a": "x\0\ud800\\n"}}, "headers", {"a": "x\ufffd?\\n"}),
    ],
)
def test_odd_facts(
    drain: Drain, spool: Spool, ledger_database: Database, facts: dict[str, Any], column: str, value: object
) -> None:
    spool.append([part("request", new_id(), **facts)])
    drain.run_once()
    assert [row[column] for row in ledger_database.rows("SELECT * FROM requests")] == [value]


@pytest.mark.parametrize("cost", ["None", "", "NaN", "Infinity", "1e999999", "-"])
def test_a_cost_that_is_none(drain: Drain, spool: Spool, ledger_database: Database, cost: str) -> None:
    exchange = new_id()
    headers = {"x-litellm-response-cost": cost}
    spool.append([part("request", exchange), part("response", exchange, headers=headers)])
    drain.run_once()
    assert ledger_database.rows("SELECT cost FROM responses") == [{"cost": None}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(question=BODIES, answer=BODIES, stream=...)
@example(question=b'{"a": "\\ud800"}', answer=b'{"a": "\\u0000"}', stream=False)
@example(question=b"\\N", answer=b"\\.", stream=True)
@example(question=b"a\tb\nc\rd\\", answer=b"\xf4\x8f\xbf\xbf\xed\xa0\x80", stream=False)
@example(question=b'{"a": 1e400, "b": 1e-400, "c": 1e131073}', answer=b"1" * 4000 + b".5", stream=False)
def test_any_bytes_in_the_same_bytes_out(
    drain: Drain, spool: Spool, ledger_database: Database, question: bytes, answer: bytes, stream: bool
) -> None:
    exchange = new_id()
    headers = {"content-type": "text/event-stream" if stream else "application/json"}
    spool.append([part("request", exchange, question), part("response", exchange, answer, headers=headers)])
    with ledger_database.engine("litellm_reader_a", READER_PASSWORD).connect() as connection:
        assert drain.run_once() == 2
        for table, body in (("requests", question), ("responses", answer)):
            text, other = connection.exec_driver_sql(
                f"SELECT body_text, body_bytes FROM {table} WHERE id = %s",  # noqa: S608 - the two names above
                (exchange,),
            ).one()
            assert (text.encode() if text is not None else bytes(other or b"")) == body
    connection.engine.dispose()
    assert rejected(spool) == []


def test_jsonb_that_postgresql_refuses_is_left_out_and_the_bytes_are_kept(
    drain: Drain, spool: Spool, ledger_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    # More digits after the point than PostgreSQL's numeric has.
    refused = b'{"model": "gpt", "a": 0.' + b"0" * 20_000 + b"1}"
    exchanges = [new_id() for _ in range(10)]
    for number, exchange in enumerate(exchanges):
        spool.append(pair(exchange, refused if number == 3 else b'{"model": "gpt"}'))
    with caplog.at_level(logging.WARNING):
        assert drain.run_once() == 20
    rows = ledger_database.rows("SELECT id, body IS NULL AS without, body_text FROM requests ORDER BY id")
    assert [row["id"] for row in rows if row["without"]] == [exchanges[3]]
    assert [row["body_text"] for row in rows if row["without"]] == [refused.decode()]
    assert ledger_database.rows("SELECT count(*) FROM responses") == [{"count": 10}]
    assert rejected(spool) == []
    assert f"action=stored_without_jsonb kind=request exchange={exchanges[3]}" in caplog.text


def test_a_record_that_cannot_be_stored_is_set_aside_and_the_others_are_not_held_up(
    drain: Drain, spool: Spool, ledger_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    lonely, unread, outcome = new_id(), new_id(), new_id()
    for _ in range(5):
        spool.append(pair(new_id()))
    spool.append([part("response", lonely)])  # no request: the foreign key refuses it
    spool.append([Record(kind="request", exchange=unread, received_at=RECEIVED_AT, facts="[]", body=b"kept")])
    spool.append([part("request", outcome), part("response", outcome, outcome="nobody knows")])
    for _ in range(5):
        spool.append(pair(new_id()))
    while drain.run_once():
        pass
    assert ledger_database.rows("SELECT count(*) FROM requests") == [{"count": 11}]
    assert ledger_database.rows("SELECT count(*) FROM responses") == [{"count": 10}]
    assert [(kind, reason.split(":")[0]) for kind, reason in rejected(spool)] == [
        ("response", "its request is not in the database"),
        ("request", "TypeError"),
        ("response", "23514"),
    ]
    assert spool.status().records == 0
    assert f"action=rejected kind=response exchange={lonely} reason=its request is not in the database" in caplog.text


def test_a_response_that_found_room_before_its_request(drain: Drain, spool: Spool, ledger_database: Database) -> None:
    """In a spool that was full for the request: both were stored once more, as what became of them."""
    exchange = new_id()
    spool.append([part("response", exchange, b"all", outcome="completed")])
    spool.append([part("request", exchange, None), part("response", exchange, None, outcome="refused", status=503)])
    while drain.run_once():
        pass
    found = ledger_database.rows("SELECT outcome, s.body_text FROM requests JOIN responses s USING (received_at, id)")
    assert found == [{"outcome": "refused", "body_text": None}]
    assert rejected(spool) == []
    assert spool.open_exchanges() == {}


# What PostgreSQL may do with one row: here by a trigger.
RAISE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no luck with this one' USING ERRCODE = '{0}', DETAIL = new.body_text; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON requests
    FOR EACH ROW WHEN (new.body_text LIKE '%poison%') EXECUTE FUNCTION refuse();
"""


def test_an_internal_error_is_about_the_row(
    drain: Drain, spool: Spool, ledger_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ledger_database.cluster.execute(RAISE.format("XX000"), ledger_database.name)
    spool.append([*pair(new_id()), part("request", new_id(), b'"the poison of somebody"'), *pair(new_id())])
    while drain.run_once():
        pass
    assert ledger_database.rows("SELECT count(*) FROM responses") == [{"count": 2}]
    assert rejected(spool) == [("request", "XX000: no luck with this one")]
    assert "no luck with this one" in caplog.text
    assert "of somebody" not in caplog.text


def test_a_damaged_table_is_not(drain: Drain, spool: Spool, ledger_database: Database) -> None:
    ledger_database.cluster.execute(RAISE.format("XX001"), ledger_database.name)
    spool.append(pair(new_id(), b'"poison"'))
    with pytest.raises(ERRORS, match="no luck"):
        drain.run_once()
    assert spool.status().records == 2


def test_no_error_tells_what_users_wrote(ledger_database: Database) -> None:
    engine = ledger_database.engine()
    with contextlib.closing(engine.raw_connection()) as connection, contextlib.closing(connection.cursor()) as cursor:
        cursor.execute("CREATE TEMPORARY TABLE t (body jsonb)")
        with pytest.raises(ERRORS) as caught:
            cursor.copy_expert("COPY t FROM STDIN", io.StringIO('{"a": "my secret prompt" oops}\n'))
    assert "my secret prompt" in str(caught.value)
    assert one_line(caught.value) == "invalid input syntax for type json"
    engine.dispose()


def test_a_batch_ends_where_it_gets_too_large_decoded(spool: Spool, ledger_database: Database) -> None:
    engine = ledger_database.engine()
    small = Drain(spool, engine, batch_records=500, batch_bytes=10_000)
    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    for _ in range(4):
        exchange = new_id()
        answer = part("response", exchange, gzip.compress(b"x" * 9_000), headers=headers)
        spool.append([part("request", exchange, b"{}"), answer])
    moved = []
    while count := small.run_once():
        moved.append(count)
    assert moved == [4, 4]
    assert ledger_database.rows("SELECT count(*), sum(length(body_text)) FROM responses") == [
        {"count": 4, "sum": 36_000}
    ]
    engine.dispose()


def test_a_request_alone_and_its_response_later(drain: Drain, spool: Spool, ledger_database: Database) -> None:
    exchange = new_id()
    spool.append([part("request", exchange)])
    drain.run_once()
    spool.append([part("response", exchange)])
    drain.run_once()
    assert ledger_database.rows("SELECT count(*) FROM requests JOIN responses USING (received_at, id)") == [
        {"count": 1}
    ]


def test_batches_that_end_between_request_and_response(spool: Spool, ledger_database: Database) -> None:
    small = Drain(spool, ledger_database.engine(), batch_records=1, batch_bytes=1)
    for _ in range(3):
        spool.append(pair(new_id()))
    while small.run_once():
        pass
    assert ledger_database.rows("SELECT count(*) FROM requests JOIN responses USING (received_at, id)") == [
        {"count": 3}
    ]


def test_what_was_committed_and_not_deleted_is_not_stored_twice(
    drain: Drain, spool: Spool, ledger_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append(pair(new_id()))
    with monkeypatch.context() as patch:
        patch.setattr(spool, "settle", lambda *_, **__: (_ for _ in ()).throw(sqlite3.OperationalError("died here")))
        with pytest.raises(sqlite3.OperationalError, match="died here"):
            drain.run_once()
    assert ledger_database.rows("SELECT count(*) FROM responses") == [{"count": 1}]
    assert spool.status().records == 2
    assert drain.run_once() == 2
    assert ledger_database.rows("SELECT count(*) FROM requests JOIN responses USING (received_at, id)") == [
        {"count": 1}
    ]
    assert spool.status().records == 0
    assert rejected(spool) == []


def test_what_fails_before_the_commit_stays_in_the_spool(
    drain: Drain, spool: Spool, ledger_database: Database, opened: Opened
) -> None:
    ledger_database.cluster.execute("REVOKE INSERT ON responses FROM litellm_ledger", ledger_database.name)
    spool.append(pair(new_id()))
    with pytest.raises(ERRORS, match="permission denied for table responses"):
        drain.run_once()
    assert ledger_database.rows("SELECT count(*) FROM requests") == [{"count": 0}]
    assert spool.status().records == 2
    ledger_database.cluster.execute("GRANT INSERT ON responses TO litellm_ledger", ledger_database.name)
    assert drain.run_once() == 2


# --- the service ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(drain: Drain, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the service, with pauses that a test can wait for."""
    monkeypatch.setattr(drain_module, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(drain_module, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(drain_module, "LONGEST_PAUSE_SECONDS", 0.05)
    thread = threading.Thread(target=drain.run)
    thread.start()
    try:
        yield
    finally:
        drain.stop()
        thread.join(30)
    assert not thread.is_alive()


def wait_until_empty(path: Path) -> None:
    with contextlib.closing(Spool(path)) as watcher:
        wait_for(lambda: not watcher.status().records, "the spool is empty")


def count(database: Database) -> tuple[object, object]:
    (row,) = database.rows("SELECT (SELECT count(*) FROM requests) AS r, (SELECT count(*) FROM responses) AS s")
    return row["r"], row["s"]


def test_connections_that_are_cut_lose_nothing(
    spool: Spool, ledger_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "spool" / "spool.sqlite3"
    writer = opened(path)
    with running(Drain(spool, ledger_database.engine(), batch_records=20, batch_bytes=1 << 20), monkeypatch):
        for _ in range(25):
            for _ in range(20):
                writer.append(pair(new_id()))
            ledger_database.cluster.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'litellm_ledger_a'"
            )
        wait_until_empty(path)
    assert count(ledger_database) == (500, 500)
    assert rejected(spool) == []


def test_tables_that_are_not_there_yet_are_waited_for(
    spool: Spool,
    empty_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spool.append(pair(new_id()))
    with running(Drain(spool, empty_database.engine(), batch_records=20, batch_bytes=1 << 20), monkeypatch):
        wait_for(lambda: "action=waiting sqlstate=42P01" in caplog.text, "the drain waits")
        assert run_db_init(empty_database).returncode == 0
        bring_privileges_into_force(empty_database.cluster, empty_database.name)
        wait_until_empty(tmp_path / "spool" / "spool.sqlite3")
    assert count(empty_database) == (1, 1)


def test_a_database_that_is_read_only_or_refuses_the_password_is_waited_for(
    spool: Spool,
    ledger_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    opened: Opened,
) -> None:
    execute = ledger_database.cluster.execute
    path = tmp_path / "spool" / "spool.sqlite3"
    writer = opened(path)
    with running(Drain(spool, ledger_database.engine(), batch_records=20, batch_bytes=1 << 20), monkeypatch):
        for change, undo, reason in (
            (
                f"ALTER DATABASE {ledger_database.name} SET default_transaction_read_only = on",
                f"ALTER DATABASE {ledger_database.name} RESET default_transaction_read_only",
                "read-only transaction",
            ),
            (
                "ALTER ROLE litellm_ledger_a PASSWORD 'changed'",
                f"ALTER ROLE litellm_ledger_a PASSWORD '{LEDGER_PASSWORD}'",
                "password authentication failed",
            ),
        ):
            execute(change)
            execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'litellm_ledger_a'")
            try:
                writer.append(pair(new_id()))
                wait_for(lambda: reason in caplog.text, reason)  # noqa: B023 - called at once
                assert writer.status().records == 2
            finally:
                execute(undo)
                execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'litellm_ledger_a'")
            wait_until_empty(path)
    assert count(ledger_database) == (2, 2)
    assert LEDGER_PASSWORD not in caplog.text


def command(path: Path, database: Database, name: str, *options: str, **environment: str) -> "subprocess.Popen[str]":
    """Start `litellm-sqlalchemy` as its unit does: settings in the environment, the password in the credentials."""
    credentials = path.parent / "credentials"
    credentials.mkdir(exist_ok=True)
    (credentials / "ledger_database_password").write_text(f"{LEDGER_PASSWORD}\n")
    return subprocess.Popen(
        [sys.executable, "-m", "litellm_sqlalchemy.cli", name, *options],
        env={
            "PATH": os.environ["PATH"],
            "CREDENTIALS_DIRECTORY": str(credentials),
            "LEDGER_SPOOL_PATH": str(path),
            **database.environment(),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_again_and_again_it_stores_everything_once(
    ledger_database: Database, tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "spool" / "spool.sqlite3"
    spool = opened(path)
    exchanges = [new_id() for _ in range(600)]
    for exchange in exchanges:
        spool.append(pair(exchange, exchange.hex.encode(), exchange.hex.encode()))
    kills = 0
    while spool.status().records:
        before = spool.status().records
        service = command(path, ledger_database, "drain", LEDGER_BATCH_RECORDS="10")
        while spool.status().records == before and service.poll() is None:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.02))
        service.kill()
        service.communicate()
        kills += 1
    assert kills > 1
    assert rejected(spool) == []
    rows = ledger_database.rows(
        "SELECT r.id, r.body_text = s.body_text AND r.body_text = replace(r.id::text, '-', '') AS same "
        "FROM requests r JOIN responses s USING (received_at, id)"
    )
    assert sorted(str(row["id"]) for row in rows) == sorted(map(str, exchanges))
    assert all(row["same"] for row in rows)


def test_it_stops_when_asked_and_leaves_nothing_half_done(
    ledger_database: Database, tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "spool" / "spool.sqlite3"
    spool = opened(path)
    for _ in range(50):
        spool.append(pair(new_id()))
    service = command(path, ledger_database, "drain")
    wait_until_empty(path)
    service.send_signal(signal.SIGTERM)
    out, err = service.communicate(timeout=30)
    assert (service.returncode, out) == (0, "")
    assert err.splitlines() == ["INFO action=started", "INFO action=stopped"]
    assert count(ledger_database) == (50, 50)


def test_check_database(ledger_database: Database, tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    out, err = command(path, ledger_database, "check-database").communicate()
    assert err == ""
    lines = dict(line.split(":", 1) for line in out.splitlines())
    assert list(lines) == [
        "driver",
        "libpq",
        "server",
        "address",
        "client_address",
        "user",
        "database",
        "tls",
        "requests",
        "responses",
    ]
    assert lines["server"].strip().startswith("17.")
    assert lines["driver"].strip().startswith("psycopg2 2.")
    assert lines["user"].strip() == "litellm_ledger_a"
    assert lines["tls"].strip() == "none"
    out, err = command(path, ledger_database, "check-database", "--json").communicate()
    assert json.loads(out)["database"] == ledger_database.name


def test_check_database_tells_what_is_wrong(empty_database: Database, tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    nowhere = Database(Cluster("127.0.0.1", free_port()), "litellm_db")
    for database, environment, message in (
        (nowhere, {}, f"litellm-sqlalchemy: cannot reach PostgreSQL at 127.0.0.1:{nowhere.cluster.port}: "),
        (empty_database, {"LEDGER_DATABASE_USER": "nobody"}, "refuses role nobody on database"),
        (empty_database, {}, 'litellm-sqlalchemy: the query failed: relation "requests" does not exist'),
    ):
        process = command(path, database, "check-database", **environment)
        out, err = process.communicate()
        assert (process.returncode, out) == (1, "")
        assert message in err
        assert err.count("\n") == 1
        assert LEDGER_PASSWORD not in err


def test_the_services_tell_what_is_wrong_with_the_spool(ledger_database: Database, tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    path.touch()
    tmp_path.chmod(0o755)
    for name in ("drain",), ("ledger", "status"):
        process = command(path, ledger_database, *name)
        out, err = process.communicate()
        assert (process.returncode, out) == (1, "")
        assert "must be 0700: chmod 700" in err
        assert err.count("\n") == 1
