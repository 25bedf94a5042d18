"""Every endpoint of the real LiteLLM: what a client sent and got is in the ledger, byte for byte."""

import contextlib
import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from litellm.proxy._types import hash_token
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from litellm_sqlalchemy.ledger.spool import Spool, SpooledRecord
from tests.gateway.fix_litellm import MASTER_KEY, WRONG_KEY, LiteLLM, Rows
from tests.gateway.fix_upstream import ANY_BYTES, CHAT

HI = {"role": "user", "content": "Hi"}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
RANK = {"model": "ranks", "query": "Which?", "documents": ["a", "b"]}
BATCH = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h"}
PASSED = {"any": ["thing"]}


def chat(**more: Any) -> dict[str, Any]:
    return {"json": {"model": "talks", "messages": [HI], **more}}


def upload(name: str, kind: str, **data: str) -> dict[str, Any]:
    return {"data": data, "files": {name: (f"any.{name}", ANY_BYTES, kind)}}


def mcp(method: str, **params: Any) -> dict[str, Any]:
    """A message of the Model Context Protocol."""
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
        "headers": {"accept": "application/json, text/event-stream"},
    }


@dataclass(frozen=True)
class Case:
    """What to ask, and what comes of it.

    Attributes:
        path: The URL's path and query.
        options: httpx's, for the request's body and more headers.
        has: A part of the answer.
        unlike: The status of an older release that answers otherwise.
    """

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    has: bytes = b""
    method: str = "POST"
    status: int = 200
    outcome: str = "completed"
    key: str = MASTER_KEY
    header: str = "authorization"
    unlike: Mapping[str, int] = field(default_factory=dict)


def get(path: str, **more: Any) -> Case:
    return Case(path, method="GET", **more)


ANSWERED = {
    "chat": Case(CHAT, chat(), b"chat.completion"),
    "chat, streamed": Case(CHAT, chat(stream=True), b"[DONE]"),
    "Azure's chat": Case("/openai/deployments/talks/chat/completions", {"json": {"messages": [HI]}}, header="api-key"),
    "completions": Case("/v1/completions", {"json": {"model": "writes", "prompt": "Hi"}}, b"Paris"),
    "responses": Case("/v1/responses", {"json": {"model": "talks", "input": "Hi"}}, b"Paris"),
    "messages": Case("/v1/messages", chat(max_tokens=9), b"end_turn", header="x-api-key"),
    "embeddings": Case("/v1/embeddings", {"json": {"model": "embeds", "input": "Hi"}}, b"0.25"),
    "images": Case("/v1/images/generations", {"json": {"model": "draws", "prompt": "Hi"}}, b"b64_json"),
    "an image's edit": Case("/v1/images/edits", upload("image", "image/png", model="draws", prompt="Hi"), b"b64_json"),
    "speech": Case("/v1/audio/speech", {"json": {"model": "speaks", "input": "Hi", "voice": "alloy"}}, ANY_BYTES),
    "transcription": Case("/v1/audio/transcriptions", upload("file", "audio/mpeg", model="hears"), b"Paris"),
    "rerank": Case("/v1/rerank", {"json": RANK}, b"relevance_score"),
    "rerank, version 2": Case("/v2/rerank", {"json": RANK}, b"relevance_score"),
    "moderations": Case("/v1/moderations", {"json": {"model": "judges", "input": "Hi"}}, b"flagged"),
    "a file": Case("/v1/files", upload("file", "application/pdf", purpose="user_data"), b"file-1"),
    "files": get("/v1/files?limit=5", has=b"file-1"),
    "a file's facts": get("/v1/files/file-1", has=b"file-1"),
    "a file's content": get("/v1/files/file-1/content", has=ANY_BYTES),
    "a provider's files": get("/openai/v1/files", has=b"file-1"),
    "a batch": Case("/v1/batches", {"json": BATCH}, b"batch_1"),
    "a batch's state": get("/v1/batches/batch_1", has=b"in_progress"),
    "batches": get("/v1/batches?limit=5", has=b"batch_1"),
    "a vector store": Case("/v1/vector_stores", {"json": {"name": "any"}}, b"vs_1"),
    "a vector store's search": Case("/v1/vector_stores/vs_1/search", {"json": {"query": "Hi"}}, b"Paris"),
    "Google": Case("/v1beta/models/generates:generateContent", {"json": CONTENTS}, b"STOP", header="x-goog-api-key"),
    "Google, streamed": Case(
        "/v1beta/models/generates:streamGenerateContent?alt=sse", {"json": CONTENTS}, b"STOP", header="x-goog-api-key"
    ),
    "pass-through": Case("/passed-on", {"json": PASSED}, b"thing"),
    "pass-through, a path below": Case("/passed-on/any/thing", {"json": PASSED}, b"thing"),
    "pass-through, bytes": Case("/passed-on/bytes", {"json": PASSED}, ANY_BYTES),
    "pass-through, streamed": Case("/passed-on/stream", {"json": PASSED}, b"[DONE]"),
    "OpenAI's pass-through": Case("/openai_passthrough/v1/chat/completions", chat(), b"chat.completion"),
    "OpenAI's pass-through, streamed": Case("/openai_passthrough/v1/chat/completions", chat(stream=True), b"[DONE]"),
    "MCP's tools": Case("/mcp/", mcp("tools/list"), b"capital"),
    "MCP's tool": Case(
        "/mcp/", mcp("tools/call", name="atlas-capital", arguments={"country": "France"}), b"Paris is the capital"
    ),
    "MCP, one server": Case("/atlas/mcp", mcp("tools/list"), b"capital"),
    # LiteLLM mounts /mcp there, and Starlette sends who asks for a mount without its slash on.
    "MCP without a slash": Case("/mcp", mcp("tools/list"), unlike={"1.83.0": 307, "1.93.1": 307}),
    "MCP for the admin UI": get("/mcp-rest/tools/list", has=b"capital"),
}
REFUSED = {
    **{
        f"{path} by {header}": Case(path, options, status=400, outcome="refused", key=WRONG_KEY, header=header)
        for path, options, header in (
            (CHAT, chat(stream=True), "authorization"),
            ("/v1/messages", chat(max_tokens=9), "x-api-key"),
            ("/v1/audio/transcriptions", upload("file", "audio/mpeg", model="hears"), "authorization"),
            ("/v1beta/models/generates:generateContent", {"json": CONTENTS}, "x-goog-api-key"),
            ("/openai_passthrough/v1/chat/completions", chat(), "authorization"),
        )
    },
    **{
        f"{path} of an unknown model": Case(path, options, status=400, outcome="error")
        for path, options in (
            ("/v1/embeddings", {"json": {"model": "nobody", "input": "Hi"}}),
            ("/v1/images/generations", {"json": {"model": "nobody", "prompt": "Hi"}}),
            ("/v1/audio/speech", {"json": {"model": "nobody", "input": "Hi", "voice": "alloy"}}),
            ("/v2/rerank", {"json": {**RANK, "model": "nobody"}}),
        )
    },
}


def ask(litellm: LiteLLM, case: Case) -> httpx.Response:
    key = f"Bearer {case.key}" if case.header == "authorization" else case.key
    # Uncompressed: httpx is to give the bytes that came.
    headers = {case.header: key, "accept-encoding": "identity", **case.options.get("headers", {})}
    with httpx.Client(base_url=f"http://127.0.0.1:{litellm.port}", timeout=60) as client:
        request = client.build_request(case.method, case.path, **{**case.options, "headers": headers})
        request.read()
        return client.send(request)


def spooled(litellm: LiteLLM) -> dict[str, SpooledRecord]:
    with contextlib.closing(Spool(litellm.spool)) as spool:
        # Usages come when LiteLLM finds the time.
        return {record.kind: record for record in spool.read(1_000, 1 << 30) if record.kind != "usage"}


def stored(row: dict[str, Any], column: str) -> bytes:
    """A body as the database has it: as text where it is text."""
    data = row[f"{column}_bytes"]
    return (row[f"{column}_text"] or "").encode() if data is None else bytes(data)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in (ANSWERED | REFUSED).items()])
def test_an_endpoint(litellm: LiteLLM, rows: Rows, case: Case) -> None:
    answer = ask(litellm, case)
    assert answer.status_code == case.unlike.get(litellm.release, case.status), answer.text
    assert case.has in answer.content
    # The client has the answer's end, so everything is there: in the spool,
    in_spool = spooled(litellm)
    assert in_spool["request"].body == answer.request.content
    assert in_spool["response"].body == answer.content
    # and once in the tables.
    (row,) = rows(1)
    assert stored(row, "request_body") == answer.request.content
    assert stored(row, "body") == answer.content
    assert (row["request_method"], row["request_path"]) == (case.method, case.path.partition("?")[0])
    assert (row["status"], row["outcome"]) == (answer.status_code, case.outcome)
    assert row["request_key_hash"] == hash_token(case.key)
    assert row["call_id"] == answer.headers["x-litellm-call-id"]


@pytest.mark.parametrize("path", ["/health/liveliness", "/health/readiness", "/ui/index.html", "/favicon.ico", "/"])
def test_what_is_not_recorded(litellm: LiteLLM, path: str) -> None:
    before = spooled(litellm)
    assert ask(litellm, get(path)).status_code < 500
    assert spooled(litellm) == before


def converse(litellm: LiteLLM, path: str, messages: list[str], key: str) -> list[str]:
    """Send each message after one has come, and leave when all are answered; gives what came."""
    headers = {"authorization": f"Bearer {key}"}
    with connect(f"ws://127.0.0.1:{litellm.port}{path}", additional_headers=headers, open_timeout=60) as websocket:
        came = [websocket.recv(60, decode=True)]
        for message in messages:
            websocket.send(message)
            came.append(websocket.recv(60, decode=True))
    return came


def spoken(body: str) -> list[str]:
    """The messages that the ledger has, a line each."""
    messages = [json.loads(line) for line in body.splitlines()]
    return [message["text"] if "text" in message else b64decode(message["bytes"]).decode() for message in messages]


@pytest.mark.parametrize("path", ["/v1/realtime?model=converses", "/realtime?model=converses"])
def test_realtime(litellm: LiteLLM, rows: Rows, path: str) -> None:
    sent = [json.dumps({"type": kind, "n": "\u00df"}) for kind in ("response.create", "response.cancel")]
    came = converse(litellm, path, sent, MASTER_KEY)
    assert len(came) == 3
    (row,) = rows(1)
    assert spoken(row["request_body_text"]) == sent
    assert spoken(row["body_text"]) == came
    assert (row["request_method"], row["request_path"]) == ("WEBSOCKET", path.partition("?")[0])
    assert (row["status"], row["outcome"]) == (101, "completed")
    assert row["request_key_hash"] == hash_token(MASTER_KEY)


def test_realtime_with_a_wrong_key(litellm: LiteLLM, rows: Rows) -> None:
    with pytest.raises(InvalidStatus) as refused:
        converse(litellm, "/v1/realtime?model=converses", [], WRONG_KEY)
    (row,) = rows(1)
    assert (row["status"], row["outcome"]) == (refused.value.response.status_code, "refused")
    assert row["request_key_hash"] == hash_token(WRONG_KEY)


SECRETS = {name: f"sk-{name}-of-somebody" for name in ("key", "api_key", "password", "master_key", "token")}
MANAGEMENT = [
    *("/key/generate", "/key/update", "/key/regenerate", "/key/sk-key-of-somebody/regenerate", "/user/new"),
    *("/credentials", "/login", "/v2/login", "/sso/key/generate", "/config/update", "/model/new", "/model/update"),
    *("/team/new", "/key/service-account/generate", "/v1/mcp/server", "/token", "/register", "/health/test_connection"),
    *("/onboarding/claim_token", "/config/pass_through_endpoint", "/cache/settings/test", "/search_tools"),
]


@pytest.mark.parametrize("path", MANAGEMENT)
def test_a_management_endpoint(litellm: LiteLLM, rows: Rows, path: str) -> None:
    """Without a database LiteLLM answers most of them with an error; test_routes.py has them answer with keys."""
    answer = ask(litellm, Case(path, {"json": {**SECRETS, "litellm_params": SECRETS}, "params": SECRETS}))
    (row,) = rows(1)
    assert (row["status"], row["request_method"]) == (answer.status_code, "POST")
    assert row["request_body_size"] == len(answer.request.content)
    kept = ("body", "body_text", "body_bytes")
    assert [row[f"{half}{name}"] for half in ("request_", "") for name in kept] == [None] * 6
    on_disk = litellm.on_disk()
    assert [name for name, secret in SECRETS.items() if secret in str(row) or secret.encode() in on_disk] == []
