"""HTTP for the tests: servers on loopback, and a client that sees when which byte arrives."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import uvicorn

from litellm_sqlalchemy.ledger.asgi import App
from tests.ports import free_port

PATIENCE_SECONDS = 60
HTTP = Literal["auto", "h11", "httptools"]


def wait_for(condition: Callable[[], object], what: str, seconds: int = PATIENCE_SECONDS) -> None:
    """Wait until something is so; fail if it does not become so."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"waited {seconds} s in vain: {what}"
        time.sleep(0.01)


@contextlib.contextmanager
def serving(app: App, *, graceful_seconds: int = PATIENCE_SECONDS, http: HTTP = "auto") -> Iterator[int]:
    """Serve an application in a thread, WebSockets too; gives the port."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=port, lifespan="on", log_level="critical", timeout_graceful_shutdown=graceful_seconds, http=http
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive(), "the server starts")
        assert server.started, "the server did not start"
        yield port
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


class Client:
    """One connection, and what has arrived on it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.received = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def post(self, path: str, body: bytes = b"{}", *headers: str) -> None:
        """Send a request; only the parts that the tests need."""
        lines = [f"POST {path} HTTP/1.1", "Host: tests", f"Content-Length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def until(self, part: bytes) -> bytes:
        """Receive until something has arrived."""
        while part not in self.received:
            data = self._socket.recv(65_536)
            assert data, f"closed before {part!r}; there was {self.received!r}"
            self.received += data
        return self.received

    def until_closed(self) -> bytes:
        """Receive until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            while data := self._socket.recv(65_536):
                self.received += data
        self.leave()
        return self.received

    def so_far(self) -> bytes:
        """Receive what arrives within a moment."""
        self._socket.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while data := self._socket.recv(65_536):
                self.received += data
        self._socket.settimeout(PATIENCE_SECONDS)
        return self.received

    def leave(self) -> None:
        self._socket.close()
