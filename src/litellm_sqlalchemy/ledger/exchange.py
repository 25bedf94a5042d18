"""What every exchange has, over HTTP or WebSocket: an identity, and the facts of its two records."""

import json
import time
from typing import Any
from urllib.parse import parse_qs

from litellm_sqlalchemy.ledger.asgi import Headers, Message, Receive, Scope, Send
from litellm_sqlalchemy.ledger.head import CALL_ID, Rules, kept_headers, key_hash, redact, redact_query, with_call_id
from litellm_sqlalchemy.ledger.identity import Identity, current
from litellm_sqlalchemy.ledger.metrics import EXCHANGES, REFUSED
from litellm_sqlalchemy.ledger.recorder import Recorder

NOT_RECORDED = "the gateway could not record the exchange"
UNAVAILABLE = json.dumps(
    {
        "error": {
            "message": "The gateway cannot record exchanges at the moment, and answers none that it cannot record. "
            "Try again later; its operator finds the reason in the journal of litellm.service.",
            "type": "ledger_unavailable",
            "param": None,
            "code": "503",
        }
    }
).encode()


class Exchange:
    """One exchange while it passes.

    Args:
        recorder: What stores it.
        rules: What is kept of it.
        scope: ASGI's, of the connection.
        receive: ASGI's.
        send: ASGI's.
        method: HTTP's, or WEBSOCKET.
    """

    def __init__(
        self, recorder: Recorder, rules: Rules, scope: Scope, receive: Receive, send: Send, *, method: str
    ) -> None:
        self._began = time.perf_counter()
        self._identity = Identity.new()
        current.set(self._identity)
        self._recorder = recorder
        self._rules = rules
        self._receive = receive
        self._send = send
        self._method = method
        self._keep_body: bool = rules.is_full(scope["path"])
        self.scope, self._call_id = with_call_id(scope, str(self._identity.id))
        self._query: str = scope.get("query_string", b"").decode("latin-1")
        self._key_hash = key_hash(scope["headers"], self._query)

        self._status: int | None = None
        self._response_headers: Headers = ()
        self._first_byte: float | None = None
        self._ended: float | None = None  # before anything is waited for that is the ledger's
        self.over = False
        """Whether its outcome is settled."""

    def _read_head(self, message: Message) -> dict[bytes, bytes]:
        """Read the headers of an answer, and see to it that it has a call id.

        Returns:
            The headers, names in lower case.
        """
        headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers") or ()]
        found = dict(headers)
        if CALL_ID in found:
            self._call_id = found[CALL_ID].decode("latin-1")
        else:
            headers.append((CALL_ID, self._call_id.encode("latin-1")))
            message["headers"] = headers
        self._response_headers = headers
        return found

    def _refusal(self) -> list[tuple[bytes, bytes]]:
        """Count a refusal; gives the headers of the answer that says so (`UNAVAILABLE`)."""
        self._status = 503
        self._recorder.metrics.add(REFUSED)
        self._response_headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(UNAVAILABLE)).encode()),
            (b"retry-after", b"10"),
            (CALL_ID, self._call_id.encode("latin-1")),
        ]
        return list(self._response_headers)

    def _count(self, outcome: str) -> None:
        """Count the exchange, as the drain will see it by the status."""
        if outcome == "completed" and (self._status or 0) >= 400:
            outcome = {401: "refused", 403: "refused", 408: "upstream_timeout", 504: "upstream_timeout"}.get(
                self._status or 0, "error"
            )
        self._recorder.metrics.add(EXCHANGES, label=outcome)

    def _request_facts(self, *, size: int, complete: bool) -> dict[str, Any]:
        facts = {
            "call_id": redact(self._call_id),
            "worker": self._recorder.worker,
            "scheme": self.scope["type"],
            "method": self._method,
            "path": redact(self.scope["path"]),
            "query": redact_query(self._query) or None,
            "key_hash": self._key_hash,
            "client": (self.scope.get("client") or [None])[0],
            "headers": kept_headers(self.scope["headers"], self._rules.is_recorded_request_header),
            "size": size,
            "complete": complete,
        }
        # LiteLLM looks for the model there, too; for that of a WebSocket nowhere else.
        if self._query and (model := parse_qs(self._query).get("model")):
            facts["model"] = redact(model[0])
        return facts

    def _response_facts(self, outcome: str, error: str | None, *, size: int) -> dict[str, Any]:
        return {
            "call_id": redact(self._call_id),
            "key_hash": self._key_hash,
            "status": self._status,
            "outcome": outcome,
            "error": error,
            "headers": kept_headers(self._response_headers, self._rules.is_recorded_response_header),
            "size": size,
            "time_to_first_byte_ms": self._first_byte and self._ms(self._first_byte),
            "duration_ms": self._ms(self._ended or time.perf_counter()),
        }

    def _ms(self, moment: float) -> float:
        return (moment - self._began) * 1e3
