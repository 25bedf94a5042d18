"""Where a key may be in a realtime session through the real LiteLLM, and where it must not be found."""

from typing import Any

import pytest
from litellm.proxy._types import hash_token
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.gateway.fix_litellm import MASTER_KEY, LiteLLM, Rows
from tests.gateway.fix_upstream import PROVIDER_KEY

PATH = "/v1/realtime?model=converses"


def connected(litellm: LiteLLM, path: str, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{litellm.port}{path}", open_timeout=60, close_timeout=60, **options)


def test_a_browsers_key(litellm: LiteLLM, rows: Rows) -> None:
    protocols: Any = ["realtime", f"openai-insecure-api-key.{MASTER_KEY}"]
    with connected(litellm, PATH, subprotocols=protocols) as client:
        client.recv(60)
    (row,) = rows(1)
    assert row["request_key_hash"] == hash_token(MASTER_KEY)
    assert (row["status"], row["outcome"]) == (101, "completed")
    for file in litellm.spool.parent.rglob("*"):
        assert not file.is_file() or MASTER_KEY.encode() not in file.read_bytes()


def test_no_key_is_in_the_log(litellm: LiteLLM) -> None:
    with pytest.raises(InvalidStatus):
        connected(litellm, f"{PATH}&key={MASTER_KEY}")
    log = (litellm.spool.parents[1] / "log").read_text()
    assert '"WebSocket /v1/realtime"' in log
    for key in (MASTER_KEY, PROVIDER_KEY):
        assert key not in log
