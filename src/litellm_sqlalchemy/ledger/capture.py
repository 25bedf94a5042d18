"""The ASGI wrapper that copies every exchange into the spool.

The bytes pass through as they come. Only one thing waits: the last bytes of an answer are held back until the
record of the exchange is durable, so nobody has an answer that the ledger has not. The request's record is written
while the model works. Nothing is parsed here: that is the drain's work.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from litellm_sqlalchemy.ledger.asgi import App, Message, Receive, Scope, Send
from litellm_sqlalchemy.ledger.head import Rules, hide_query
from litellm_sqlalchemy.ledger.http_exchange import HttpExchange
from litellm_sqlalchemy.ledger.identity import current
from litellm_sqlalchemy.ledger.metrics import OPEN_EXCHANGES, Metrics
from litellm_sqlalchemy.ledger.recorder import Recorder
from litellm_sqlalchemy.ledger.spool import Record, SpoolError
from litellm_sqlalchemy.ledger.websocket import WebSocketExchange
from litellm_sqlalchemy.ledger.writer import SpoolWriter
from litellm_sqlalchemy.settings import CaptureSettings

KINDS: dict[str, type[HttpExchange | WebSocketExchange]] = {"http": HttpExchange, "websocket": WebSocketExchange}


class Ledger:
    """ASGI application that records what passes to and from another one.

    Args:
        app: The application to wrap.
        settings: Where the spool is, and what is recorded of which path.
        before_close: What may still append records at the shutdown, when the exchanges are over.
    """

    def __init__(
        self, app: App, settings: CaptureSettings, before_close: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._app = app
        self._settings = settings
        self._before_close = before_close
        self._rules = Rules(settings)
        self._recorder: Recorder | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] in KINDS and not self._rules.is_ignored(scope["path"]):
            await self._record(scope, receive, send)
        else:
            current.set(None)  # a connection's tasks may inherit from one another
            await self._app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the spool before the application starts, close it after the application has stopped."""
        settings = self._settings
        logging.getLogger("uvicorn.error").addFilter(hide_query)
        try:
            writer = SpoolWriter(settings.spool_path, settings.spool_max_bytes)
        except SpoolError as error:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self._recorder = Recorder(
            writer,
            Metrics(settings.metrics_directory),
            settings.spool_path.parent / "websockets",
            serve_unrecorded=settings.on_spool_failure == "serve",
        )

        async def send_when_closed(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):  # after this message the process may end at once
                await self._close()
            await send(message)

        try:
            await self._app(scope, receive, send_when_closed)
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._recorder is not None:
            recorder = self._recorder
            await recorder.finish()
            if self._before_close is not None:
                await self._before_close()
            self._recorder = None
            await recorder.close()

    def append_later(self, record: Record) -> None:
        """Store a record that nobody waits for; if it cannot be stored, there is none.

        Args:
            record: Of an exchange, beside its own two.
        """
        if self._recorder is not None:
            self._recorder.append(record, lazily=True)

    async def _record(self, scope: Scope, receive: Receive, send: Send) -> None:
        recorder = self._recorder
        if recorder is None:
            raise RuntimeError("the ledger needs the server's lifespan events: run uvicorn with --lifespan on")
        if (task := asyncio.current_task()) is not None:
            recorder.is_open(task)
        recorder.metrics.add(OPEN_EXCHANGES, 1)
        exchange = KINDS[scope["type"]](recorder, self._rules, scope, receive, send)
        try:
            if await recorder.is_refusing():
                await exchange.refuse()
                return
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            await self._break_off(recorder, exchange, "interrupted")
            raise
        except Exception as error:
            await self._break_off(recorder, exchange, "error", type(error).__name__)
            raise
        else:
            await self._break_off(recorder, exchange, "interrupted")
        finally:
            recorder.metrics.add(OPEN_EXCHANGES, -1)

    async def _break_off(
        self, recorder: Recorder, exchange: HttpExchange | WebSocketExchange, outcome: str, error: str | None = None
    ) -> None:
        """Record an exchange that did not come to its end, before the server gives the client one of its own."""
        if not exchange.over:
            await recorder.finish_work(exchange.break_off(outcome, error))
