"""A cheap HTTP/1.1 client: keep-alive connections on an event loop, the clock read around each exchange."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import httptools


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer.

    Attributes:
        status: HTTP status.
        call_id: Header x-litellm-call-id; empty if there is none.
        milliseconds: From the first byte sent to the last byte received.
    """

    status: int
    call_id: str
    milliseconds: float


class Connection(asyncio.Protocol):
    """One connection; one question at a time."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[Answer] | None = None
        self._call_id = ""
        self._began = 0.0
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("closed before the end of the answer"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-litellm-call-id":
            self._call_id = value.decode()

    def on_message_complete(self) -> None:
        if self._answered is not None and not self._answered.done():
            milliseconds = (time.perf_counter() - self._began) * 1e3
            self._answered.set_result(Answer(self._parser.get_status_code(), self._call_id, milliseconds))

    def _fail(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for the whole answer.

        Raises:
            OSError: The connection ended before that.
        """
        if self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._answered = asyncio.get_running_loop().create_future()
        self._call_id = ""
        self._began = time.perf_counter()
        self._transport.write(request)
        return await self._answered

    def close(self) -> None:
        self._transport.close()


def close(connections: Iterable[Connection]) -> None:
    """Close connections."""
    for connection in connections:
        connection.close()


async def connect(port: int) -> Connection:
    """Open a connection to this port of loopback."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


def post(path: str, body: bytes, key: str) -> bytes:
    """Write a request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: gateway",
        f"authorization: Bearer {key}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


async def ask_all(connections: Sequence[Connection], request: bytes, times: int) -> list[Answer]:
    """Ask so many times, each connection again as soon as it has its answer."""
    answers: list[Answer] = []
    left = times

    async def work(connection: Connection) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            answers.append(await connection.ask(request))

    await asyncio.gather(*map(work, connections))
    return answers


async def ask_until_closed(
    connections: Sequence[Connection], request: bytes, times: int, then: Callable[[], None]
) -> list[Answer]:
    """Ask until the server is gone, which `then` sees to after so many answers; what was answered completely."""
    answers: list[Answer] = []

    async def work(connection: Connection) -> None:
        with contextlib.suppress(OSError):
            while True:
                answers.append(await connection.ask(request))
                if len(answers) == times:
                    then()

    await asyncio.gather(*map(work, connections))
    return answers
