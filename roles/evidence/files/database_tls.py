"""What a stranger finds at PostgreSQL's port, as JSON: database_tls.py ADDRESS PORT CA-FILE LOGIN DATABASE."""

import json
import socket
import ssl
import struct
import sys
from collections.abc import Iterator

address, port, ca, login, database = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
ASK_FOR_TLS = struct.pack("!ii", 8, 80877103)
INVALID_AUTHORIZATION = b"\0C28000\0"  # a field of PostgreSQL's ErrorResponse: the SQLSTATE
# Of a login that gets in by TLS: without it, it must not even be asked for its password.
STARTUP = f"user\0{login}\0database\0{database}\0\0".encode()


def talk(context: ssl.SSLContext | None) -> str:
    """Give the version of TLS, or what the server or this side says against it."""
    try:
        with socket.create_connection((address, port), timeout=10) as connection:
            if context is None:
                connection.sendall(struct.pack("!ii", len(STARTUP) + 8, 196608) + STARTUP)
                answer = connection.recv(4096)
                if not answer.startswith(b"E"):
                    return "let in"
                # Not because it is full, or just starts.
                return "refused" if INVALID_AUTHORIZATION in answer else answer[1:].decode(errors="replace")
            connection.sendall(ASK_FOR_TLS)
            if connection.recv(1) != b"S":
                return "no TLS"
            with context.wrap_socket(connection, server_hostname=address) as tls:
                return str(tls.version())
    except ssl.SSLError as error:
        return error.reason or type(error).__name__
    except OSError as error:
        return type(error).__name__


def found() -> Iterator[tuple[str, str]]:
    """Look."""
    yield "plain", talk(None)
    verifying = ssl.create_default_context(cafile=ca)
    yield "verified", talk(verifying)
    older = ssl.create_default_context(cafile=ca)
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    yield "older", talk(older)


print(json.dumps(dict(found())))
