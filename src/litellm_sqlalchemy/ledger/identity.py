"""Who an exchange is: what its records have in common."""

import json
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from litellm_sqlalchemy.ledger.spool import Kind, Record
from litellm_sqlalchemy.ledger.uuid7 import uuid7


@dataclass(frozen=True, slots=True)
class Identity:
    """What an exchange's records have in common.

    Attributes:
        id: UUIDv7.
        received_at: When its request arrived, in Unix microseconds.
    """

    id: UUID
    received_at: int

    @classmethod
    def new(cls) -> "Identity":
        """Make one of an exchange that begins now."""
        now = time.time_ns()
        return cls(uuid7(now // 1_000_000), now // 1_000)

    def record(self, kind: Kind, facts: dict[str, Any], body: bytes | None) -> Record:
        """Make a record.

        Args:
            kind: Which.
            facts: Everything but the body.
            body: The body; None if it is not kept.
        """
        try:
            text = orjson.dumps(facts).decode()
        except TypeError:  # half a surrogate pair, which LiteLLM may have read in somebody's JSON
            text = json.dumps(facts)
        return Record(kind=kind, exchange=self.id, received_at=self.received_at, facts=text, body=body)


current: ContextVar[Identity | None] = ContextVar("exchange", default=None)
"""The exchange that code runs for: asyncio hands it on to the tasks that a request's task makes."""
