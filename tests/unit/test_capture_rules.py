"""What of a request's head is recorded, and what never."""

import hashlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm.proxy._types import hash_token

from litellm_sqlalchemy.ledger.head import Rules, key_hash, redact, redact_query, with_call_id
from litellm_sqlalchemy.settings import NEEDED_REQUEST_HEADERS, CaptureSettings

KEY = "sk-1234567890abcdef"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


RULES = Rules(CaptureSettings())


def test_the_hash_is_litellms_own() -> None:
    assert key_hash([(b"authorization", f"Bearer {KEY}".encode())], "") == hash_token(KEY) == HASH


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", b"bearer " + KEY.encode())],
        [(b"authorization", b"Basic " + KEY.encode())],
        [(b"authorization", KEY.encode())],
        [(b"api-key", KEY.encode())],
        [(b"x-api-key", KEY.encode())],
        [(b"x-goog-api-key", KEY.encode())],
        [(b"ocp-apim-subscription-key", KEY.encode())],
        [(b"sec-websocket-protocol", f"realtime, openai-insecure-api-key.{KEY}, openai-beta.realtime-v1".encode())],
        # LiteLLM's own header comes before all others.
        [(b"authorization", b"Bearer other"), (b"x-litellm-api-key", b"Bearer " + KEY.encode())],
        [(b"x-api-key", b"other"), (b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", b""), (b"x-api-key", KEY.encode())],
        [(b"authorization", b"Bearer Bearer " + KEY.encode())],
        [(b"authorization", b"AWS4-HMAC-SHA256 Credential=Bearer " + KEY.encode() + b"/20261125/us-east-1/bedrock")],
        [(b"authorization", b"AWS4-HMAC-SHA256 Credential=" + KEY.encode() + b"/20261125, Signature=0")],
    ],
)
def test_wherever_the_key_is(headers: Iterable[tuple[bytes, bytes]]) -> None:
    assert key_hash(headers, "") == HASH


@pytest.mark.parametrize("path", ["/docs/mcp", "/credentials/mcp", "/key/x/v1/files/regenerate", "/v1/mcp/server/mcp"])
def test_a_name_in_a_path_that_looks_like_another(path: str) -> None:
    """An MCP server may be called docs, and a credential mcp."""
    assert not RULES.is_ignored(path)
    assert RULES.is_full(path) == (path == "/docs/mcp")


@pytest.mark.parametrize("text", ["sk-abc", "x_sk-abc", "/v1/x_sk-abc", "ua_sk-abc"])
def test_a_key_behind_an_underscore(text: str) -> None:
    assert redact(text) == text.replace("sk-abc", "REDACTED")


def test_the_first_call_id_is_the_one_that_litellm_takes() -> None:
    first, second = (b"x-litellm-call-id", b"x" * 257), (b"x-litellm-call-id", b"second")
    assert with_call_id({"headers": [first, second]}, "own")[1] == "own"
    assert with_call_id({"headers": [second, first]}, "own")[1] == "second"


def test_the_key_in_a_query() -> None:
    # As LiteLLM, which takes the first: nobody has his call booked on another's key.
    assert key_hash([(b"authorization", f"Bearer {KEY}".encode()), (b"authorization", b"Bearer sk-x")], "") == HASH
    assert key_hash([], f"alt=sse&key={KEY}") == HASH


@pytest.mark.parametrize("headers", [[], [(b"authorization", b"")], [(b"authorization", b"Bearer ")]])
def test_no_key(headers: Iterable[tuple[bytes, bytes]]) -> None:
    assert key_hash(headers, "") is None


@given(st.lists(st.tuples(st.binary(), st.binary())), st.text())
def test_any_headers_and_query(headers: list[tuple[bytes, bytes]], query: str) -> None:
    found = key_hash(headers, query)
    assert found is None or len(bytes.fromhex(found)) == 32
    redact_query(query)


@pytest.mark.parametrize(
    ("query", "recorded"),
    [
        ("", ""),
        ("limit=5&after=x%20y&empty=", "limit=5&after=x+y&empty="),
        (f"key={KEY}&alt=sse", "key=REDACTED&alt=sse"),
        (
            "code=abc&access_token=abc&api_key=abc&X-Amz-Signature=abc",
            "code=REDACTED&access_token=REDACTED&api_key=REDACTED&X-Amz-Signature=REDACTED",
        ),
        (f"id={KEY}", "id=REDACTED"),
        (KEY, "REDACTED="),
    ],
)
def test_queries(query: str, recorded: str) -> None:
    assert redact_query(query) == recorded


FULL = """
    /v1/chat/completions /chat/completions /v1/embeddings /v1/messages /v1/messages/count_tokens /v1/responses
    /v1/responses/resp_1 /openai/deployments/m/chat/completions /v1/audio/speech /v2/rerank /v1/batches
    /v1beta/models/g:generateContent /models/g:streamGenerateContent /anthropic/v1/messages /mcp /mcp/tools
    /v1/files/f/content /v1/images/generations /v1/moderations /realtime /v1/realtime /openai/v1/realtime
    /vertex_ai/live /deepgram/v1/listen
"""
METADATA = """
    /key/generate /key/info /user/new /team/new /credentials /login /v2/login /sso/callback /model/new /v1/models
    /config/update /search_tools /v1/mcp/server /mcp-rest/test/connection /v1/realtime/client_secrets
    /realtime/client_secrets /openai/v1/realtime/client_secrets /openai/v1/realtime/transcription_sessions
    /openai/v1/realtime/calls /openai/v1/organization/admin_api_keys /mcp/token /mcp/authorize /mcp/register
    /vector_store/new /token /spend/logs /something/nobody/knows /v1/chat/completionsx /audit
"""
IGNORED = """
    / /ui /ui/ /ui/login /_next/static/x.js /health /health/liveliness /metrics /metrics/ /openapi.json /favicon.ico
"""


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        (path, kept)
        for paths, kept in ((FULL, "full"), (METADATA, "metadata"), (IGNORED, "none"))
        for path in paths.split()
    ],
)
def test_paths(path: str, kept: str) -> None:
    found = "none" if RULES.is_ignored(path) else "full" if RULES.is_full(path) else "metadata"
    assert found == kept


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/gw/v1/chat/completions", "full"),
        ("/v1/chat/completions", "full"),
        ("/gw/eu/v1/chat/completions", "full"),
        ("/gw/health/liveliness", "none"),
        ("/gw/key/generate", "metadata"),
        ("/openai/key/generate", "metadata"),  # the prefix is one of the paths recorded in full
        ("/gwx/v1/chat/completions", "metadata"),
    ],
)
def test_paths_below_a_root_path(path: str, kept: str) -> None:
    rules = Rules(CaptureSettings(root_paths=("/openai", "/gw/eu", "/gw")))
    assert kept == ("none" if rules.is_ignored(path) else "full" if rules.is_full(path) else "metadata")


@pytest.mark.parametrize(
    "name",
    ["authorization", "x-api-key", "api-key", "x-litellm-api-key", "cookie", "x-goog-api-key", "x-forwarded-for"],
)
def test_headers_that_are_not_recorded(name: str) -> None:
    assert not RULES.is_recorded_request_header(name)


@given(st.text())
def test_only_headers_of_the_list_are_recorded(name: str) -> None:
    listed = (*CaptureSettings().request_headers, *NEEDED_REQUEST_HEADERS)
    assert RULES.is_recorded_request_header(name) == (name in listed)


def test_headers_of_the_list_may_be_written_as_people_write_them() -> None:
    rules = Rules(CaptureSettings(request_headers=("X-Team",), response_headers=("X-Cost-*",)))
    assert rules.is_recorded_request_header("x-team")
    assert rules.is_recorded_response_header("x-cost-total")


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("x-litellm-response-cost", True),
        ("content-type", True),
        ("llm_provider-x-request-id", True),
        ("set-cookie", False),
        ("llm_provider-set-cookie", False),
        ("www-authenticate", False),
    ],
)
def test_headers_of_the_answer(name: str, recorded: bool) -> None:
    assert RULES.is_recorded_response_header(name) is recorded
