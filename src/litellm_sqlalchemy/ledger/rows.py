"""Records of the spool made into rows of the tables.

A row has a value for each column but what a table's defaults give: moments are Unix microseconds, ids bytes, jsonb is
JSON text.
"""

import decimal
import functools
import hashlib
import ipaddress
import json
from collections.abc import Sequence
from typing import Any

import orjson

from litellm_sqlalchemy.ledger.parse import (
    Json,
    RequestFacts,
    ResponseFacts,
    decoded,
    parse_request,
    parse_response,
    storable_text,
)
from litellm_sqlalchemy.ledger.policy import Capture, NotRedactedError, Policy, Redactor, strictest
from litellm_sqlalchemy.ledger.spool import OpenExchange, SpooledRecord

Facts = dict[str, Any]
Row = dict[str, Any]

LONGEST_END_USER = 256  # characters
USAGE_TEXTS = (
    *("call_type", "key_alias", "team", "team_alias", "user_id", "end_user", "model", "model_group", "provider"),
)
USAGE_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


class RowMaker:
    """Makes rows.

    Args:
        policies: What is stored of which exchange; without any, everything.
        redactor: What texts are not to have.
    """

    def __init__(self, policies: Sequence[Policy] = (), redactor: Redactor | None = None) -> None:
        self._redact = redactor or Redactor()
        self._policies = tuple(policies)

    def request(self, record: SpooledRecord) -> tuple[Row | None, OpenExchange, str | None]:
        """Make a row of `requests`, and decide what of the exchange is stored.

        Args:
            record: As this release spooled it or the one before.

        Returns:
            The row, None if the policies let none in; the exchange, which is open until its response comes; and why
            the body is left out although the policies let it in.
        """
        facts = _facts(record)
        headers = facts["headers"]
        content_type = headers.get("content-type", "")
        parsed = parse_request(facts["path"], record.body, content_type=content_type)
        asked = facts.get("model")  # of the query
        is_read = parsed.is_read or facts.get("scheme") == "websocket"  # whose messages do not name it
        capture = self._capture((*parsed.models, *filter(None, [asked])), facts["key_hash"], is_read=is_read)
        opened = OpenExchange(
            id=record.id,
            received_at=record.received_at,
            worker=facts.get("worker"),
            capture=capture,
            facts=orjson.dumps({"call_id": facts["call_id"]}).decode(),
        )
        if capture == "none":
            return None, opened, None
        problem = None
        if self._redact and capture == "full":
            try:
                parsed = parse_request(facts["path"], record.body, self._redact, content_type=content_type)
            except NotRedactedError as error:
                capture, problem = "metadata", str(error)
        end_user = headers.get("x-litellm-end-user-id") or headers.get("x-litellm-customer-id") or parsed.end_user
        query, replaced = self._short(facts["query"])
        row: Row = {
            **self._common(record, facts),
            **_body(record, capture, parsed),
            "method": facts["method"],
            "path": facts["path"],
            "query": query,
            "model": asked or parsed.model,
            "stream": parsed.stream,
            "key_hash": facts["key_hash"],
            "end_user": self._end_user(end_user),
            "client_address": _address(facts["client"]),
            "user_agent": self._short(headers.get("user-agent"))[0],
            "body_complete": facts["complete"],
        }
        row["redactions"] += replaced
        return row, opened, problem

    def response(self, record: SpooledRecord, capture: Capture) -> tuple[Row, str | None]:
        """Make a row of `responses`.

        Args:
            record: As this release spooled it or the one before.
            capture: What the policies let in of the exchange: full or metadata.

        Returns:
            The row; and why the body is left out although the policies let it in.
        """
        facts = _facts(record)
        headers = facts["headers"]
        body = decoded(record.body, headers.get("content-encoding", ""))
        shown = (facts["outcome"], facts["status"], headers.get("content-type", ""), body)
        problem = None
        try:
            parsed = parse_response(*shown, self._redact if capture == "full" else Redactor())
        except NotRedactedError as error:
            capture, problem = "metadata", str(error)
            parsed = parse_response(*shown)
        row = {
            **self._common(record, facts),
            **_body(record, capture, parsed),
            "finished_at": record.received_at + round(facts["duration_ms"] * 1e3),
            "outcome": parsed.outcome,
            "status": facts["status"],
            "model": parsed.model,
            "provider": _provider(headers.get("x-litellm-model-name", "")),
            "prompt_tokens": parsed.prompt_tokens,
            "completion_tokens": parsed.completion_tokens,
            "total_tokens": parsed.total_tokens,
            "cost": _cost(headers.get("x-litellm-response-cost")),
            "cache_hit": "x-litellm-cache-key" in headers,
            "time_to_first_byte_ms": facts["time_to_first_byte_ms"],
            "duration_ms": facts["duration_ms"],
            "error": (parsed.error if capture == "full" else None) or facts["error"],
        }
        return row, problem

    def usage(self, record: SpooledRecord) -> Row:
        """Make a row of `usages`.

        Args:
            record: As the gateway's hook spooled it.
        """
        facts = _facts(record)
        cost = facts.get("cost")
        row: Row = {
            "received_at": record.received_at,
            "id": record.id,
            "call_id": facts["call_id"],
            **{name: facts.get(name) for name in (*USAGE_TEXTS, *USAGE_COUNTS, "cache_hit")},
            "cost": None if cost is None else _cost(str(cost)),
        }
        row["end_user"] = self._end_user(row["end_user"])
        return row

    def _common(self, record: SpooledRecord, facts: Facts) -> Row:
        headers = facts["headers"]
        if self._redact:
            headers = {name: self._short(value)[0] for name, value in headers.items()}
        return {
            "received_at": record.received_at,
            "id": record.id,
            "call_id": facts["call_id"],
            "headers": orjson.dumps(headers).decode(),
            "content_type": headers.get("content-type"),
            "body_size": facts["size"],
            "body_sha256": None if record.body is None else hashlib.sha256(record.body).digest(),
        }

    def _capture(self, models: tuple[str, ...], key_hash: str | None, *, is_read: bool) -> Capture:
        if not self._policies:
            return "full"
        return strictest(self._policies, models, key_hash, may_be_any=not is_read)

    def _end_user(self, name: str | None) -> str | None:
        """Redact an end user's name, and cut it to what an index takes."""
        found, _ = self._short(name)
        return found and found[:LONGEST_END_USER]

    def _short(self, text: str | None) -> tuple[str | None, int]:
        """Redact one of the texts beside the body; what cannot be redacted is left out."""
        if not text or not self._redact:
            return text, 0
        try:
            return self._redact(text)
        except NotRedactedError:
            return None, 0


def interrupted(opened: OpenExchange) -> Row:
    """Make the row of `responses` of an exchange whose worker died before it could record its end.

    Args:
        opened: The exchange.
    """
    return {
        "received_at": opened.received_at,
        "id": opened.id,
        "call_id": orjson.loads(opened.facts)["call_id"],
        "outcome": "interrupted",
        "cache_hit": False,
        "headers": "{}",
        "body_size": 0,
        "capture": opened.capture,
        "redactions": 0,
    }


def _facts(record: SpooledRecord) -> Facts:
    facts = _storable(json.loads(record.facts)) if "\\u" in record.facts else orjson.loads(record.facts)
    if not isinstance(facts, dict):
        raise TypeError(f"facts of a record must be a JSON object, not {record.facts[:20]!r}")
    return facts


def _storable(value: Json) -> Json:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(name): _storable(inner) for name, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list) else value


def _body(record: SpooledRecord, capture: Capture, parsed: RequestFacts | ResponseFacts) -> Row:
    if capture != "full" or record.body is None:
        return {"capture": "metadata", "redactions": 0, "body": None, "body_text": None, "body_bytes": None}
    body = parsed.body
    return {
        "capture": "full",
        "redactions": body.redactions,
        "body": body.document,
        "body_text": body.text,
        "body_bytes": body.other,
    }


@functools.lru_cache(maxsize=4096)
def _address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address((text or "").partition("%")[0])
    except ValueError:  # a Unix socket, or a proxy that reports a name
        return None


def _cost(text: str | None) -> decimal.Decimal | None:
    if text is None:
        return None
    try:
        cost = decimal.Decimal(text)
    except decimal.InvalidOperation:  # LiteLLM writes None where it knows no price
        return None
    return cost if cost.is_finite() and -30 < cost.adjusted() < 30 else None


def _provider(model: str) -> str | None:
    provider, slash, _ = model.partition("/")
    return provider if slash else None
