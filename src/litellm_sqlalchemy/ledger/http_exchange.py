"""One HTTP exchange while it passes."""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable
from typing import NamedTuple

from litellm_sqlalchemy.ledger.asgi import Message, Receive, Scope, Send
from litellm_sqlalchemy.ledger.exchange import NOT_RECORDED, UNAVAILABLE, Exchange
from litellm_sqlalchemy.ledger.head import Rules
from litellm_sqlalchemy.ledger.recorder import Recorder
from litellm_sqlalchemy.ledger.spool import Record, SpoolError

# Clients stop reading a stream at these, not at the end of the HTTP response: so they are an answer's last bytes.
# A stream's data has no bare newline within, and a text in it no bare quote, so none of them can be a part of
# somebody's text. LiteLLM sends OpenAI's responses without a line `event:`.
STREAM_END = re.compile(
    rb"\n(?:data: ?\[DONE\]|event: ?message_stop|event: ?response\.(?:completed|failed|incomplete))"
    rb'|"type": ?"response\.(?:completed|failed|incomplete)"'
)
LONGEST_STREAM_END = 32
MOST_UNREAD_MESSAGES = 16  # of at most 64 KiB, of a body that the application did not read
UNREAD_SECONDS = 1.0  # for which an answer's end waits for them: a body often comes a moment after its head


class _Sent(NamedTuple):
    """An exchange's records that are on their way to the disk."""

    request: asyncio.Future[None] | None  # if it went before
    last: asyncio.Future[None]


def _without_waiting(receiving: Awaitable[Message]) -> Message | None:
    """Take what a `receive` has at once; None if it would wait."""
    steps = receiving.__await__()
    try:
        next(steps)
    except StopIteration as done:
        message: Message = done.value
        return message
    steps.close()
    return None


class HttpExchange(Exchange):
    """One request and its response.

    Args:
        recorder: What stores them.
        rules: What is kept of them.
        scope: ASGI's, of the connection.
        receive: ASGI's.
        send: ASGI's.
    """

    def __init__(self, recorder: Recorder, rules: Rules, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(recorder, rules, scope, receive, send, method=scope["method"])
        self._request_body: list[bytes] = []
        self._request_size = 0
        self._request_complete = False
        self._request_stored: asyncio.Future[None] | None = None
        self._disconnected = False

        self._start: Message | None = None  # the response's start, until it is passed on
        self._content_length: int | None = None
        self._response_body: list[bytes] = []
        self._response_size = 0
        self._tail = b"\n"  # what comes first begins a line
        self._held: list[Message] = []  # the answer's last messages, until the record is durable

    async def receive(self) -> Message:
        """Pass the request on to the application, and copy it."""
        message = await self._receive()
        self._copy_request(message)
        return message

    def _copy_request(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._disconnected = True
        elif message["type"] == "http.request" and not self._request_complete:
            chunk = message.get("body", b"")
            self._request_size += len(chunk)
            if self._keep_body and chunk:
                self._request_body.append(chunk)
            if not message.get("more_body", False):
                self._request_complete = True
                # On disk while the model works; nobody waits for it before the answer's end.
                self._request_stored = self._recorder.append(self._request_record(), lazily=True)

    async def send(self, message: Message) -> None:
        """Pass the response on to the client, and copy it; hold its last bytes back until the record is durable."""
        if self.over:
            return
        if message["type"] == "http.response.start":
            # Held until there is a body: until then a refusal is still possible, and an empty body has no last byte.
            self._start = message
            self._status = message["status"]
            length = self._read_head(message).get(b"content-length", b"")
            self._content_length = int(length) if length.isdigit() else None
        elif message["type"] == "http.response.body":
            await self._send_body(message)
        else:
            await self._send(message)

    async def _send_body(self, message: Message) -> None:
        chunk = message.get("body", b"")
        if chunk:
            self._first_byte = self._first_byte or time.perf_counter()
            self._response_size += len(chunk)
            if self._keep_body:
                self._response_body.append(chunk)
        if not message.get("more_body", False):
            self._held.append(message)
            await self._finish()
        elif self._request_complete and self._has_content_length():
            # Middlewares say only later that there is no more, and LiteLLM's work after the answer comes before that.
            self._held.append({**message, "more_body": False})
            await self._finish()
        elif self._held or self._is_end(chunk):
            self._held.append(message)
        elif self._is_refused():
            await self.refuse()
        else:
            await self._pass_on(message)

    def _has_content_length(self) -> bool:
        """Say whether the answer is as long as its head said; not for a head that said nothing."""
        return self._content_length is not None and self._response_size >= self._content_length

    def _is_end(self, chunk: bytes) -> bool:
        if self._content_length is not None:
            return self._has_content_length()
        window = self._tail + chunk
        self._tail = window[-LONGEST_STREAM_END:]
        return STREAM_END.search(window) is not None

    def _is_refused(self) -> bool:
        """Say whether the request could not be recorded, so that its answer is not to go on."""
        stored = self._request_stored
        return not self._recorder.serve_unrecorded and stored is not None and stored.done() and bool(stored.exception())

    async def _pass_on(self, message: Message) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            await self._send(start)
        await self._send(message)

    async def _finish(self) -> None:
        """Make the record durable, then let the last bytes go."""
        self._ended = time.perf_counter()
        await self._look_for_disconnect()
        self.over = True  # from here on the outcome is settled, even if the client leaves while it is written
        outcome = "client_disconnected" if self._disconnected else "completed"
        # Sent before anything is awaited: LiteLLM's own work after an answer would be done first, and the disk idle.
        sent = self._send_records(outcome)
        try:
            await self._recorder.hold(self._settle(sent, outcome), *filter(None, sent))
        except SpoolError:
            await self.refuse()
        except asyncio.CancelledError:  # the record says that the client has the answer: so it gets it
            await self._let_go()
            raise
        else:
            await self._let_go()

    async def _let_go(self) -> None:
        for message in self._held:
            await self._pass_on(message)

    async def _settle(self, sent: _Sent, outcome: str) -> None:
        """Wait until the exchange is stored, or do as the settings have it.

        Raises:
            SpoolError: It is not stored, and the answer must not go out.
        """
        try:
            await self._stored(sent, outcome)
        except SpoolError as error:
            if not self._recorder.serve_unrecorded:
                raise
            self._recorder.unrecorded(error)
            self._recorder.owe(*self._missing_records(outcome))
        self._count(outcome)

    async def break_off(self, outcome: str, error: str | None = None) -> None:
        """Record an exchange whose answer did not come to its end.

        Args:
            outcome: What to record, unless the client has left: then it is that.
            error: Name of the exception that the application raised.
        """
        if self.over:
            return
        self.over, self._ended = True, time.perf_counter()
        await self._look_for_disconnect()
        if error is not None and (self._status is None or self._start is not None):
            self._status = 500  # what the server answers when nothing was sent before the exception
        if self._disconnected:
            outcome = "client_disconnected"
        self._count(outcome)
        try:
            await self._stored(self._send_records(outcome, error), outcome, error)
        except SpoolError:
            self._recorder.owe(*self._missing_records(outcome, error))

    async def _look_for_disconnect(self) -> None:
        """Read what is on its way from the client: the rest of the body, or what says that it has left."""
        if not self._request_complete and not self._disconnected:
            await self._read_rest()
        if self._request_complete and not self._disconnected:
            message = _without_waiting(self._receive())
            if message is not None:
                self._copy_request(message)

    async def _read_rest(self) -> None:
        """Read of the body what the application did not, as far as it comes soon."""
        if self._request_size == 0 and self._waits_for_continue():
            return  # to read would be to ask for a body that the application did not want
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNREAD_SECONDS):
                for _ in range(MOST_UNREAD_MESSAGES):
                    self._copy_request(await self._receive())
                    if self._request_complete or self._disconnected:
                        return

    def _waits_for_continue(self) -> bool:
        return any(name == b"expect" and value.lower() == b"100-continue" for name, value in self.scope["headers"])

    def _send_records(self, outcome: str, error: str | None = None) -> _Sent:
        """Send what is not stored on its way to the disk."""
        request = self._request_stored
        if request is not None and not request.done():  # it is on its way, and is stored with what follows
            return _Sent(request, self._recorder.append(self._response_record(outcome, error)))
        return _Sent(None, self._recorder.append(*self._missing_records(outcome, error)))

    async def _stored(self, sent: _Sent, outcome: str, error: str | None = None) -> None:
        """Wait until all of it is stored.

        Raises:
            SpoolError: It is not.
        """
        if sent.request is None:
            await sent.last
            return
        try:
            await sent.last
        finally:
            if not sent.request.done():
                await asyncio.wait([sent.request])
        if sent.request.exception() is not None:
            await self._recorder.append(*self._missing_records(outcome, error))

    def _missing_records(self, outcome: str, error: str | None = None) -> tuple[Record, ...]:
        """Make the response's record, and the request's if that is not stored yet, or could not be."""
        response = self._response_record(outcome, error)
        stored = self._request_stored
        return (response,) if stored and not stored.exception() else (self._request_record(), response)

    def _response_record(self, outcome: str, error: str | None) -> Record:
        body = b"".join(self._response_body) if self._keep_body else None
        return self._identity.record("response", self._response_facts(outcome, error, size=self._response_size), body)

    def _request_record(self) -> Record:
        facts = self._request_facts(size=self._request_size, complete=self._request_complete)
        return self._identity.record("request", facts, b"".join(self._request_body) if self._keep_body else None)

    async def refuse(self) -> None:
        """Answer 503.

        Raises:
            SpoolError: The answer has begun. It gets no end: the server closes the connection.
        """
        self.over = True
        if self._status is not None and self._start is None:
            self._recorder.owe(*self._missing_records("interrupted", NOT_RECORDED))
            raise SpoolError("an answer that has begun cannot be recorded, so the client gets no end of it")
        headers = self._refusal()
        self._response_size = len(UNAVAILABLE)
        if self._request_stored is not None:  # of those that are refused at once there may be too many to remember
            self._recorder.owe(*self._missing_records("refused", NOT_RECORDED))
        await self._send({"type": "http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "http.response.body", "body": UNAVAILABLE})
