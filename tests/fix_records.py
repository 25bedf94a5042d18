"""Records as the gateway spools them."""

import hashlib
import json
from typing import Any
from uuid import UUID

from litellm_sqlalchemy.ledger.spool import Kind, Record, Spool
from litellm_sqlalchemy.ledger.uuid7 import uuid7

RECEIVED_AT = 1_795_486_879_123_456  # Unix microseconds
REQUEST: dict[str, Any] = {
    "call_id": "call-1",
    "method": "POST",
    "path": "/v1/chat/completions",
    "query": None,
    "key_hash": hashlib.sha256(b"sk-1").hexdigest(),
    "client": "192.0.2.7",
    "headers": {"user-agent": "tests", "content-type": "application/json"},
    "size": 0,
    "complete": True,
}
RESPONSE: dict[str, Any] = {
    "call_id": "call-1",
    "status": 200,
    "outcome": "completed",
    "error": None,
    "headers": {"content-type": "application/json"},
    "size": 0,
    "time_to_first_byte_ms": 12.5,
    "duration_ms": 1500.25,
}


USAGE: dict[str, Any] = {
    "call_id": "call-1",
    "call_type": "acompletion",
    "key_alias": "anna's key",
    "team": "t1",
    "team_alias": "blue",
    "user_id": "u1",
    "end_user": "eva",
    "model": "gpt-4",
    "model_group": "gpt",
    "provider": "openai",
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "total_tokens": 7,
    "cost": 1.5e-05,
    "cache_hit": False,
}
KNOWN = {"request": REQUEST, "response": RESPONSE, "usage": USAGE}


def part(kind: Kind, exchange: UUID, body: bytes | None = None, **facts: Any) -> Record:
    """A request, a response or a usage.

    Args:
        kind: Which.
        exchange: The exchange's id.
        body: Its body.
        facts: What differs from the facts above.
    """
    known = KNOWN[kind]
    found = {**known, "size": len(body or b""), **facts}
    return Record(kind=kind, exchange=exchange, received_at=RECEIVED_AT, facts=json.dumps(found), body=body)


def pair(exchange: UUID, question: bytes = b"{}", answer: bytes = b"{}") -> list[Record]:
    """A whole exchange."""
    return [part("request", exchange, question), part("response", exchange, answer)]


def new_id() -> UUID:
    """An exchange of that moment."""
    return uuid7(RECEIVED_AT // 1000)


def rejected(spool: Spool) -> list[tuple[str, str]]:
    """What is set aside, and why."""
    return spool._connection.execute("SELECT kind, reason FROM rejected ORDER BY sequence").fetchall()
