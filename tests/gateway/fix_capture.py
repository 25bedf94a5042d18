"""A ledger around an application of the tests' own, served over real HTTP, and a spool that can be made to fail."""

import asyncio
import contextlib
import gc
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from litellm_sqlalchemy.ledger.asgi import Receive, Scope, Send
from litellm_sqlalchemy.ledger.capture import Ledger
from litellm_sqlalchemy.ledger.http_exchange import HttpExchange
from litellm_sqlalchemy.ledger.spool import Record
from litellm_sqlalchemy.settings import CaptureSettings
from tests.fix_server import HTTP, serving, wait_for

CHAT = "/v1/chat/completions"
KEY = "sk-a-key-that-must-not-be-found"


class Upstream:
    """The application behind the ledger: what it answers is set by each test."""

    def __init__(self) -> None:
        self.calls: list[Scope] = []
        self.bodies: list[bytes] = []
        self.go_on = threading.Event()
        self.answer: Callable[[Scope, Receive, Send], Any] = self.json

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        self.calls.append(scope)
        await self.answer(scope, receive, send)

    async def read(self, receive: Receive) -> bytes:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client has left")
            body += bytes(message.get("body", b""))
            if not message.get("more_body"):
                self.bodies.append(body)
                return body

    async def json(self, _scope: Scope, receive: Receive, send: Send) -> None:
        body = await self.read(receive)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def pause(self) -> None:
        await asyncio.to_thread(self.go_on.wait, 60)

    def chunks(self, *chunks: bytes | None, **headers: str) -> None:
        """Answer in chunks; None is a pause until the test says go on."""

        async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
            await self.read(receive)
            pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": pairs})
            for chunk in chunks:
                if chunk is None:
                    await self.pause()
                else:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        self.answer = answer


class Gateway:
    """A served ledger, and what it has spooled."""

    def __init__(self, port: int, path: Path, upstream: Upstream) -> None:
        self.port = port
        self.path = path
        self.upstream = upstream
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str = CHAT, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", **{"content": b"{}", "timeout": 60, **options})

    def records(self) -> list[Record]:
        """Read what is in the spool, without waiting for who writes."""
        with contextlib.closing(sqlite3.connect(self.path)) as spool:
            rows = spool.execute("SELECT kind, exchange, received_at, facts, body FROM records ORDER BY sequence")
            return [
                Record(kind=kind, exchange=UUID(bytes=exchange), received_at=received_at, facts=facts, body=body)
                for kind, exchange, received_at, facts, body in rows
            ]

    def exchange(self) -> tuple[Record, dict[str, Any], Record, dict[str, Any]]:
        """The only exchange there is."""
        wait_for(lambda: len(self.records()) >= 2, "two records")
        request, response = self.records()
        assert (request.kind, response.kind) == ("request", "response")
        assert request.exchange == response.exchange
        assert request.received_at == response.received_at
        return request, json.loads(request.facts), response, json.loads(response.facts)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "spool.sqlite3"


@pytest.fixture
def http() -> HTTP:
    """How the server reads HTTP; a test parametrizes it where that may matter."""
    return "auto"


@pytest.fixture
def gateway(path: Path, upstream: Upstream, http: HTTP) -> Iterator[Gateway]:
    with serving(Ledger(upstream, CaptureSettings(spool_path=path)), http=http) as port:
        yield Gateway(port, path, upstream)
        upstream.go_on.set()


def wait_until_refused() -> None:
    """Wait until the ledger knows that it cannot record a request."""

    def is_refused() -> bool:
        stored = [found._request_stored for found in gc.get_objects() if isinstance(found, HttpExchange)]
        return any(future is not None and future.done() and future.exception() for future in stored)

    wait_for(is_refused, "a request that cannot be recorded")


class Gate:
    """Writes to the spool wait until this is set: it writes itself, and does not come to an end."""

    def __init__(self, path: Path) -> None:
        self._writing = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        self._writing.execute("BEGIN IMMEDIATE")

    def set(self, *, broken: bool = False) -> None:
        """Let them be written, or fail."""
        if broken:
            self._writing.execute("ALTER TABLE records RENAME TO elsewhere")
        self._writing.execute("COMMIT")
        self._writing.close()

    def close(self) -> None:
        self._writing.close()


@pytest.fixture
def gate(gateway: Gateway) -> Iterator[Gate]:
    with contextlib.closing(Gate(gateway.path)) as gate:
        yield gate


class Broken:
    """Writes to the spool fail while this is set."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self) -> None:
        self._rename("records", "elsewhere")

    def clear(self) -> None:
        self._rename("elsewhere", "records")

    def _rename(self, old: str, new: str) -> None:
        with contextlib.closing(sqlite3.connect(self._path, timeout=60)) as spool:
            spool.execute(f"ALTER TABLE {old} RENAME TO {new}")


@pytest.fixture
def broken(path: Path) -> Broken:
    return Broken(path)
