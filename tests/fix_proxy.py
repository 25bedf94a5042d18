"""A network that fails: a TCP proxy that can be stopped, cut, and made deaf."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.fix_postgres import Cluster

PIECE = 65_536


class Proxy:
    """Passes connections on to a server; all of it happens on loopback.

    Args:
        host: The server's address.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._hears = threading.Event()
        self._hears.set()
        self._ends: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._cut_after: int | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def start(self) -> None:
        """Take connections."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Take none, and cut those that are there."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Cut the connections that are there."""
        while self._ends:
            _cut(self._ends.pop())

    def cut_after(self, size: int) -> None:
        """Cut the next connection that has sent so many bytes more to the server."""
        self._cut_after = size

    def deafen(self) -> None:
        """Go on taking connections and data, and pass nothing on."""
        self._hears.clear()

    def hear(self) -> None:
        """Pass on what has come meanwhile, and what comes."""
        self._hears.set()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(self._server, timeout=5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                self._ends += [client, server]
                for source, target, sends in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=(source, target, sends), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, sends: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                self._hears.wait()
                if sends and self._cut_after is not None:
                    data, left = data[: self._cut_after], self._cut_after - len(data)
                    self._cut_after = left if left > 0 else None
                    if left <= 0:
                        target.sendall(data)
                        break
                target.sendall(data)
        _cut(source)
        _cut(target)


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextlib.contextmanager
def proxy_to(cluster: Cluster) -> Iterator[tuple[Proxy, Cluster]]:
    """Start a proxy to a PostgreSQL; gives it, and the PostgreSQL as it is seen through it."""
    proxy = Proxy(cluster.host, cluster.port)
    proxy.start()
    try:
        yield proxy, Cluster("127.0.0.1", proxy.port)
    finally:
        proxy.hear()
        proxy.stop()
