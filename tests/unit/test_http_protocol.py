"""uvicorn on a socket that somebody else holds: a stop costs no request that had come to it."""

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
"""


def run(directory: Path, listener: socket.socket, workers: int) -> subprocess.Popen[str]:
    """Start uvicorn as litellm.service does, with the socket as systemd hands it over."""
    command = [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(listener.fileno()), "--workers", str(workers)]
    command += ["--http", "litellm_sqlalchemy.http_protocol:HttpProtocol", "--timeout-graceful-shutdown", "60"]
    return subprocess.Popen(
        command, cwd=directory, pass_fds=[listener.fileno()], stderr=subprocess.PIPE, start_new_session=True, text=True
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_costs_no_request(tmp_path: Path, workers: int) -> None:
    (tmp_path / "app.py").write_text(APP)
    path = str(tmp_path / "socket")

    def connect() -> socket.socket:
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.settimeout(60)
        client.connect(path)
        return client

    def ask(client: socket.socket) -> bytes:
        client.sendall(REQUEST)
        return client.recv(1 << 16)

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen()
        early = connect()
        early.sendall(REQUEST)
        first = run(tmp_path, listener, workers)
        assert early.recv(1 << 16).startswith(b"HTTP/1.1 204")

        # Taken by uvicorn before it stops, with its request still on the way.
        slow = [connect() for _ in range(workers)]
        assert ask(connect()).startswith(b"HTTP/1.1 204")
        first.send_signal(signal.SIGTERM)
        assert first.stderr
        for line in first.stderr:
            if "Waiting for connections to close" in line:
                break
        # Taken by nobody until there is a new one.
        late = connect()
        late.sendall(REQUEST)
        for client in slow:
            assert ask(client).startswith(b"HTTP/1.1 204")
        first.communicate()
        second = run(tmp_path, listener, workers)
        assert late.recv(1 << 16).startswith(b"HTTP/1.1 204")
        second.terminate()
        second.communicate()
