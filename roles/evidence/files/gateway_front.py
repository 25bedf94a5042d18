"""What a stranger finds at the gateway's port, as JSON. Arguments: address, port, file of CA certificates."""

import http.client
import json
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from typing import Any

address, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
HEADERS = (
    *("strict-transport-security", "x-content-type-options", "x-frame-options", "referrer-policy"),
    "content-security-policy",
)
VERSION = re.compile(r"(?i)(?:nginx|uvicorn|python|litellm)[a-z_-]*[\"/: ]+v?\d+\.\d+[.0-9]*")
LITELLM_S_VERSION = "/public/model_hub/info"
SCRIPTS = "/ui/"  # full of digits that are no versions
told: list[str] = []


def ask(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int | str, list[str]]:
    """Give the status, or the error, and the answer's headers that are wanted and not there."""
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except OSError as error:
        return type(error).__name__, list(HEADERS)
    finally:
        connection.close()
    told.append(str(answer.headers) + ("" if path == SCRIPTS else text))
    return answer.status, [name for name in HEADERS if name not in answer.headers]


def https(path: str, method: str = "GET") -> tuple[int | str, list[str]]:
    """Ask with TLS, and check the certificate."""
    context = ssl.create_default_context(cafile=ca)
    return ask(http.client.HTTPSConnection(address, port, timeout=60, context=context), method, path)


def older() -> str:
    """Give what a client that speaks TLS 1.2 at most gets: the version, or what is said against it."""
    context = ssl.create_default_context(cafile=ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection((address, port), timeout=60) as connection:
            return str(context.wrap_socket(connection, server_hostname=address).version())
    except ssl.SSLError as error:
        return error.reason or type(error).__name__
    except OSError as error:
        return type(error).__name__


def found() -> Iterator[tuple[str, Any]]:
    """Look."""
    yield "plain", ask(http.client.HTTPConnection(address, port, timeout=60), "GET", "/health/readiness")[0]
    status, missing = https("/health/readiness")
    yield "https", status
    yield "missing_headers", missing
    yield "older", older()
    yield "without_key", https("/v1/chat/completions", "POST")[0]
    yield "api_docs", [https(path)[0] for path in ("/redoc", "/openapi.json")]
    yield "admin_ui", https(SCRIPTS)[0]
    https(LITELLM_S_VERSION)
    yield "versions", VERSION.findall("".join(told))


print(json.dumps(dict(found())))
