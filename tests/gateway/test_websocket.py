"""WebSockets through the ledger, with a real server and a real client."""

import base64
import contextlib
import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from litellm_sqlalchemy.ledger import websocket
from litellm_sqlalchemy.ledger.asgi import Receive, Scope, Send
from litellm_sqlalchemy.ledger.journal import Journal
from tests.fix_server import wait_for
from tests.gateway.fix_capture import KEY, Broken, Gate, Gateway, Upstream
from tests.ports import free_port, listens

REALTIME = "/v1/realtime"
Message = str | bytes


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, and send back what comes, until it says 'bye CODE'."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text") or ""
        if text.startswith("bye"):
            await send({"type": "websocket.close", "code": int(text.split()[1]), "reason": "said bye"})
            return
        if text == "fail":
            raise LookupError(KEY)
        if text == "stop":
            return
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


@pytest.fixture(autouse=True)
def answers(upstream: Upstream) -> None:
    upstream.answer = echo


def connected(gateway: Gateway, path: str = REALTIME, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{gateway.port}{path}", open_timeout=60, close_timeout=60, **options)


def messages(body: bytes | None) -> list[Message]:
    """What a record's body says was sent."""
    assert body is not None
    found = [json.loads(line) for line in body.decode().split("\n")[:-1]]
    moments = [message["at_ms"] for message in found]
    assert moments == sorted(moments)
    assert all(message.keys() == {"at_ms", "text"} or message.keys() == {"at_ms", "bytes"} for message in found)
    return [message["text"] if "text" in message else base64.b64decode(message["bytes"]) for message in found]


def journals(gateway: Gateway) -> list[str]:
    return [file.name for file in (gateway.path.parent / "websockets").glob("*")]


def test_a_session(gateway: Gateway) -> None:
    said: list[Message] = ["hello", b"\0\xff", "Pa\u00df \U0001f600\n", ""]
    headers = {"authorization": f"Bearer {KEY}", "user-agent": "tests"}
    with connected(gateway, f"{REALTIME}?model=talks&api_key={KEY}", additional_headers=headers) as client:
        for message in said:
            client.send(message)
            assert client.recv(60) == message
        client.send("bye 1000")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(60)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "said bye")
        assert client.response is not None
        call_id = client.response.headers["x-litellm-call-id"]
    request, asked, response, answered = gateway.exchange()
    assert messages(request.body) == [*said, "bye 1000"]
    assert messages(response.body) == said
    assert (asked["scheme"], asked["method"], asked["path"]) == ("websocket", "WEBSOCKET", REALTIME)
    assert (asked["query"], asked["model"]) == ("model=talks&api_key=REDACTED", "talks")
    assert asked["key_hash"] == answered["key_hash"] == hashlib.sha256(KEY.encode()).hexdigest()
    assert (asked["client"], asked["headers"]["user-agent"]) == ("127.0.0.1", "tests")
    assert asked["call_id"] == answered["call_id"] == call_id
    assert (asked["complete"], asked["size"]) == (True, len(request.body or b""))
    assert (answered["status"], answered["outcome"], answered["error"]) == (101, "completed", None)
    assert answered["size"] == len(response.body or b"")
    assert 0 < answered["time_to_first_byte_ms"] <= answered["duration_ms"]
    assert journals(gateway) == []


def test_a_key_in_the_subprotocol_is_hashed_and_nowhere(gateway: Gateway) -> None:
    secret = "a-key-that-does-not-begin-as-ours"
    protocols: Any = ["realtime", f"openai-insecure-api-key.{secret}"]

    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "realtime"})
        await send({"type": "websocket.close"})

    gateway.upstream.answer = answer
    with connected(gateway, subprotocols=protocols) as client:
        assert client.subprotocol == "realtime"
    _, asked, _, _ = gateway.exchange()
    assert asked["key_hash"] == hashlib.sha256(secret.encode()).hexdigest()
    assert secret.encode() not in b"".join(
        file.read_bytes() for file in gateway.path.parent.iterdir() if file.is_file()
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(st.text(st.characters(codec="utf-8")) | st.binary(), max_size=5))
def test_any_messages(gateway: Gateway, said: list[Message]) -> None:
    said = [message for message in said if not (isinstance(message, str) and message[:4] in {"bye ", "fail", "stop"})]
    before = len(gateway.records())
    with connected(gateway) as client:
        for message in said:
            client.send(message)
        assert [client.recv(60) for _ in said] == said
    wait_for(lambda: len(gateway.records()) == before + 2, "two records")
    request, response = gateway.records()[-2:]
    assert messages(request.body) == messages(response.body) == said


def test_metadata_paths_have_no_messages(gateway: Gateway) -> None:
    with connected(gateway, "/openai/v1/organization/x") as client:
        client.send("a secret of somebody")
        client.recv(60)
    request, asked, response, answered = gateway.exchange()
    assert (request.body, response.body) == (None, None)
    assert min(asked["size"], answered["size"]) > len("a secret of somebody")


@pytest.mark.parametrize(
    ("code", "outcome", "error"),
    [
        (1000, "completed", None),
        (1001, "completed", None),
        (1008, "refused", "1008 said bye"),
        (1011, "error", "1011 said bye"),
        (4000, "completed", None),
    ],
)
def test_how_the_server_closes(gateway: Gateway, code: int, outcome: str, error: str | None) -> None:
    with connected(gateway) as client:
        client.send(f"bye {code}")
        with pytest.raises(ConnectionClosed):
            client.recv(60)
    _, _, _, answered = gateway.exchange()
    assert (answered["outcome"], answered["error"], answered["status"]) == (outcome, error, 101)


@pytest.mark.parametrize(("code", "outcome"), [(1000, "completed"), (1001, "client_disconnected")])
def test_how_the_client_closes(gateway: Gateway, code: int, outcome: str) -> None:
    with connected(gateway) as client:
        client.send("one")
        client.recv(60)
        client.close(code)
    request, _, _, answered = gateway.exchange()
    assert (answered["outcome"], messages(request.body)) == (outcome, ["one"])


def test_a_client_that_is_gone(gateway: Gateway) -> None:
    client = connected(gateway)
    client.send("one")
    client.recv(60)
    client.socket.shutdown(socket.SHUT_RDWR)
    request, asked, _, answered = gateway.exchange()
    assert (answered["outcome"], messages(request.body), asked["complete"]) == ("client_disconnected", ["one"], True)
    assert journals(gateway) == []


@pytest.mark.parametrize(
    ("said", "outcome", "error"), [("fail", "error", "LookupError"), ("stop", "interrupted", None)]
)
def test_an_application_that_ends_without_closing(gateway: Gateway, said: str, outcome: str, error: str | None) -> None:
    with connected(gateway) as client:
        client.send(said)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(60)
        assert closed.value.rcvd is None
    _, _, _, answered = gateway.exchange()
    assert (answered["outcome"], answered["error"]) == (outcome, error)


def refusing(status: int | None) -> Callable[[Scope, Receive, Send], Any]:
    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if status is None:
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"you"})

    return answer


@pytest.mark.parametrize(
    ("status", "seen", "outcome", "body"),
    [(None, 403, "refused", b""), (401, 401, "refused", b"not you"), (500, 500, "error", b"not you")],
)
def test_a_refused_handshake(gateway: Gateway, status: int | None, seen: int, outcome: str, body: bytes) -> None:
    gateway.upstream.answer = refusing(status)
    with pytest.raises(InvalidStatus) as refused:
        connected(gateway)
    assert (refused.value.response.status_code, refused.value.response.body) == (seen, body)
    request, _, response, answered = gateway.exchange()
    assert (answered["status"], answered["outcome"]) == (seen, outcome)
    assert (request.body, response.body) == (b"", body)


def test_a_failing_handshake(gateway: Gateway) -> None:
    async def answer(*_: object) -> None:
        raise LookupError

    gateway.upstream.answer = answer
    with pytest.raises(InvalidStatus) as refused:
        connected(gateway)
    assert refused.value.response.status_code == 500
    _, _, _, answered = gateway.exchange()
    assert (answered["status"], answered["outcome"], answered["error"]) == (500, "error", "LookupError")


# --- the promise ------------------------------------------------------------------------------------------------


def test_the_close_waits_for_the_record(gateway: Gateway, gate: Gate) -> None:
    with connected(gateway) as client:
        client.send("one")
        assert client.recv(60) == "one"  # this does not wait
        client.send("bye 1000")
        with pytest.raises(TimeoutError):
            client.recv(0.3)
        assert gateway.records() == []
        gate.set()
        with pytest.raises(ConnectionClosed):
            client.recv(60)
        assert [record.kind for record in gateway.records()] == ["request", "response"]


def test_the_denial_waits_for_the_record(gateway: Gateway, gate: Gate) -> None:
    gateway.upstream.answer = refusing(401)
    denied = threading.Event()

    def ask() -> None:
        with contextlib.suppress(InvalidStatus):
            connected(gateway)
        denied.set()

    asking = threading.Thread(target=ask)
    asking.start()
    assert not denied.wait(0.3)
    gate.set()
    asking.join(60)
    assert len(gateway.records()) == 2


def test_what_the_client_has_seen_is_on_disk_before(gateway: Gateway, gate: Gate) -> None:
    with connected(gateway) as client:
        client.send("one")
        client.recv(60)
        (journal,) = (gateway.path.parent / "websockets").iterdir()
        assert journal.read_bytes().count(b'"one"') == 2
        assert journal.stat().st_mode & 0o777 == 0o600
        gate.set()


def test_a_long_session_is_spooled_in_parts(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "LARGEST_PART", 10_000)
    said = [str(number) * 1_000 for number in range(9)] * 5
    with connected(gateway) as client:
        for message in said:
            client.send(message)
            client.recv(60)
        wait_for(lambda: len(gateway.records()) >= 8, "the first parts")
    wait_for(lambda: journals(gateway) == [], "the last part")
    records = sorted(gateway.records(), key=lambda record: (record.received_at, str(record.exchange)))
    asked = [record for record in records if record.kind == "request"]
    answered = [record for record in records if record.kind == "response"]
    assert len({str(record.exchange) for record in records}) == len(asked) == len(answered) >= 9
    assert [message for record in asked for message in messages(record.body)] == said
    assert [message for record in answered for message in messages(record.body)] == said
    assert all(len(record.body or b"") < 12_000 for record in records)
    assert len({json.loads(record.facts)["call_id"] for record in records}) == 1
    for record in records:
        assert json.loads(record.facts)["size"] == len(record.body or b"")


def test_a_session_that_cannot_be_recorded_has_no_end(gateway: Gateway, broken: Broken) -> None:
    with connected(gateway) as client:
        client.send("one")
        client.recv(60)
        broken.set()
        client.send("bye 1000")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(60)
        assert closed.value.rcvd is None
    with pytest.raises(InvalidStatus) as refused:
        connected(gateway)
    assert refused.value.response.status_code == 503
    assert json.loads(refused.value.response.body or b"")["error"]["type"] == "ledger_unavailable"
    assert len(gateway.upstream.calls) == 1
    broken.clear()
    request, _, _, answered = gateway.exchange()  # as soon as there is room
    assert (answered["outcome"], messages(request.body)) == ("interrupted", ["one", "bye 1000"])
    wait_for(lambda: journals(gateway) == [], "the journal is gone")


def test_a_denial_that_cannot_be_recorded(gateway: Gateway, broken: Broken) -> None:
    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"not you"})

    gateway.upstream.answer = answer
    broken.set()
    with pytest.raises(InvalidStatus) as refused:
        connected(gateway)
    assert refused.value.response.status_code == 503
    broken.clear()


def test_a_disk_that_takes_no_second_part(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is spooled all the same, by whoever has it then."""
    monkeypatch.setattr(websocket, "LARGEST_PART", 10_000)
    create, large = Journal.create, "x" * 20_000
    with connected(gateway) as client:
        client.send(large)
        client.recv(60)  # begins the second part, and fills it

        def full(*_: object, **__: object) -> Journal:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Journal, "create", full)
        client.send("two")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(60)
        assert closed.value.rcvd is None
        monkeypatch.setattr(Journal, "create", create)
    wait_for(lambda: len(gateway.records()) == 6, "three parts")
    answered = sorted(
        (record for record in gateway.records() if record.kind == "response"), key=lambda record: record.received_at
    )
    assert [json.loads(record.facts)["outcome"] for record in answered] == ["completed", "completed", "interrupted"]
    assert [messages(record.body) for record in answered[:2]] == [[], [large]]
    assert answered[2].body is None
    wait_for(lambda: journals(gateway) == [], "the journal is gone")


def test_a_disk_that_takes_no_journal(gateway: Gateway) -> None:
    (gateway.path.parent / "websockets").write_text("in the way")
    with pytest.raises(InvalidStatus) as refused:
        connected(gateway)
    assert refused.value.response.status_code == 503
    (gateway.path.parent / "websockets").unlink()
    with connected(gateway) as client:
        client.send("one")
        assert client.recv(60) == "one"


# --- processes --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(path: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Uvicorn with two workers, around an application that echoes."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.gateway.app_that_echoes:app", "--lifespan", "on"]
    served = subprocess.Popen(
        [*command, "--port", str(port), "--workers", "2", "--timeout-worker-healthcheck", "60", *options],
        env={**os.environ, "LEDGER_SPOOL_PATH": str(path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: listens(port), "the server starts")
        yield port, served
    finally:
        served.terminate()
        served.communicate(timeout=60)


def test_a_killed_worker(path: Path) -> None:
    with process(path) as (port, _):
        gateway = Gateway(port, path, Upstream())
        client = connected(gateway)
        client.send("one")
        client.recv(60)
        assert client.response is not None
        os.kill(int(client.response.headers["pid"]), signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            client.recv(60)
        client.close()
        request, asked, response, answered = gateway.exchange()  # the next worker finds the journal
        assert messages(request.body) == messages(response.body) == ["one"]
        assert (asked["complete"], asked["size"]) == (False, len(request.body or b""))
        assert (answered["outcome"], answered["status"]) == ("interrupted", 101)
        assert answered["size"] == len(response.body or b"")
        assert answered["duration_ms"] > 0
        wait_for(lambda: journals(gateway) == [], "the journal is gone")


def test_a_shutdown(path: Path) -> None:
    with process(path) as (port, served):
        gateway = Gateway(port, path, Upstream())
        clients = [connected(gateway) for _ in range(5)]
        for client in clients:
            client.send("one")
            client.recv(60)
        served.terminate()
        for client in clients:
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(60)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    answered = [record for record in gateway.records() if record.kind == "response"]
    assert len(answered) == len(clients)
    assert {json.loads(record.facts)["outcome"] for record in answered} == {"interrupted"}
    assert journals(gateway) == []


def test_the_log_has_no_queries(path: Path) -> None:
    with process(path) as (port, served):
        with connected(Gateway(port, path, Upstream()), f"/v1/realtime?model=talks&key={KEY}") as client:
            client.send("one")
            client.recv(60)
        served.terminate()
        _, log = served.communicate(timeout=60)
    assert '"WebSocket /v1/realtime" [accepted]' in log
    assert KEY not in log
