"""One WebSocket session while it passes."""

import asyncio
import base64
import json
import time
from typing import Any

from litellm_sqlalchemy.ledger.asgi import Message, Receive, Scope, Send
from litellm_sqlalchemy.ledger.exchange import NOT_RECORDED, UNAVAILABLE, Exchange
from litellm_sqlalchemy.ledger.head import Rules
from litellm_sqlalchemy.ledger.identity import Identity
from litellm_sqlalchemy.ledger.journal import Facts, Journal
from litellm_sqlalchemy.ledger.recorder import Recorder
from litellm_sqlalchemy.ledger.spool import Record, SpoolError

LARGEST_PART = 16 << 20  # bytes: a session that is longer becomes several exchanges with the same call id
SWITCHING_PROTOCOLS = 101
NORMAL_CLOSURE = 1000
SERVICE_RESTART = 1012  # what uvicorn says when it stops
TRY_AGAIN_LATER = 1013
# What a server's close says of the session (RFC 6455, section 7.4.1); any other: it has come to its end.
OUTCOMES = {1008: "refused", 1011: "error", 1012: "interrupted"}


class WebSocketExchange(Exchange):
    """One session.

    Its request is what the client sent, its response what the server sent; each message is a line of JSON.

    Args:
        recorder: What stores it.
        rules: What is kept of it.
        scope: ASGI's, of the connection.
        receive: ASGI's.
        send: ASGI's.
    """

    def __init__(self, recorder: Recorder, rules: Rules, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(recorder, rules, scope, receive, send, method="WEBSOCKET")
        self._journal: Journal | None = None
        self._asked_size = 0
        self._answered_size = 0
        self._denial_start: Message | None = None  # until it is passed on
        self._denial: list[bytes] = []
        self._has_begun = False  # an answer, so that there can be no other one
        self._unrecorded: SpoolError | None = None
        self._left: int | None = None  # the code with which the client closed, or the server for want of a client

    async def receive(self) -> Message:
        """Pass a message on to the application, and copy it."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._left = self._left or message.get("code") or NORMAL_CLOSURE
        elif message["type"] == "websocket.receive" and not self.over:
            await self._keep(b"c", message)
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on to the client, and copy it; hold the last one back until the record is durable."""
        if self.over:
            return
        if message["type"] == "websocket.send":
            self._first_byte = self._first_byte or time.perf_counter()
            await self._keep(b"s", message)
            if not self.over:
                await self._pass_on(message)
        elif message["type"] == "websocket.accept":
            await self._accept(message)
        elif message["type"] == "websocket.close":
            await self._close(message)
        elif message["type"] == "websocket.http.response.start":
            # Held until there is a body, as an HTTP answer's: until then a refusal is still possible.
            self._denial_start = message
            self._status = message["status"]
            self._read_head(message)
        elif message["type"] == "websocket.http.response.body":
            await self._deny(message)
        else:
            await self._send(message)

    async def _accept(self, message: Message) -> None:
        self._read_head(message)
        try:
            self._journal = self._new_journal()
            await asyncio.to_thread(self._journal.sync)
        except OSError as error:
            if self._journal is not None:
                self._journal.remove()
                self._journal = None
            await self._cannot_keep(error)
        if not self.over:
            await self._send(message)
            self._has_begun, self._status = True, SWITCHING_PROTOCOLS

    def _new_journal(self) -> Journal:
        return Journal.create(
            self._recorder.journals,
            self._identity,
            self._request_facts(size=0, complete=False),
            {**self._response_facts("interrupted", None, size=0), "status": SWITCHING_PROTOCOLS},
            keep=self._keep_body,
        )

    async def _keep(self, side: bytes, message: Message) -> None:
        """Write a message to the journal."""
        try:
            if self._journal is not None and self._journal.size >= LARGEST_PART:
                full, self._journal = self._journal, None  # whatever follows, it is no longer this exchange's
                self._journal = self._begin_next_part(full)
            line = self._line(message)
            if side == b"c":
                self._asked_size += len(line) + 1
            else:
                self._answered_size += len(line) + 1
            if self._journal is not None and self._keep_body and self._unrecorded is None:
                self._journal.write(side, line)
        except OSError as error:
            await self._cannot_keep(error)

    def _line(self, message: Message) -> bytes:
        said: dict[str, Any] = {"at_ms": round(self._ms(time.perf_counter()), 3)}
        data = message.get("text") if message.get("bytes") is None else message["bytes"]
        if isinstance(data, bytes):  # LiteLLM 1.83 has bytes for text
            said["bytes"] = base64.b64encode(data).decode()
        else:
            said["text"] = data or ""
        return json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def _begin_next_part(self, full: Journal) -> Journal:
        full.end(*self._facts("completed", None))
        self._recorder.to_the_end(self._spool_part(full))
        self._identity, self._began = Identity.new(), time.perf_counter()
        self._first_byte, self._asked_size, self._answered_size = None, 0, 0
        return self._new_journal()

    async def _spool_part(self, journal: Journal) -> None:
        try:
            await self._recorder.spool(journal)
        except SpoolError:
            self._recorder.leave(journal)

    async def _cannot_keep(self, error: OSError) -> None:
        self._unrecorded = SpoolError(f"cannot write to {self._recorder.journals}: {error}")
        if self._recorder.serve_unrecorded:
            self._recorder.unrecorded(self._unrecorded)
        else:
            await self.refuse()

    async def _pass_on(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # so servers say that the client is gone
            self._left = self._left or 1006
            raise

    async def _close(self, message: Message) -> None:
        code = message.get("code", NORMAL_CLOSURE)
        if self._status is None:
            self._status, outcome, error = 403, "refused", None
        else:
            outcome = OUTCOMES.get(code, "completed")
            error = None if outcome == "completed" else f"{code} {message.get('reason') or ''}".strip()
        if self._left is not None:  # too late: the client was faster
            outcome, error = _leaving(self._left), None
        await self._finish(outcome, error, message)

    async def _deny(self, message: Message) -> None:
        body = message.get("body", b"")
        self._answered_size += len(body)
        self._denial.append(body)
        if message.get("more_body", False):
            await self._let_go(message)
        else:
            status = self._status or 0
            await self._finish("refused" if status < 500 else "error", None, message)

    async def _finish(self, outcome: str, error: str | None, last: Message) -> None:
        """Make the record durable, then let the last message go."""
        self.over = True
        try:
            await self._recorder.hold(self._settle(outcome, error))
        except SpoolError:
            await self.refuse()
        except asyncio.CancelledError:  # the record says that the client has it: so it gets it
            await self._let_go(last)
            raise
        else:
            await self._let_go(last)

    async def _let_go(self, message: Message) -> None:
        if self._denial_start is not None:
            start, self._denial_start = self._denial_start, None
            self._has_begun = True
            await self._send(start)
        await self._send(message)

    async def _settle(self, outcome: str, error: str | None) -> None:
        """Store the exchange, or do as the settings have it.

        Raises:
            SpoolError: It is not stored, and the last message must not go out.
        """
        try:
            await self._store(outcome, error)
        except SpoolError as problem:
            if not self._recorder.serve_unrecorded:
                raise
            self._recorder.unrecorded(problem)
            self._remember(outcome, error)
        self._count(outcome)

    async def break_off(self, outcome: str, error: str | None = None) -> None:
        """Record a session that did not come to its end by a message of the server.

        Args:
            outcome: What to record, unless the client has left.
            error: Name of the exception that the application raised.
        """
        if self.over:
            return
        self.over = True
        if self._left is not None:
            outcome, error = _leaving(self._left), None
        elif self._status is None:
            self._status, outcome = 500, "error"  # what the server answers if the application does not
        self._count(outcome)
        try:
            await self._store(outcome, error)
        except SpoolError:
            self._remember(outcome, error)

    async def _store(self, outcome: str, error: str | None) -> None:
        if self._journal is None:
            await self._recorder.append(*self._records(outcome, error))
        else:
            self._journal.end(*self._facts(outcome, error))
            await self._recorder.spool(self._journal)

    def _remember(self, outcome: str, error: str | None) -> None:
        """Let be stored later what could not be."""
        if self._journal is None:
            self._recorder.owe(*self._records(outcome, error))
        else:
            self._journal.end(*self._facts(outcome, error))
            self._recorder.leave(self._journal)

    def _records(self, outcome: str, error: str | None) -> tuple[Record, Record]:
        """Make the records of a session that has no journal: it was not accepted, or the disk did not take one."""
        is_kept = self._keep_body and self._status != SWITCHING_PROTOCOLS
        request, response = self._facts(outcome, error)
        return (
            self._identity.record("request", request, b"" if is_kept else None),
            self._identity.record("response", response, b"".join(self._denial) if is_kept else None),
        )

    def _facts(self, outcome: str, error: str | None) -> tuple[Facts, Facts]:
        complete = outcome != "interrupted" and self._unrecorded is None
        return (
            self._request_facts(size=self._asked_size, complete=complete),
            self._response_facts(outcome, error, size=self._answered_size),
        )

    async def refuse(self) -> None:
        """Refuse the handshake with 503.

        Raises:
            SpoolError: The session has begun, or another answer. It gets no end: the server closes the connection.
        """
        self.over = True
        if self._has_begun:
            self._remember("interrupted", NOT_RECORDED)
            raise SpoolError("a session that has begun cannot be recorded, so the client gets no end of it")
        headers = self._refusal()
        if "websocket.http.response" in (self.scope.get("extensions") or {}):
            await self._send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
            await self._send({"type": "websocket.http.response.body", "body": UNAVAILABLE})
        else:
            await self._send({"type": "websocket.close", "code": TRY_AGAIN_LATER})


def _leaving(code: int) -> str:
    """Say what a client's leaving means: to close normally is how most sessions come to their end."""
    return {NORMAL_CLOSURE: "completed", SERVICE_RESTART: "interrupted"}.get(code, "client_disconnected")
