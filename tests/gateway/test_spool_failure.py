"""A spool that takes no records: what clients see, what is counted, and what is recorded when there is room again."""

import contextlib
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from litellm_sqlalchemy.ledger import recorder
from litellm_sqlalchemy.ledger.capture import Ledger
from litellm_sqlalchemy.ledger.exchange import Exchange
from litellm_sqlalchemy.ledger.metrics import render
from litellm_sqlalchemy.settings import CaptureSettings
from tests.fix_server import Client, serving, wait_for
from tests.gateway.fix_capture import CHAT, Broken, Gate, Gateway, Upstream
from tests.gateway.test_websocket import connected, echo, messages


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "RETRY_SECONDS", 0.05)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    directory = tmp_path / "metrics"
    directory.mkdir()
    return directory


def metrics(directory: Path) -> dict[str, float]:
    """What the metrics say, without those that are zero."""
    families = text_string_to_metric_families(render(directory))
    samples = [sample for family in families for sample in family.samples if sample.value]
    return {"/".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}


@contextlib.contextmanager
def started(
    path: Path, upstream: Upstream, measured: Path, on_spool_failure: Literal["refuse", "serve"]
) -> Iterator[Gateway]:
    settings = CaptureSettings(spool_path=path, on_spool_failure=on_spool_failure, metrics_directory=measured)
    with serving(Ledger(upstream, settings)) as port:
        yield Gateway(port, path, upstream)
        upstream.go_on.set()


@pytest.fixture
def gateway(path: Path, upstream: Upstream, measured: Path) -> Iterator[Gateway]:
    """One that serves what it cannot record."""
    with started(path, upstream, measured, "serve") as gateway:
        yield gateway


def facts(gateway: Gateway, kind: str) -> list[dict[str, Any]]:
    return [json.loads(record.facts) for record in gateway.records() if record.kind == kind]


def test_answers_without_a_record(
    gateway: Gateway,
    broken: Broken,
    measured: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "LOG_SECONDS", 3_600)
    broken.set()
    for number in range(3):
        assert gateway.post(content=str(number)).text == str(number)
    assert metrics(measured)["ledger_unrecorded_total"] == 3
    assert "ledger_refused_total" not in metrics(measured)
    told = [record.getMessage() for record in caplog.records if "action=unrecorded" in record.getMessage()]
    assert len(told) == 1  # the others in the next line, some seconds later
    assert told[0].startswith("action=unrecorded count=1 reason=cannot write to the spool")
    broken.clear()
    wait_for(lambda: len(gateway.records()) == 6, "what is owed")
    assert {record.body for record in gateway.records()} == {None}
    assert {(answered["outcome"], answered["status"]) for answered in facts(gateway, "response")} == {
        ("completed", 200)
    }
    assert [asked["size"] for asked in facts(gateway, "request")] == [1, 1, 1]
    assert gateway.post(content=b"again").content == b"again"
    assert gateway.records()[-1].body == b"again"
    assert metrics(measured)["ledger_unrecorded_total"] == 3


def test_a_stream_that_has_begun_gets_its_end(gateway: Gateway, broken: Broken) -> None:
    gateway.upstream.chunks(b"data: 1\n\n", None, b"data: [DONE]\n\n")
    client = Client(gateway.port)
    client.post(CHAT)
    client.until(b"data: 1\n\n")
    wait_for(gateway.records, "the request's record")
    broken.set()
    gateway.upstream.go_on.set()
    client.until(b"[DONE]\n\n\r\n0\r\n\r\n")
    client.leave()
    broken.clear()
    request, _, response, answered = gateway.exchange()
    assert (request.body, response.body) == (b"{}", None)
    assert (answered["outcome"], answered["size"]) == ("completed", 23)


def test_what_is_owed_at_the_shutdown(path: Path, upstream: Upstream, measured: Path, broken: Broken) -> None:
    with started(path, upstream, measured, "serve") as gateway:
        broken.set()
        assert gateway.post(content=b"x").content == b"x"
        broken.clear()
    assert [record.kind for record in gateway.records()] == ["request", "response"]


def test_a_spool_that_hangs(gateway: Gateway, gate: Gate, measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LONGEST_HOLD_SECONDS", 0.1)
    assert gateway.post(content=b"x").content == b"x"
    assert gateway.records() == []
    gate.set()
    request, _, response, _ = gateway.exchange()
    assert request.body == response.body == b"x"
    assert "ledger_unrecorded_total" not in metrics(measured)


def test_a_session_without_a_record(gateway: Gateway, broken: Broken, measured: Path) -> None:
    gateway.upstream.answer = echo
    with connected(gateway) as client:
        broken.set()
        client.send("one")
        client.recv(60)
        client.send("bye 1000")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(60)
        assert closed.value.rcvd is not None
    assert metrics(measured)["ledger_unrecorded_total"] == 1
    broken.clear()
    request, _, response, answered = gateway.exchange()  # nothing is lost: the session's journal is on disk
    assert (messages(request.body), messages(response.body)) == (["one", "bye 1000"], ["one"])
    assert answered["outcome"] == "completed"


def test_a_session_without_a_journal(gateway: Gateway, measured: Path) -> None:
    gateway.upstream.answer = echo
    (gateway.path.parent / "websockets").write_text("in the way")
    with connected(gateway) as client:
        client.send("one")
        assert client.recv(60) == "one"
    request, asked, response, answered = gateway.exchange()
    assert (request.body, response.body, asked["complete"]) == (None, None, False)
    assert answered["outcome"] == "completed"
    assert metrics(measured)["ledger_unrecorded_total"] == 1


def test_what_is_counted(path: Path, upstream: Upstream, measured: Path, broken: Broken) -> None:
    with started(path, upstream, measured, "refuse") as gateway:
        gateway.post()
        upstream.chunks(b"data: 1\n\n", None)
        client = Client(gateway.port)
        client.post(CHAT)
        client.until(b"data: 1\n\n")
        assert metrics(measured)["ledger_open_exchanges"] == 1
        client.leave()
        upstream.go_on.set()
        wait_for(lambda: len(gateway.records()) == 4, "the second exchange's record")
        upstream.answer = upstream.json
        broken.set()
        assert [gateway.post().status_code, gateway.post().status_code] == [503, 503]
        broken.clear()
        wait_for(lambda: "ledger_open_exchanges" not in metrics(measured), "no exchange is open")
        found = metrics(measured)
    assert found["ledger_exchanges_total/completed"] == found["ledger_exchanges_total/client_disconnected"] == 1
    assert found["ledger_refused_total"] == 2
    assert found["ledger_held_seconds_count"] == 3
    assert "ledger_unrecorded_total" not in found


def test_nothing_is_left_behind(gateway: Gateway) -> None:
    gateway.upstream.chunks(b"data: 1\n\n", None)
    clients = [Client(gateway.port) for _ in range(20)]
    for client in clients:
        client.post(CHAT, b"x" * 100_000)
    for client in clients:
        client.until(b"data: 1\n\n")
        client.leave()
    gateway.upstream.go_on.set()
    wait_for(lambda: len(gateway.records()) == 40, "the records")
    gateway.upstream.answer = echo
    for _ in range(20):
        connect(f"ws://127.0.0.1:{gateway.port}/v1/realtime").close()
    wait_for(lambda: len(gateway.records()) == 80, "the sessions' records")

    def exchanges() -> list[object]:
        gc.collect()
        return [found for found in gc.get_objects() if isinstance(found, Exchange)]

    wait_for(lambda: not exchanges(), "no exchange is in memory")
