"""The ASGI wrapper, around a small application, over real HTTP."""

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from litellm_sqlalchemy.ledger.asgi import Message, Receive, Scope, Send
from litellm_sqlalchemy.ledger.capture import Ledger
from litellm_sqlalchemy.ledger.exchange import NOT_RECORDED
from litellm_sqlalchemy.ledger.metrics import Metrics
from litellm_sqlalchemy.ledger.recorder import Recorder
from litellm_sqlalchemy.ledger.writer import SpoolWriter
from litellm_sqlalchemy.settings import CaptureSettings
from tests.fix_bodies import BODIES
from tests.fix_server import Client, serving, wait_for
from tests.fix_spool import commits
from tests.gateway.fix_capture import CHAT, KEY, Broken, Gate, Gateway, Upstream, wait_until_refused
from tests.ports import free_port, listens


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"\0\xff", bytes(range(256)) * 8_000], ids=["none", "json", "bytes", "2 MB"]
)
def test_an_exchange(gateway: Gateway, body: bytes) -> None:
    before = time.time()
    answer = gateway.post(
        content=body,
        params={"limit": "5", "api_key": KEY},
        headers={"authorization": f"Bearer {KEY}", "user-agent": "tests", "x-request-id": "r1", "cookie": "c=1"},
    )
    assert (answer.status_code, answer.content) == (200, body)
    request, asked, response, answered = gateway.exchange()
    assert (request.body, response.body) == (body, body)
    assert gateway.upstream.bodies == [body]
    exchange = request.exchange
    assert exchange.version == 7
    assert exchange.int >> 80 == request.received_at // 1000
    assert before <= request.received_at / 1e6 <= time.time()
    assert {**asked, "headers": None} == {
        "call_id": str(exchange),
        "worker": asked["worker"],
        "scheme": "http",
        "method": "POST",
        "path": CHAT,
        "query": "limit=5&api_key=REDACTED",
        "key_hash": hashlib.sha256(KEY.encode()).hexdigest(),
        "client": "127.0.0.1",
        "headers": None,
        "size": len(body),
        "complete": True,
    }
    assert (gateway.path.parent / "workers" / f"{asked['worker']}.lock").exists()
    assert asked["headers"]["user-agent"] == "tests"
    assert asked["headers"]["x-request-id"] == "r1"
    assert set(asked["headers"]) <= {"accept", "content-length", "user-agent", "x-request-id", "x-litellm-call-id"}
    assert (answered["status"], answered["outcome"], answered["error"]) == (200, "completed", None)
    assert (answered["size"], answered["call_id"]) == (len(body), str(exchange))
    assert answered["key_hash"] == asked["key_hash"]
    if body:
        assert 0 < answered["time_to_first_byte_ms"] <= answered["duration_ms"]
    assert answered["headers"]["content-type"] == "application/json"


def test_the_key_is_nowhere(gateway: Gateway) -> None:
    for place in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"api-key": KEY}, {"x-goog-api-key": KEY}):
        gateway.post(f"/key/{KEY}/regenerate", params={"key": KEY, "id": KEY}, headers={**place, "user-agent": KEY})
        gateway.post(params={"key": KEY, "id": KEY}, headers={**place, "x-litellm-tags": KEY, "referer": KEY})
    assert len(gateway.records()) == 16
    for file in gateway.path.parent.glob("spool*"):
        assert KEY.encode() not in file.read_bytes()


def test_management_endpoints_are_recorded_without_bodies(gateway: Gateway) -> None:
    assert gateway.post("/key/generate", content=b"secret of somebody").content == b"secret of somebody"
    request, asked, response, answered = gateway.exchange()
    assert (request.body, response.body) == (None, None)
    assert (asked["size"], answered["size"]) == (18, 18)
    assert b"secret of somebody" not in b"".join(file.read_bytes() for file in gateway.path.parent.glob("spool*"))


def test_what_columns_are_made_of_is_recorded_whatever_the_settings_say(path: Path, upstream: Upstream) -> None:
    chosen = CaptureSettings(spool_path=path, request_headers=(), response_headers=("x-mine",))
    upstream.chunks(b"{}", content_type="application/json", x_mine="1", x_other="2", x_litellm_response_cost="0.5")
    with serving(Ledger(upstream, chosen)) as port:
        gateway = Gateway(port, path, upstream)
        gateway.post(headers={"user-agent": "tests", "content-type": "text/plain", "x-request-id": "1"})
        _, asked, _, answered = gateway.exchange()
    assert asked["headers"] == {"user-agent": "tests", "content-type": "text/plain"}
    wanted = {"content-type": "application/json", "x-mine": "1", "x-litellm-response-cost": "0.5"}
    assert answered["headers"] == wanted


def test_some_paths_are_not_recorded(gateway: Gateway) -> None:
    assert gateway.post("/health/liveliness").status_code == 200
    assert gateway.post("/ui/login").status_code == 200
    assert gateway.records() == []
    assert "x-litellm-call-id" not in dict(gateway.upstream.calls[0]["headers"])


# --- call ids ---------------------------------------------------------------------------------------------------


def call_id_that_the_application_saw(upstream: Upstream) -> str:
    found = [value for name, value in upstream.calls[-1]["headers"] if name == b"x-litellm-call-id"]
    assert len(found) == 1
    return bytes(found[0]).decode()


def test_a_call_id_is_made_and_answered(gateway: Gateway) -> None:
    answer = gateway.post()
    request, asked, _, answered = gateway.exchange()
    call_id = answer.headers["x-litellm-call-id"]
    assert UUID(call_id) == request.exchange
    assert asked["call_id"] == answered["call_id"] == call_id == call_id_that_the_application_saw(gateway.upstream)


def test_a_clients_call_id_is_kept(gateway: Gateway) -> None:
    answer = gateway.post(headers={"X-LiteLLM-Call-Id": "mine"})
    _, asked, _, answered = gateway.exchange()
    assert asked["call_id"] == answered["call_id"] == "mine" == call_id_that_the_application_saw(gateway.upstream)
    assert answer.headers["x-litellm-call-id"] == "mine"


@pytest.mark.parametrize("call_id", ["", "x" * 257])
def test_a_call_id_that_litellm_would_replace_is_replaced(gateway: Gateway, call_id: str) -> None:
    gateway.post(headers={"x-litellm-call-id": call_id})
    request, asked, _, _ = gateway.exchange()
    assert asked["call_id"] == str(request.exchange) == call_id_that_the_application_saw(gateway.upstream)


def test_the_applications_call_id_is_the_answers(gateway: Gateway) -> None:
    gateway.upstream.chunks(b"x", x_litellm_call_id="its own")
    answer = gateway.post()
    assert answer.headers.get_list("x-litellm-call-id") == ["its own"]
    _, asked, _, answered = gateway.exchange()
    assert answered["call_id"] == "its own"
    assert asked["call_id"] != "its own"


# --- the promise ------------------------------------------------------------------------------------------------

DATA = b'data: {"choices": []}\n\n'


@pytest.mark.parametrize(
    ("chunks", "headers", "early", "last"),
    [
        pytest.param([DATA, DATA, b"data: [DONE]\n\n"], {}, DATA, b"[DONE]\n\n", id="stream"),
        pytest.param([b"data: [DONE]\n\n"], {}, b"", b"[DONE]", id="nothing but the end"),
        pytest.param([DATA, b"data: [DO", b"NE]\n", b"\n"], {}, DATA, b"NE]\n", id="end cut in two"),
        pytest.param([DATA + b"data: [DONE]\n\n"], {}, b"", b"[DONE]", id="end with the data"),
        pytest.param(
            [b"event: ping\ndata: {}\n\n", b'event: message_stop\ndata: {"type": "message_stop"}\n\n'],
            {},
            b"ping",
            b"message_stop",
            id="messages",
        ),
        pytest.param(
            [b"event: x\n\n", b"event: response.completed\ndata: {}\n\n"], {}, b"x\n\n", b"completed", id="responses"
        ),
        pytest.param(
            [b'data: {"type":"response.created"}\n\n', b'data: {"response":{},"type":"response.completed"}\n\n'],
            {},
            b"created",
            b"completed",
            id="responses as LiteLLM writes them",
        ),
        pytest.param([b"12345", b"67890"], {"content_length": "10"}, b"12345", b"67890", id="length"),
        pytest.param([b"1234567890"], {"content_length": "10"}, b"", b"1234567890", id="one chunk"),
        pytest.param([], {"content_length": "0"}, b"", b"200 OK", id="empty"),
        pytest.param([b"some", b"thing"], {}, b"some", b"0\r\n\r\n", id="chunked"),
    ],
)
def test_the_last_bytes_wait_for_the_record(
    gateway: Gateway, gate: Gate, chunks: list[bytes], headers: dict[str, str], early: bytes, last: bytes
) -> None:
    gateway.upstream.chunks(*chunks, **headers)
    client = Client(gateway.port)
    client.post(CHAT, b"{}")
    client.until(early)  # this does not wait
    received = client.so_far()
    assert gateway.records() == []
    assert last not in received
    gate.set()
    client.until(last)
    assert [record.kind for record in gateway.records()] == ["request", "response"]
    assert gateway.records()[1].body == b"".join(chunks)
    client.leave()


def test_a_stream_flows_while_it_is_made(gateway: Gateway) -> None:
    gateway.upstream.chunks(b"data: 1\n\n", None, b"data: 2\n\n", b"data: [DONE]\n\n")
    client = Client(gateway.port)
    client.post(CHAT)
    assert b"data: 2" not in client.until(b"data: 1\n\n")
    wait_for(gateway.records, "the request's record")
    assert [record.kind for record in gateway.records()] == ["request"]  # on disk while the model works
    gateway.upstream.go_on.set()
    client.until(b"[DONE]")
    client.leave()


def test_the_end_of_a_stream_is_not_seen_where_it_is_not(gateway: Gateway) -> None:
    said = {"content": 'data: [DONE]\n\nevent: message_stop {"type":"response.completed"} data: [DONE]'}
    text = f"data: {json.dumps(said)}\n\n".encode()
    gateway.upstream.chunks(text, None, b"data: [DONE]\n\n")
    client = Client(gateway.port)
    client.post(CHAT)
    client.until(text)
    gateway.upstream.go_on.set()
    client.until(b"0\r\n\r\n")
    client.leave()


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_many_exchanges_on_one_connection(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url, timeout=60) as client:
        for number in range(20):
            assert client.post(CHAT, content=str(number)).text == str(number)
    assert [record.body for record in gateway.records()] == [str(n // 2).encode() for n in range(40)]


@pytest.mark.parametrize("http", ["h11", "httptools"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, answer=st.lists(st.binary(min_size=1), max_size=4), with_length=st.booleans())
def test_any_bytes(gateway: Gateway, body: bytes, answer: list[bytes], with_length: bool) -> None:
    before = len(gateway.records())
    gateway.upstream.chunks(*answer, **({"content_length": str(len(b"".join(answer)))} if with_length else {}))
    assert gateway.post(content=body).content == b"".join(answer)
    request, response = gateway.records()[before:]
    assert (request.body, response.body) == (body, b"".join(answer)) == (gateway.upstream.bodies[-1], response.body)


def test_an_answer_that_is_quick_is_committed_with_its_request(gateway: Gateway) -> None:
    gateway.post()
    before = commits(gateway.path)
    for _ in range(50):
        gateway.post()
    assert len(gateway.records()) == 102
    assert commits(gateway.path) - before < 100


def test_many_exchanges_at_once(gateway: Gateway) -> None:
    async def ask() -> None:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            answers = await asyncio.gather(*(client.post(CHAT, content=str(n)) for n in range(100)))
        assert [answer.text for answer in answers] == [str(n) for n in range(100)]

    asyncio.run(ask())
    records = gateway.records()
    assert len(records) == 200
    bodies = {(record.kind, record.exchange): record.body for record in records}
    assert all(bodies["request", record.exchange] == bodies["response", record.exchange] for record in records)


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_what_comes_after_an_expect_header(gateway: Gateway) -> None:
    client = Client(gateway.port)
    client.send(f"POST {CHAT} HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n".encode())
    client.until(b"100 Continue")
    client.send(b"body")
    client.until(b"\r\n\r\nbody")
    assert gateway.exchange()[0].body == b"body"
    client.leave()


# --- exchanges that do not come to their end --------------------------------------------------------------------


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_client_that_leaves_a_stream(gateway: Gateway) -> None:
    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await gateway.upstream.read(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"

    gateway.upstream.answer = answer
    client = Client(gateway.port)
    client.post(CHAT)
    client.until(b"data: 1\n\n")
    client.leave()
    _, _, response, answered = gateway.exchange()
    assert (answered["outcome"], answered["status"], response.body) == ("client_disconnected", 200, b"data: 1\n\n")


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_client_that_leaves_while_the_model_works(gateway: Gateway) -> None:
    gateway.upstream.chunks(None, b"too late", content_length="8")
    client = Client(gateway.port)
    client.post(CHAT)
    wait_for(lambda: gateway.upstream.bodies, "the application has the request")
    client.leave()
    time.sleep(0.2)  # the application does not ask: only the server knows
    gateway.upstream.go_on.set()
    _, _, response, answered = gateway.exchange()
    assert (answered["outcome"], response.body) == ("client_disconnected", b"too late")


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_client_that_leaves_while_it_asks(gateway: Gateway) -> None:
    client = Client(gateway.port)
    client.send(f"POST {CHAT} HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nhalf".encode())
    wait_for(lambda: gateway.upstream.calls, "the application is called")
    client.leave()
    request, asked, response, answered = gateway.exchange()
    assert (request.body, asked["complete"], asked["size"]) == (b"half", False, 4)
    assert (answered["outcome"], answered["time_to_first_byte_ms"], response.body) == ("client_disconnected", None, b"")


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize(
    ("late", "recorded"), [(b"asked", b"what was asked"), (b"", b"what was ")], ids=["late", "not"]
)
def test_an_application_that_does_not_read_the_request(gateway: Gateway, late: bytes, recorded: bytes) -> None:
    """The rest of the body comes after the answer, or does not come."""
    is_answering = threading.Event()

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        is_answering.set()
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"no such path"})

    gateway.upstream.answer = answer
    client = Client(gateway.port)
    client.send(f"POST {CHAT} HTTP/1.1\r\nHost: t\r\nContent-Length: 14\r\n\r\nwhat was ".encode())
    assert is_answering.wait(60)
    client.send(late)
    client.until(b"no such path")
    request, asked, _, answered = gateway.exchange()
    assert (request.body, asked["complete"]) == (recorded, bool(late))
    assert (answered["status"], answered["outcome"]) == (404, "completed")
    client.leave()


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("started", [False, True])
def test_an_application_that_fails(gateway: Gateway, started: bool) -> None:
    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await gateway.upstream.read(receive)
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise LookupError(KEY)

    gateway.upstream.answer = answer
    client = Client(gateway.port)
    client.post(CHAT)
    received = client.until_closed()
    assert received.startswith(b"HTTP/1.1 200" if started else b"HTTP/1.1 500")
    assert not received.endswith(b"0\r\n\r\n") or not started
    _, _, response, answered = gateway.exchange()
    assert (answered["outcome"], answered["error"]) == ("error", "LookupError")
    assert (answered["status"], response.body) == ((200, b"half") if started else (500, b""))


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_an_application_that_stops_in_the_middle(gateway: Gateway) -> None:
    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await gateway.upstream.read(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    gateway.upstream.answer = answer
    client = Client(gateway.port)
    client.post(CHAT)
    assert not client.until_closed().endswith(b"0\r\n\r\n")
    assert gateway.exchange()[3]["outcome"] == "interrupted"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shutdown_that_does_not_wait(path: Path, workers: int) -> None:
    """As a process of its own: uvicorn ends it as soon as the application's shutdown is complete."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "tests.gateway.app_that_waits:app", "--lifespan", "on"),
            *("--port", str(port), "--workers", str(workers), "--timeout-graceful-shutdown", "1"),
            *("--timeout-worker-healthcheck", "60"),
        ],
        env={**os.environ, "LEDGER_SPOOL_PATH": str(path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: listens(port), "the server starts")
        clients = [Client(port) for _ in range(20)]
        for client in clients:
            client.post(CHAT)
        for client in clients:
            client.until(b"half")
    finally:
        process.terminate()
        process.wait(60)
    records = Gateway(port, path, Upstream()).records()
    answered = [record for record in records if record.kind == "response"]
    assert len(answered) == len(records) - len(answered) == len(clients)
    assert {json.loads(record.facts)["outcome"] for record in answered} == {"interrupted"}
    assert {record.body for record in answered} == {b"half"}
    for client in clients:
        client.leave()


async def say_all(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"all of it"})


def test_an_exchange_that_is_cancelled_while_the_record_is_written(gateway: Gateway, gate: Gate) -> None:
    """The record says that the client has the answer: so it gets it, but not before."""
    cancelled = threading.Event()

    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await gateway.upstream.read(receive)
        talking = asyncio.ensure_future(say_all(send))
        await asyncio.sleep(0.2)
        talking.cancel()
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await talking

    gateway.upstream.answer = answer
    client = Client(gateway.port)
    client.post(CHAT)
    assert cancelled.wait(60)
    assert client.so_far() == b""
    gate.set()
    client.until(b"all of it")
    _, _, response, answered = gateway.exchange()
    assert (answered["outcome"], response.body) == ("completed", b"all of it")
    client.leave()


async def test_work_is_done_to_its_end_whoever_is_cancelled(path: Path) -> None:
    recorder = Recorder(SpoolWriter(path), Metrics(None), path.parent / "websockets", serve_unrecorded=False)
    may_end, is_done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        is_done.set()

    waiting = asyncio.ensure_future(recorder.finish_work(work()))
    for _ in range(3):
        await asyncio.sleep(0.01)
        waiting.cancel()
    await asyncio.sleep(0.01)
    assert not waiting.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert is_done.is_set()
    await recorder.close()


def test_a_client_that_leaves_while_the_record_is_written(gateway: Gateway, gate: Gate) -> None:
    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await gateway.upstream.read(receive)
        # As Starlette does: whichever comes first cancels the other.
        talking = asyncio.ensure_future(say_all(send))
        assert (await receive())["type"] == "http.disconnect"
        talking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await talking

    gateway.upstream.answer = answer
    client = Client(gateway.port)
    client.post(CHAT)
    wait_for(lambda: gateway.upstream.bodies, "the application has the request")
    time.sleep(0.2)
    client.leave()
    time.sleep(0.2)
    gate.set()
    _, _, response, answered = gateway.exchange()
    time.sleep(0.2)
    assert len(gateway.records()) == 2
    assert response.body == b"all of it"
    assert answered["outcome"] == "completed"


# --- a spool that fails -----------------------------------------------------------------------------------------


def assert_refused(status: int, headers: Any, body: Any) -> None:
    assert status == 503
    assert body["error"]["type"] == "ledger_unavailable"
    assert "cannot record exchanges" in body["error"]["message"]
    assert headers["retry-after"] == "10"
    assert headers["x-litellm-call-id"]


def test_what_cannot_be_recorded_is_not_answered(gateway: Gateway, broken: Broken) -> None:
    broken.set()
    first = gateway.post(content=b"an answer that must not be seen")
    assert_refused(first.status_code, first.headers, first.json())
    assert len(gateway.upstream.calls) == 1
    second = gateway.post()
    assert_refused(second.status_code, second.headers, second.json())
    assert len(gateway.upstream.calls) == 1  # no model works for an answer that nobody gets
    broken.clear()
    assert gateway.post(content=b"again").content == b"again"
    wait_for(lambda: len(gateway.records()) == 4, "what is owed of the first")
    found = {(str(record.exchange), record.kind): record for record in gateway.records()}
    call_id = first.headers["x-litellm-call-id"]
    refused = json.loads(found[call_id, "response"].facts)
    assert (refused["status"], refused["outcome"], refused["error"]) == (503, "refused", NOT_RECORDED)
    assert found[call_id, "request"].body is found[call_id, "response"].body is None
    assert (second.headers["x-litellm-call-id"], "request") not in found


def test_a_request_that_could_not_be_recorded_is_recorded_with_its_answer(gateway: Gateway, broken: Broken) -> None:
    gateway.upstream.chunks(None, b"an answer", content_length="9")
    broken.set()
    client = Client(gateway.port)
    client.post(CHAT, b"a question")
    wait_for(lambda: gateway.upstream.bodies, "the application has the request")
    time.sleep(0.2)
    broken.clear()
    gateway.upstream.go_on.set()
    client.until(b"an answer")
    request, _, response, _ = gateway.exchange()
    assert (request.body, response.body) == (b"a question", b"an answer")
    client.leave()


def test_a_stream_whose_request_cannot_be_recorded_is_cut_off(gateway: Gateway, gate: Gate) -> None:
    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await gateway.upstream.read(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await gateway.upstream.pause()
        await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": True})
        await asyncio.sleep(1_000)  # a model that talks on; nobody may wait for it

    gateway.upstream.answer = answer
    client = Client(gateway.port)
    client.post(CHAT)
    client.until(b"data: 1\n\n")
    gate.set(broken=True)
    wait_until_refused()
    gateway.upstream.go_on.set()
    assert b"data: 2" not in client.until_closed()


def test_a_stream_that_cannot_be_recorded_has_no_end(gateway: Gateway, broken: Broken) -> None:
    gateway.upstream.chunks(b"data: 1\n\n", None, b"data: [DONE]\n\n")
    client = Client(gateway.port)
    client.post(CHAT)
    client.until(b"data: 1\n\n")
    wait_for(gateway.records, "the request's record")
    broken.set()
    gateway.upstream.go_on.set()
    received = client.until_closed()
    assert b"[DONE]" not in received
    assert not received.endswith(b"0\r\n\r\n")
    broken.clear()
    request, _, response, answered = gateway.exchange()  # as soon as there is room
    assert (request.body, response.body) == (b"{}", None)
    assert (answered["status"], answered["outcome"], answered["error"]) == (200, "interrupted", NOT_RECORDED)


def test_a_stream_whose_request_cannot_be_recorded_is_refused_at_its_beginning(
    gateway: Gateway, broken: Broken
) -> None:
    gateway.upstream.chunks(None, b"data: 1\n\n", b"data: [DONE]\n\n")
    broken.set()
    client = Client(gateway.port)
    client.post(CHAT)
    wait_until_refused()
    gateway.upstream.go_on.set()
    received = client.until(b"ledger_unavailable")
    assert received.startswith(b"HTTP/1.1 503")
    assert b"data: 1" not in received
    client.leave()


# --- what is not HTTP -------------------------------------------------------------------------------------------


async def test_a_spool_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path, upstream: Upstream) -> None:
    await asyncio.to_thread(tmp_path.chmod, 0o755)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    ledger = Ledger(upstream, CaptureSettings(spool_path=tmp_path / "spool.sqlite3"))
    await ledger({"type": "lifespan"}, receive, send)
    (failed,) = sent
    assert failed["type"] == "lifespan.startup.failed"
    assert "must be 0700: chmod 700" in failed["message"]
