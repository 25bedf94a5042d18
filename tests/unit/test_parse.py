"""What the drain reads out of bytes."""

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from litellm_sqlalchemy.ledger import parse
from litellm_sqlalchemy.ledger.models import OUTCOMES
from litellm_sqlalchemy.ledger.parse import Body, decoded, parse_request, parse_response
from tests.fix_bodies import BODIES, sse

CHAT = "/v1/chat/completions"


def exact(body: Body) -> bytes:
    """The bytes that a body in the tables stands for."""
    assert body.text is None or body.other is None
    return body.text.encode() if body.text is not None else body.other or b""


@given(BODIES, st.text())
@example(b"[" * 100_000, CHAT)
@example(b'{"model": "\\ud800", "user": "\\u0000"}', CHAT)
@example(b"9" * 5_000, CHAT)
def test_any_request_is_read_and_its_bytes_are_kept(body: bytes, path: str) -> None:
    facts = parse_request(path, body)
    assert exact(facts.body) == body
    for text in (facts.model, facts.end_user):
        assert text is None or (text and "\0" not in text and text.encode())


@given(
    st.sampled_from(OUTCOMES),
    st.none() | st.integers(100, 599),
    st.sampled_from(["", "application/json", "text/event-stream", "text/event-stream; charset=utf-8"]) | st.text(),
    BODIES,
)
@example("completed", 200, "text/event-stream", b"data: " + b"[" * 100_000 + b"\n\n")
@example(
    "completed",
    200,
    "text/event-stream",
    b'data: {"choices": [{"delta": ' + b'{"a":' * 900 + b"1" + b"}" * 902 + b"]}\n\n",
)
@example("completed", 400, "", b'{"error": ' + b'{"a":' * 900 + b"1" + b"}" * 901)
@example("completed", 400, "", b'{"error": {"message": {"a": "\\ud800"}}}')
@example(
    "completed",
    200,
    "",
    b'{"usage": {"prompt_tokens": 1e400, "total_tokens": 99999999999999999999, "input_tokens": -1}}',
)
def test_any_response_is_read_and_its_bytes_are_kept(
    outcome: str, status: int | None, content_type: str, body: bytes
) -> None:
    facts = parse_response(outcome, status, content_type, body)
    assert exact(facts.body) == body
    assert facts.outcome in OUTCOMES
    assert outcome == "completed" or facts.outcome == outcome
    for tokens in (facts.prompt_tokens, facts.completion_tokens, facts.total_tokens):
        assert tokens is None or 0 <= tokens < 1 << 63


def test_a_body_that_was_not_kept_says_nothing() -> None:
    assert parse_request("/key/generate", None).body == Body()
    assert parse_response("completed", 200, "application/json", None).outcome == "completed"
    assert parse_response("completed", 500, "application/json", None).outcome == "error"


@pytest.mark.parametrize(
    ("path", "body", "model", "stream", "end_user"),
    [
        (CHAT, {"model": "gpt", "stream": True, "user": "anna"}, "gpt", True, "anna"),
        (CHAT, {"model": "gpt", "stream": "true", "user": 7}, "gpt", False, None),
        ("/v1/messages", {"model": "claude", "metadata": {"user_id": "u1"}}, "claude", False, "u1"),
        ("/openai/deployments/gpt-4/chat/completions", {}, "gpt-4", False, None),
        ("/engines/org/gpt-4/embeddings", {"input": "x"}, "org/gpt-4", False, None),
        ("/v1beta/models/gemini-2:streamGenerateContent", {"contents": []}, "gemini-2", True, None),
        ("/v1beta/models/gemini-2:generateContent", {"contents": []}, "gemini-2", False, None),
        (CHAT, ["no", "object"], None, False, None),
        (CHAT, {"model": ""}, None, False, None),
    ],
)
def test_requests(path: str, body: Any, model: str | None, stream: bool, end_user: str | None) -> None:
    facts = parse_request(path, json.dumps(body).encode())
    assert (facts.model, facts.stream, facts.end_user) == (model, stream, end_user)


def test_what_text_cannot_hold_is_replaced() -> None:
    facts = parse_request(CHAT, b'{"model": "a\\u0000b", "user": "\\ud800"}')
    assert (facts.model, facts.end_user) == ("a\ufffdb", "?")
    assert facts.body.document is None  # nor can jsonb


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"a": 1.10, "b": 12345678901234567890.5}', '{"a": 1.10, "b": 12345678901234567890.5}'),  # the digits stay
        (b' {"a":1,"a":2} ', ' {"a":1,"a":2} '),
        (b'{"a": "\\u00e9\\ud83d\\ude00"}', '{"a": "\\u00e9\\ud83d\\ude00"}'),
        (b'{"a": "\\\\u0000"}', '{"a": "\\\\u0000"}'),  # a backslash and letters, no NUL
        (b'{"a": "\\u0000"}', None),
        (b'{"a": "\\\\\\u0000"}', None),
        (b'{"a": "\\ud83d"}', None),
        (b'{"a": NaN}', None),
        (b'{"a": 1e400}', '{"a": 1e400}'),
        (b'{"a": 1e99999999}', None),
        (b'{"a": "June2024"}', '{"a": "June2024"}'),
        (b'{"a": 1} x', None),
        (b"\xef\xbb\xbf{}", None),
        (b"null", None),
        (b"", None),
    ],
)
def test_documents(body: bytes, document: str | None) -> None:
    assert parse_request(CHAT, body).body.document == document


@pytest.mark.parametrize(
    ("status", "body", "outcome", "error"),
    [
        (200, {"id": "1"}, "completed", None),
        (200, {"error": "a field of somebody's answer"}, "completed", None),
        (500, {"error": {"message": "broken", "type": "None"}}, "error", "broken"),
        (400, {"detail": "no such thing"}, "error", "no such thing"),
        (422, {"detail": [{"loc": ["body"], "msg": "missing"}]}, "error", '[{"loc": ["body"], "msg": "missing"}]'),
        (429, {"error": {"message": "slow down", "type": "throttling_error"}}, "error", "slow down"),
        (400, {"error": {"message": "spent", "type": "budget_exceeded"}}, "refused", "spent"),
        (400, {"error": {"message": "No connected db.", "type": "no_db_connection"}}, "refused", "No connected db."),
        (
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "No connected db.",
                    "litellm_error_type": "no_db_connection",
                },
            },
            "refused",
            "No connected db.",
        ),
        (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "what?"}}, "error", "what?"),
        (
            401,
            {"error": {"message": "Authentication Error, no", "type": "auth_error"}},
            "refused",
            "Authentication Error, no",
        ),
        (403, {"error": {"message": "not yours", "type": "key_model_access_denied"}}, "refused", "not yours"),
        # The provider refuses the gateway's key: the client was allowed to ask.
        (
            401,
            {"error": {"message": "litellm.AuthenticationError: bad key"}},
            "error",
            "litellm.AuthenticationError: bad key",
        ),
        (408, {"error": {"message": "litellm.Timeout: late"}}, "upstream_timeout", "litellm.Timeout: late"),
        (504, {}, "upstream_timeout", "{}"),
    ],
)
def test_outcomes(status: int, body: Any, outcome: str, error: str | None) -> None:
    facts = parse_response("completed", status, "application/json", json.dumps(body).encode())
    assert (facts.outcome, facts.error) == (outcome, error)


def test_an_error_that_is_not_json_is_told_in_its_own_words() -> None:
    facts = parse_response("completed", 502, "text/html", b"<h1>Bad gateway</h1>" + b"x" * 10_000)
    assert facts.error is not None
    assert facts.error.startswith("<h1>Bad gateway</h1>")
    assert len(facts.error) == 2_000


def test_what_the_capture_saw_is_not_overruled() -> None:
    facts = parse_response("client_disconnected", 200, "text/event-stream", sse({"error": {"message": "late"}}))
    assert (facts.outcome, facts.error) == ("client_disconnected", "late")


def test_an_error_within_a_stream() -> None:
    facts = parse_response("completed", 200, "text/event-stream", sse({"choices": []}, {"error": {"message": "gone"}}))
    assert (facts.outcome, facts.error) == ("error", "gone")


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}, (3, 4, 7)),
        ({"usage": {"prompt_tokens": 3, "total_tokens": 3}}, (3, None, 3)),
        ({"usage": {"input_tokens": 3, "output_tokens": 4}}, (3, 4, 7)),
        ({"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 9}}, (3, 4, 9)),
        ({"usage": {"prompt_tokens": True, "completion_tokens": "4", "total_tokens": -1}}, (None, None, None)),
        ({"usage": [1]}, (None, None, None)),
    ],
)
def test_tokens(usage: Any, tokens: tuple[int | None, ...]) -> None:
    facts = parse_response("completed", 200, "application/json", json.dumps({"model": "m", **usage}).encode())
    assert (facts.prompt_tokens, facts.completion_tokens, facts.total_tokens) == tokens
    assert facts.model == "m"


@given(BODIES)
def test_a_compressed_body_is_read_as_the_other_side_reads_it(body: bytes) -> None:
    assert decoded(gzip.compress(body), "gzip") == body
    assert decoded(zlib.compress(body), "deflate") == body
    assert decoded(body, "") == body


@given(BODIES, st.sampled_from(["gzip", "br", "unknown"]))
def test_what_can_not_be_decompressed_is_kept_as_it_came(body: bytes, encoding: str) -> None:
    assert decoded(body, encoding) == body
    cut = gzip.compress(body)[:-1]
    assert decoded(cut, encoding) == cut


@pytest.mark.parametrize("behind", [gzip.compress(b"more"), b"trailing"])
def test_nothing_behind_a_compressed_body_is_lost(behind: bytes) -> None:
    body = gzip.compress(b"first") + behind
    assert decoded(body, "gzip") == body


def test_a_joke_is_stored_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "LARGEST_DECODED", 1_000)
    body = gzip.compress(b"0" * 1_001)
    assert decoded(body, "gzip") == body


def test_a_document_that_is_too_large_for_jsonb_is_kept_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"model": "m", "input": [0, 0, 0]}'
    monkeypatch.setattr(parse, "LARGEST_DOCUMENT", len(text) - 1)
    facts = parse_request("/v1/embeddings", text.encode())
    assert (facts.model, facts.body) == ("m", Body(text=text))


def test_what_is_too_large_to_be_read_is_kept_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "LARGEST_READ", 10)
    body = b'data: {"choices": []}\n\n'
    assert parse_response("completed", 200, "text/event-stream", body).body == Body(text=body.decode())
    assert parse_request("/v1/embeddings", b'{"model": "m"}').model is None


def test_no_model_is_looked_for_in_an_endless_path() -> None:
    assert parse_request("/models/" * 8_000 + "m:generateContent", None).model is None


def test_an_error_in_a_stream_of_responses() -> None:
    body = b'data: {"type":"error","code":"server_error","message":"boom","param":null}\n\n'
    facts = parse_response("completed", 200, "text/event-stream", body)
    assert (facts.outcome, facts.error) == ("error", "boom")
