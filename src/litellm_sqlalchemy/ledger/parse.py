"""What the bytes of an exchange say: models, tokens, errors, streamed answers put together.

Pure functions over bytes that anybody may have sent: what is not understood is left out, nothing is raised.
The shapes are those of OpenAI (chat, completions, embeddings, responses), Anthropic (messages) and Google
(generateContent), which are what LiteLLM speaks to clients.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import orjson

from litellm_sqlalchemy.ledger import stream
from litellm_sqlalchemy.ledger.policy import NotRedactedError, Redactor

LONGEST_ERROR = 2_000  # characters
LARGEST_INTEGER = (1 << 63) - 1
# Bytes; beyond these a body is stored as it came, and not looked into: whoever sends it must not stop the drain.
LARGEST_DECODED = 64 << 20
LARGEST_READ = 32 << 20
LARGEST_DOCUMENT = 8 << 20  # of jsonb PostgreSQL makes many times that, and refuses at some point
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # zlib finds out which
LONGEST_PATH = 1_024  # characters of a path that a model is looked for in
PATH_MODEL = re.compile(r"/(?:deployments|engines|models)/([^:]+?)(?:/(?:chat/)?(?:completions|embeddings)|:\w+)$")
MULTIPART_MODEL = re.compile(rb'name="?model"?(?:;[^\r\n]*)?\r?\n(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{1,1024})')
FORM_MODEL = re.compile(rb"(?:^|&)(?:m|%6d)(?:o|%6f)(?:d|%64)(?:e|%65)(?:l|%6c)=([^&]{1,1024})", re.IGNORECASE)
STREAM_PATH = ":streamGenerateContent"
HUGE_EXPONENT = re.compile(r"[eE][+-]?[0-9]{4}")
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
NO_REDACTIONS = Redactor()
NOT_AUTHORIZED = frozenset({401, 403})
TIMED_OUT = frozenset({408, 504})
# Types of LiteLLM's own refusals that come with another status (litellm.proxy._types.ProxyErrorTypes).
REFUSALS = frozenset({"no_db_connection", "budget_exceeded", "expired_key", "auth_error", "token_not_found_in_db"})

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A body as the tables keep it.

    Attributes:
        document: JSON text that jsonb takes; None if there is none.
        text: The exact body, if it is UTF-8 without NUL, but for what redactions have replaced. Not the events of an
            answer in which, put together, they have replaced something, as there it may be in pieces: then it is None,
            or what jsonb does not take of the answer put together.
        other: The exact body, if it is anything else.
        redactions: How many pieces redactions have replaced.
    """

    document: str | None = None
    text: str | None = None
    other: bytes | None = None
    redactions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What a request's path and body say."""

    body: Body
    model: str | None = None
    models: tuple[str, ...] = ()  # all that it names: LiteLLM has its own order among them
    is_read: bool = True  # else it may name others
    stream: bool = False
    end_user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFacts:
    """What a response's status and body say."""

    body: Body
    outcome: str
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    error: str | None = None


def decoded(body: bytes | None, content_encoding: str) -> bytes | None:
    """Undo the encoding in which a body travelled: LiteLLM compresses answers for clients that accept it.

    Args:
        body: What came; None if it was not kept.
        content_encoding: The header, or "".

    Returns:
        The body as the other side reads it; as it came, if the encoding is not known or the body is cut off.
    """
    if not body or content_encoding.lower() not in {"gzip", "x-gzip", "deflate"}:
        return body
    decompressor = zlib.decompressobj(GZIP_OR_ZLIB)
    try:
        plain = decompressor.decompress(body, LARGEST_DECODED)
    except zlib.error:
        return body
    # Of several parts put together, or with something behind, nothing may be lost.
    return plain if decompressor.eof and not decompressor.unused_data else body


def parse_request(
    path: str, body: bytes | None, redact: Redactor = NO_REDACTIONS, *, content_type: str = ""
) -> RequestFacts:
    """Read a request.

    Args:
        path: The URL's path.
        body: What came; None if it was not kept.
        redact: What its text is not to have.
        content_type: The header, or "".

    Raises:
        NotRedactedError: The redactions take too long.
    """
    text = _text(body)
    text, replaced = redact(text) if redact and text else (text, 0)
    document, jsonb = _read(text)
    is_read = not body or document is not None
    form = _form_model(body, content_type) if body and not isinstance(document, dict) else None
    fields = document if isinstance(document, dict) else {}
    in_path = PATH_MODEL.search(path) if len(path) <= LONGEST_PATH else None
    metadata = fields.get("metadata")
    named = (storable_text(in_path[1]) if in_path else None, _string(fields.get("model")), form)
    models = tuple(model for model in named if model)
    return RequestFacts(
        body=_body(body, text, jsonb, replaced),
        model=models[0] if models else None,
        models=models,
        is_read=is_read or form is not None,
        stream=fields.get("stream") is True or path.endswith(STREAM_PATH),
        end_user=_string(fields.get("user"))
        or (_string(metadata.get("user_id")) if isinstance(metadata, dict) else None),
    )


def _form_model(body: bytes, content_type: str) -> str | None:
    """Find the model in a form, as audio and images come in, and as some clients send everything."""
    if "multipart/form-data" in content_type:
        found = MULTIPART_MODEL.search(body)
        return _string(found[1].decode(errors="replace")) if found else ""
    if "form" in content_type:
        found = FORM_MODEL.search(body)
        return _string(unquote_plus(found[1].decode("latin-1"))) if found else ""
    return None


def parse_response(
    outcome: str, status: int | None, content_type: str, body: bytes | None, redact: Redactor = NO_REDACTIONS
) -> ResponseFacts:
    """Read a response.

    Args:
        outcome: What the capture saw: whether the answer came to its end.
        status: HTTP status, if there was one.
        content_type: The header, or "".
        body: What was answered, decoded; None if it was not kept.
        redact: What its text is not to have.

    Raises:
        NotRedactedError: The redactions take too long.
    """
    text = _text(body)
    kept, replaced = redact(text) if redact and text else (text, 0)
    if content_type.startswith("text/event-stream"):
        events = list(stream.events(text)) if text and len(text) <= LARGEST_READ else []
        document = stream.assemble(events)
        jsonb = _rewrite(document)
        error_fields = next((event for event in events if _error_of(event)), None)
        if redact and len(events) > 1:
            whole, found = redact(_write(document))
            if found:
                document, jsonb = _read(whole)
                kept, replaced = whole if jsonb is None else None, found
    else:
        text = kept
        document, jsonb = _read(text)
        error_fields = document if (status or 0) >= 400 else None
    fields = document if isinstance(document, dict) else {}
    error = _error_of(error_fields)
    if error is None and (status or 0) >= 400:
        error = storable_text((text or "")[:LONGEST_ERROR]) or None
    if redact and error is not None:  # cut off, or of an event, it may match where the body did not
        error, _ = redact(error)
    if outcome == "completed":
        outcome = _outcome(status or 0, error, error_fields)
    prompt, completion, total = _tokens(fields)
    return ResponseFacts(
        body=_body(body, kept, jsonb, replaced),
        outcome=outcome,
        model=_string(fields.get("model")) or _string(fields.get("modelVersion")),
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        error=error,
    )


def _outcome(status: int, error: str | None, fields: Json) -> str:
    if status in TIMED_OUT:
        return "upstream_timeout"
    details = fields.get("error") if isinstance(fields, dict) else None
    # In Anthropic's words, newer releases of LiteLLM have their own type in a field of its own.
    kind = (details.get("litellm_error_type") or details.get("type")) if isinstance(details, dict) else None
    # LiteLLM hands a provider's own 401 on, in words that begin with its name: it refuses the gateway, not the client.
    by_gateway = not (error or "").startswith("litellm.")
    if by_gateway and (status in NOT_AUTHORIZED or (status >= 400 and isinstance(kind, str) and kind in REFUSALS)):
        return "refused"
    return "error" if status >= 400 or error is not None else "completed"


def _error_of(fields: Json) -> str | None:
    """Find the message in the shapes in which servers tell errors."""
    if not isinstance(fields, dict):
        return None
    error = fields.get("error") or fields.get("detail")
    if error is None and fields.get("type") == "error":  # within a stream of OpenAI's responses
        error = fields.get("message")
    response = fields.get("response")
    if error is None and fields.get("type") == "response.failed" and isinstance(response, dict):
        error = response.get("error")
    if isinstance(error, dict):
        error = error.get("message") or error.get("error") or error
    if isinstance(error, dict | list):
        error = _rewrite(error)
    return storable_text(error[:LONGEST_ERROR]) if isinstance(error, str) and error else None


def _tokens(fields: Mapping[str, Json]) -> tuple[int | None, int | None, int | None]:
    usage = fields.get("usage") or fields.get("usageMetadata")
    if not isinstance(usage, dict):
        return None, None, None

    def count(*names: str) -> int | None:
        for name in names:
            value = usage.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_INTEGER:
                return value
        return None

    prompt = count("prompt_tokens", "input_tokens", "promptTokenCount")
    completion = count("completion_tokens", "output_tokens", "candidatesTokenCount")
    total = count("total_tokens", "totalTokenCount")
    if total is None and prompt is not None and completion is not None and prompt + completion <= LARGEST_INTEGER:
        total = prompt + completion
    return prompt, completion, total


def _text(body: bytes | None) -> str | None:
    """Decode what PostgreSQL's text can hold exactly."""
    if not body or b"\0" in body:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _read(text: str | None) -> tuple[Json, str | None]:
    """Parse JSON as its specification has it (RFC 8259: no NaN), and say what jsonb takes of it.

    Returns:
        The document, and the text as it was written, for the digits of its numbers, unless something in it may not
        suit jsonb; None for what there is not.
    """
    if not text or len(text) > LARGEST_READ:
        return None, None
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:  # no JSON, or one of the texts below
        document = None
    tiny = ("e-" in text or "E-" in text) and HUGE_EXPONENT.search(text)
    if document is not None and not tiny and not ("\\" in text and "\\u0000" in text):
        return document, text
    document = _load_exactly(text)
    if document is None:
        return _load_leniently(text), None
    return document, _rewrite(document) if "\\u" in text or HUGE_EXPONENT.search(text) else text


def _load_exactly(text: str) -> Json:
    """Parse JSON with what a faster parser refuses: half surrogate pairs, numbers beyond a double's."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _load_leniently(text: str) -> Json:
    """Parse what LiteLLM parses as well, and what is no JSON: NaN and the infinities."""
    try:
        return json.loads(text) if "NaN" in text or "Infinity" in text else None
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _body(body: bytes | None, text: str | None, document: str | None, redactions: int) -> Body:
    if document is not None and len(document) > LARGEST_DOCUMENT:
        document = None
    other = body if body and text is None and not redactions else None
    return Body(document=document, text=text, other=other, redactions=redactions)


def _write(document: Json) -> str:
    """Write an answer that was put together of events, with all that jsonb does not take."""
    try:
        if document is not None:
            return json.dumps(document)
    except RecursionError:
        pass
    raise NotRedactedError("its events can't be put together, and what is to be replaced may be in pieces")


def _rewrite(document: Json) -> str | None:
    """Write JSON for jsonb, which holds neither NUL nor half a surrogate pair."""
    if document is None:
        return None
    try:
        written = json.dumps(document, ensure_ascii=False, allow_nan=False)
        written = written.encode("utf-16", "surrogatepass").decode("utf-16")  # joins pairs, refuses halves
    except (ValueError, RecursionError):
        return None
    return None if ESCAPED_NUL.search(written) else written


def storable_text(text: str) -> str:
    """Replace what PostgreSQL's text cannot hold: NUL and half surrogate pairs.

    Args:
        text: Any string, as JSON may have it.
    """
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _string(value: Json) -> str | None:
    return storable_text(value) if isinstance(value, str) and value else None
