"""The ASGI wrapper that copies every exchange into the spool.

The bytes pass through as they come. Only one thing waits: the last bytes of an answer are held back until the
record of the exchange is durable, so nobody has an answer that the ledger has not. The request's record is written
while the model works. Nothing is parsed here: that is the drain's work.
"""

import asyncio
import fnmatch
import functools
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from litellm_sqlalchemy.ledger.spool import Kind, Record, SpoolError
from litellm_sqlalchemy.ledger.uuid7 import uuid7
from litellm_sqlalchemy.ledger.writer import SpoolWriter
from litellm_sqlalchemy.settings import NEEDED_REQUEST_HEADERS, NEEDED_RESPONSE_HEADERS, CaptureSettings

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

CALL_ID = b"x-litellm-call-id"
LONGEST_CALL_ID = 256  # LiteLLM replaces a longer one (litellm.constants.MAX_LITELLM_CALL_ID_LENGTH)
# Where LiteLLM looks for the key, in its order (litellm.proxy.auth.user_api_key_auth.get_api_key).
KEY_HEADERS = (
    *(b"x-litellm-api-key", b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key"),
    b"ocp-apim-subscription-key",
)
# Clients stop reading a stream at these, not at the end of the HTTP response: so they are an answer's last bytes.
# A stream's data has no bare newline within, and a text in it no bare quote, so none of them can be a part of
# somebody's text. LiteLLM sends OpenAI's responses without a line `event:`.
STREAM_END = re.compile(
    rb"\n(?:data: ?\[DONE\]|event: ?message_stop|event: ?response\.(?:completed|failed|incomplete))"
    rb'|"type": ?"response\.(?:completed|failed|incomplete)"'
)
LONGEST_STREAM_END = 32
# Where it is hidden in another one: LangChain's way to Bedrock (get_bearer_token there).
AWS_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256.*?Credential=(?:Bearer\s+)?([^/\s,]+)")
LAST_RECORDS_SECONDS = 5  # at shutdown
MOST_UNREAD_MESSAGES = 16  # of at most 64 KiB, of a body that the application did not read
SECRET_NAME = re.compile(r"key|token|secret|passw|code|auth|sig|credential|session|state", re.IGNORECASE)
SECRET_VALUE = re.compile(r"\bsk-[\w-]+")  # as every key of LiteLLM begins
REDACTED = "REDACTED"
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


class Ledger:
    """ASGI application that records what passes to and from another one.

    Args:
        app: The application to wrap.
        settings: Where the spool is, and what is recorded of which path.
    """

    def __init__(self, app: App, settings: CaptureSettings) -> None:
        self._app = app
        self._settings = settings
        self._writer: SpoolWriter | None = None
        self._open: set[asyncio.Task[Any]] = set()
        self.is_recorded_request_header = _matcher(map(str.lower, (*NEEDED_REQUEST_HEADERS, *settings.request_headers)))
        self.is_recorded_response_header = _matcher(
            map(str.lower, (*NEEDED_RESPONSE_HEADERS, *settings.response_headers))
        )
        self.is_ignored = _matcher(settings.ignored_paths)
        self._is_full = _matcher(settings.full_paths)
        self._is_metadata = _matcher(settings.metadata_paths)

    def is_full(self, path: str) -> bool:
        """Say whether a path's bodies are recorded.

        Args:
            path: The URL's path.
        """
        return self._is_full(path) and not self._is_metadata(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http" and not self.is_ignored(scope["path"]):
            await self._record(scope, receive, send)
        else:  # WebSockets are not recorded yet
            await self._app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the spool before the application starts, close it after the application has stopped."""
        try:
            self._writer = SpoolWriter(self._settings.spool_path, self._settings.spool_max_bytes)
        except SpoolError as error:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return

        async def send_when_closed(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):  # after this message the process may end at once
                await self._close()
            await send(message)

        try:
            await self._app(scope, receive, send_when_closed)
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._open:  # what the server has cancelled says so in its record
            await asyncio.wait(self._open, timeout=LAST_RECORDS_SECONDS)
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def to_the_end(self, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Let work come to its end although who waits for it is cancelled; the shutdown waits for it as well.

        Args:
            work: For example the storing of a record.
        """
        task = asyncio.ensure_future(work)
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return asyncio.shield(task)

    async def _record(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._writer is None:
            raise RuntimeError("the ledger needs the server's lifespan events: run uvicorn with --lifespan on")
        if (task := asyncio.current_task()) is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        exchange = _Exchange(self, self._writer, scope, receive, send, keep_body=self.is_full(scope["path"]))
        if self._writer.failed:
            # The last write failed. Find out before the model is asked for an answer that nobody will get.
            try:
                await self._writer.append()
            except SpoolError:
                await exchange.refuse()
                return
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            await self.to_the_end(exchange.break_off("interrupted"))
            raise
        except Exception as error:
            await exchange.break_off("error", type(error).__name__)
            raise
        await exchange.break_off("interrupted")


class _Exchange:
    """One request and its response, while they pass."""

    def __init__(
        self,
        ledger: Ledger,
        writer: SpoolWriter,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        keep_body: bool,
    ) -> None:
        now = time.time_ns()
        self._began = time.perf_counter()
        self._received_at = now // 1_000
        self._id = uuid7(now // 1_000_000)
        self._ledger = ledger
        self._writer = writer
        self._receive = receive
        self._send = send
        self._keep_body = keep_body
        self.scope, self._call_id = _with_call_id(scope, str(self._id))

        self._request_body: list[bytes] = []
        self._request_size = 0
        self._request_complete = False
        self._request_stored: asyncio.Future[None] | None = None
        self._disconnected = False

        self._start: Message | None = None  # the response's start, until it is passed on
        self._status: int | None = None
        self._response_headers: Headers = ()
        self._content_length: int | None = None
        self._response_body: list[bytes] = []
        self._response_size = 0
        self._first_byte: float | None = None
        self._tail = b""
        self._held: list[Message] = []  # the answer's last messages, until the record is durable
        self._over = False

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
                self._store_request()

    def _store_request(self) -> None:
        self._request_stored = self._writer.append(self._record("request", self._request_facts(), self._request_body))

    async def send(self, message: Message) -> None:
        """Pass the response on to the client, and copy it; hold its last bytes back until the record is durable."""
        if self._over:
            return
        if message["type"] == "http.response.start":
            # Held until there is a body: until then a refusal is still possible, and an empty body has no last byte.
            self._start = message
            self._read_start(message)
        elif message["type"] == "http.response.body":
            await self._send_body(message)
        else:
            await self._send(message)

    def _read_start(self, message: Message) -> None:
        self._status = message["status"]
        headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
        found = dict(headers)
        if CALL_ID in found:
            self._call_id = found[CALL_ID].decode("latin-1")
        else:
            headers.append((CALL_ID, self._call_id.encode("latin-1")))
            message["headers"] = headers
        length = found.get(b"content-length", b"")
        self._content_length = int(length) if length.isdigit() else None
        self._response_headers = headers

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
        elif self._held or self._is_end(chunk):
            self._held.append(message)
        elif self._request_stored and self._request_stored.done() and self._request_stored.exception():
            await self.refuse()
        else:
            await self._pass_on(message)

    def _is_end(self, chunk: bytes) -> bool:
        if self._content_length is not None:
            return self._response_size >= self._content_length
        window = self._tail + chunk
        self._tail = window[-LONGEST_STREAM_END:]
        return STREAM_END.search(window) is not None

    async def _pass_on(self, message: Message) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            await self._send(start)
        await self._send(message)

    async def _finish(self) -> None:
        """Make the record durable, then let the last bytes go."""
        await self._look_for_disconnect()
        self._over = True  # from here on the outcome is settled, even if the client leaves while it is written
        try:
            await self._ledger.to_the_end(self._store("client_disconnected" if self._disconnected else "completed"))
        except SpoolError:
            await self.refuse()
            return
        for message in self._held:
            await self._pass_on(message)

    async def break_off(self, outcome: str, error: str | None = None) -> None:
        """Record an exchange whose answer did not come to its end.

        Args:
            outcome: What to record, unless the client has left: then it is that.
            error: Name of the exception that the application raised.
        """
        if self._over:
            return
        self._over = True
        await self._look_for_disconnect()
        if error is not None and (self._status is None or self._start is not None):
            self._status = 500  # what the server answers when nothing was sent before the exception
        if self._disconnected:
            outcome = "client_disconnected"
        try:
            await self._store(outcome, error)
        except SpoolError:
            return  # the client has no end of an answer, and gets none

    async def _look_for_disconnect(self) -> None:
        """Read what has already arrived from the client, without waiting: the rest of the body, or its leaving."""
        if self._request_size == 0 and not self._request_complete and self._waits_for_continue():
            return  # to read would be to ask for a body that the application did not want
        for _ in range(MOST_UNREAD_MESSAGES):
            if self._disconnected:
                return
            complete = self._request_complete
            waiting = asyncio.ensure_future(self._receive())
            await asyncio.sleep(0)
            if not waiting.done():
                waiting.cancel()
                return
            self._copy_request(waiting.result())
            if complete:
                return

    def _waits_for_continue(self) -> bool:
        return any(name == b"expect" and value.lower() == b"100-continue" for name, value in self.scope["headers"])

    async def _store(self, outcome: str, error: str | None = None) -> None:
        """Store the response, and the request if its record is not stored yet, or could not be."""
        response = self._record("response", self._response_facts(outcome, error), self._response_body)
        if self._request_stored is not None:
            await asyncio.wait([self._request_stored])
        if self._request_stored is None or self._request_stored.exception() is not None:
            request = self._record("request", self._request_facts(), self._request_body)
            await self._writer.append(request, response)
        else:
            await self._writer.append(response)

    async def refuse(self) -> None:
        """Answer 503.

        Raises:
            SpoolError: The answer has begun. It gets no end: the server closes the connection.
        """
        self._over = True
        if self._status is not None and self._start is None:
            raise SpoolError("an answer that has begun cannot be recorded, so the client gets no end of it")
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(UNAVAILABLE)).encode()),
            (b"retry-after", b"10"),
            (CALL_ID, self._call_id.encode("latin-1")),
        ]
        await self._send({"type": "http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "http.response.body", "body": UNAVAILABLE})

    def _record(self, kind: Kind, facts: dict[str, Any], body: list[bytes]) -> Record:
        return Record(
            kind=kind,
            exchange=self._id,
            received_at=self._received_at,
            facts=json.dumps(facts),
            body=b"".join(body) if self._keep_body else None,
        )

    def _request_facts(self) -> dict[str, Any]:
        headers = self.scope["headers"]
        query = self.scope.get("query_string", b"").decode("latin-1")
        return {
            "call_id": SECRET_VALUE.sub(REDACTED, self._call_id),
            "method": self.scope["method"],
            "path": SECRET_VALUE.sub(REDACTED, self.scope["path"]),
            "query": redact_query(query) or None,
            "key_hash": key_hash(headers, query),
            "client": (self.scope.get("client") or [None])[0],
            "headers": self._headers(headers, self._ledger.is_recorded_request_header),
            "size": self._request_size,
            "complete": self._request_complete,
        }

    def _response_facts(self, outcome: str, error: str | None) -> dict[str, Any]:
        now = time.perf_counter()
        return {
            "call_id": SECRET_VALUE.sub(REDACTED, self._call_id),
            "status": self._status,
            "outcome": outcome,
            "error": error,
            "headers": self._headers(self._response_headers, self._ledger.is_recorded_response_header),
            "size": self._response_size,
            "time_to_first_byte_ms": (self._first_byte - self._began) * 1e3 if self._first_byte else None,
            "duration_ms": (now - self._began) * 1e3,
        }

    @staticmethod
    def _headers(headers: Headers, is_recorded: Callable[[str], bool]) -> dict[str, str]:
        kept: dict[str, str] = {}
        for raw_name, raw_value in headers:
            name = raw_name.decode("latin-1")
            if is_recorded(name):
                value = SECRET_VALUE.sub(REDACTED, raw_value.decode("latin-1"))
                kept[name] = f"{kept[name]}, {value}" if name in kept else value
        return kept


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    matches = re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)").match

    @functools.lru_cache(maxsize=1024)
    def is_match(text: str) -> bool:
        return matches(text) is not None

    return is_match


def _with_call_id(scope: Scope, call_id: str) -> tuple[Scope, str]:
    """Give LiteLLM a call id to take over: its own, where it makes one, never reaches the client of a refused call."""
    for name, value in scope["headers"]:
        if name == CALL_ID and 0 < len(value) <= LONGEST_CALL_ID:
            return scope, value.decode("latin-1")
    headers = [(name, value) for name, value in scope["headers"] if name != CALL_ID]
    return {**scope, "headers": [*headers, (CALL_ID, call_id.encode())]}, call_id


def key_hash(headers: Headers, query: str) -> str | None:
    """Hash the key that a request presents, as LiteLLM does (`litellm.proxy._types.hash_token`).

    Args:
        headers: The request's headers, names in lower case.
        query: The URL's query: Google's clients send the key there.

    Returns:
        SHA-256 in hexadecimal, or None if there is no key.
    """
    found = dict(reversed(list(headers)))  # of one that is sent twice, LiteLLM takes the first
    presented = next((found[name].decode("latin-1") for name in KEY_HEADERS if found.get(name)), None)
    if presented is None:
        presented = dict(parse_qsl(query)).get("key", "")
    scheme, _, token = presented.partition(" ")
    if scheme.lower() in {"bearer", "basic"}:
        presented = token.replace(f"{scheme} ", "")  # some write it twice, and LiteLLM takes them all away
    elif credential := AWS_CREDENTIAL.match(presented):
        presented = credential[1]
    return hashlib.sha256(presented.encode()).hexdigest() if presented else None


def redact_query(query: str) -> str:
    """Replace the values of a URL's query that are, or may be, secrets.

    Args:
        query: As it came.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode(
        [
            (
                SECRET_VALUE.sub(REDACTED, name),
                REDACTED if SECRET_NAME.search(name) else SECRET_VALUE.sub(REDACTED, value),
            )
            for name, value in pairs
        ]
    )
