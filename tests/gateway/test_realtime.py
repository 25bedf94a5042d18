"""Realtime sessions through the real LiteLLM: what a client saw is what the tables have."""

import json
from typing import Any

import pytest
from litellm.proxy._types import hash_token
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.gateway.fix_litellm import MASTER_KEY, WRONG_KEY, LiteLLM, Rows
from tests.gateway.fix_upstream import PROVIDER_KEY

PATH = "/v1/realtime?model=converses"


def connected(litellm: LiteLLM, path: str, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{litellm.port}{path}", open_timeout=60, close_timeout=60, **options)


def texts(body: str) -> list[str]:
    return [json.loads(line)["text"] for line in body.split("\n")[:-1]]


@pytest.mark.parametrize("path", [PATH, "/realtime?model=converses"])
def test_a_session(litellm: LiteLLM, rows: Rows, path: str) -> None:
    said = [json.dumps({"type": kind, "event_id": "Pa\u00df"}) for kind in ("response.create", "response.cancel")]
    heard = []
    with connected(litellm, path, additional_headers={"authorization": f"Bearer {MASTER_KEY}"}) as client:
        heard.append(client.recv(60))
        for message in said:
            client.send(message)
            heard.append(client.recv(60))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(60)
        assert closed.value.rcvd is not None
    (row,) = rows(1)
    assert texts(row["request_body_text"]) == said
    assert texts(row["body_text"]) == heard
    assert (row["request_method"], row["request_path"]) == ("WEBSOCKET", path.partition("?")[0])
    assert (row["request_query"], row["request_model"]) == ("model=converses", "converses")
    assert (row["status"], row["outcome"], row["error"]) == (101, "completed", None)
    assert row["request_key_hash"] == hash_token(MASTER_KEY)
    assert row["request_body_complete"] is True


def test_a_browsers_key(litellm: LiteLLM, rows: Rows) -> None:
    protocols: Any = ["realtime", f"openai-insecure-api-key.{MASTER_KEY}"]
    with connected(litellm, PATH, subprotocols=protocols) as client:
        client.recv(60)
    (row,) = rows(1)
    assert row["request_key_hash"] == hash_token(MASTER_KEY)
    assert (row["status"], row["outcome"]) == (101, "completed")
    for file in litellm.spool.parent.rglob("*"):
        assert not file.is_file() or MASTER_KEY.encode() not in file.read_bytes()


def test_a_wrong_key(litellm: LiteLLM, rows: Rows) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connected(litellm, PATH, additional_headers={"authorization": f"Bearer {WRONG_KEY}"})
    assert refused.value.response.status_code == 403
    (row,) = rows(1)
    assert (row["status"], row["outcome"], row["request_key_hash"]) == (403, "refused", hash_token(WRONG_KEY))


def test_no_key_is_in_the_log(litellm: LiteLLM) -> None:
    with pytest.raises(InvalidStatus):
        connected(litellm, f"{PATH}&key={MASTER_KEY}")
    log = (litellm.spool.parents[1] / "log").read_text()
    assert '"WebSocket /v1/realtime"' in log
    for key in (MASTER_KEY, PROVIDER_KEY):
        assert key not in log
