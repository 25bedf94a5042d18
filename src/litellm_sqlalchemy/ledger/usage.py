"""What only LiteLLM knows of an exchange (cost of streams, whose key it is), taken from its success events.

These events are best effort: they wait in LiteLLM's memory and come after the answer, or never. So they add to an
exchange's records, and nothing depends on them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

from litellm_sqlalchemy.ledger.capture import Ledger
from litellm_sqlalchemy.ledger.head import redact
from litellm_sqlalchemy.ledger.identity import current

FLUSH_SECONDS = 3.0

log = logging.getLogger("litellm_sqlalchemy.ledger")


class UsageHook(CustomLogger):
    """Appends a record of kind `usage` for each success event of LiteLLM that belongs to an exchange.

    Args:
        ledger: Where to.
    """

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Take an event (LiteLLM's interface)."""
        identity = current.get()  # LiteLLM runs its callbacks in the context of the request that they are about
        payload = kwargs.get("standard_logging_object")
        if identity is None or not payload:
            return
        try:
            self._ledger.append_later(identity.record("usage", facts_of(payload), None))
        except Exception:
            log.exception("action=usage_not_recorded exchange=%s", identity.id)


def facts_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Read LiteLLM's standard logging object.

    Args:
        payload: The object (litellm.types.utils.StandardLoggingPayload).
    """
    metadata: Mapping[str, Any] = payload.get("metadata") or {}
    found = {
        "call_id": payload.get("litellm_call_id") or payload.get("id"),
        "call_type": payload.get("call_type"),
        "key_alias": metadata.get("user_api_key_alias"),
        "team": metadata.get("user_api_key_team_id"),
        "team_alias": metadata.get("user_api_key_team_alias"),
        "user_id": metadata.get("user_api_key_user_id"),
        "end_user": payload.get("end_user") or metadata.get("user_api_key_end_user_id"),
        "model": payload.get("model"),
        "model_group": payload.get("model_group"),
        "provider": payload.get("custom_llm_provider"),
        "prompt_tokens": payload.get("prompt_tokens"),
        "completion_tokens": payload.get("completion_tokens"),
        "total_tokens": payload.get("total_tokens"),
        "cost": payload.get("response_cost"),
        "cache_hit": payload.get("cache_hit"),
    }
    return {name: redact(value) if isinstance(value, str) else value for name, value in found.items()}


def register(ledger: Ledger) -> None:
    """Have LiteLLM tell a ledger of its success events.

    Args:
        ledger: The one around LiteLLM's proxy.
    """
    # Not to litellm.callbacks: those are asked before and during each request, too.
    litellm.logging_callback_manager.add_litellm_async_success_callback(UsageHook(ledger))


async def flush() -> None:
    """Let LiteLLM send the events that still wait."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(GLOBAL_LOGGING_WORKER.flush(), FLUSH_SECONDS)
