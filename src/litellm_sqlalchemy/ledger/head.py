"""What is kept of an exchange's head (path, query, headers, key), and what never."""

import fnmatch
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Iterable
from urllib.parse import parse_qsl, urlencode

from litellm_sqlalchemy.ledger.asgi import Headers, Scope
from litellm_sqlalchemy.settings import (
    ASKING_PATHS,
    MANAGEMENT_PATHS,
    NEEDED_REQUEST_HEADERS,
    NEEDED_RESPONSE_HEADERS,
    CaptureSettings,
)

CALL_ID = b"x-litellm-call-id"
LONGEST_CALL_ID = 256  # LiteLLM replaces a longer one (litellm.constants.MAX_LITELLM_CALL_ID_LENGTH)
# Where LiteLLM looks for the key, in its order (litellm.proxy.auth.user_api_key_auth.get_api_key).
KEY_HEADERS = (
    *(b"x-litellm-api-key", b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key"),
    b"ocp-apim-subscription-key",
)
# A browser's WebSocket sends no headers of its own, so the key comes as the name of a subprotocol.
SUBPROTOCOLS = b"sec-websocket-protocol"
SUBPROTOCOL_KEY = "openai-insecure-api-key."
# Where it is hidden in another one: LangChain's way to Bedrock (get_bearer_token there).
AWS_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256.*?Credential=(?:Bearer\s+)?([^/\s,]+)")
SECRET_NAME = re.compile(r"key|token|secret|passw|code|auth|sig|credential|session|state", re.IGNORECASE)
# As every key of LiteLLM begins; behind the name of the subprotocol may be any.
SECRET_VALUE = re.compile(r"\bopenai-insecure-api-key\.[^\s,]+|(?<![A-Za-z0-9])sk-[\w-]+")
REDACTED = "REDACTED"
WEBSOCKET_QUERY = re.compile(r'("WebSocket [^"?]*)\?[^"]*')  # in uvicorn's log


class Rules:
    """What is recorded of which path, and which headers.

    Args:
        settings: The patterns.
    """

    def __init__(self, settings: CaptureSettings) -> None:
        self.is_recorded_request_header = _matcher(map(str.lower, (*NEEDED_REQUEST_HEADERS, *settings.request_headers)))
        self.is_recorded_response_header = _matcher(
            map(str.lower, (*NEEDED_RESPONSE_HEADERS, *settings.response_headers))
        )
        self._root_paths = sorted(settings.root_paths, key=len, reverse=True)  # as LiteLLM takes them off
        self._is_ignored = _matcher(settings.ignored_paths)
        self._is_full = _matcher(settings.full_paths)
        self._is_metadata = _matcher(settings.metadata_paths)
        self._is_asking = _matcher(ASKING_PATHS)
        self._is_management = _matcher(MANAGEMENT_PATHS)

    def is_ignored(self, path: str) -> bool:
        """Say whether nothing of a path is recorded.

        Args:
            path: The URL's path.
        """
        return self._is_ignored(self._route(path))

    def is_full(self, path: str) -> bool:
        """Say whether a path's bodies are recorded.

        Args:
            path: The URL's path.
        """
        route = self._route(path)
        return self._is_full(route) and not self._is_metadata(route)

    def is_asking(self, path: str) -> bool:
        """Say whether a path is for those who ask models, and manage nothing.

        Args:
            path: The URL's path.
        """
        route = self._route(path)
        return (self._is_full(route) or self._is_asking(route)) and not self._is_management(route)

    def _route(self, path: str) -> str:
        """Take the prefix off a path, as the application does before it looks for a route."""
        return next((path[len(root) :] for root in self._root_paths if path.startswith(f"{root}/")), path)


def _expression(pattern: str) -> str:
    """Write a shell pattern as a regular expression; {name} is one segment of a path."""
    return re.sub(r"\\\{\w+\\\}", "[^/]+", fnmatch.translate(pattern))


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    matches = re.compile("|".join(map(_expression, patterns)) or r"(?!)").match

    @functools.lru_cache(maxsize=1024)
    def is_match(text: str) -> bool:
        return matches(text) is not None

    return is_match


def with_call_id(scope: Scope, call_id: str) -> tuple[Scope, str]:
    """Give LiteLLM a call id to take over: its own, where it makes one, never reaches the client of a refused call.

    Args:
        scope: The request's.
        call_id: What to use if the client has sent none that LiteLLM takes.

    Returns:
        The scope to hand on, and the call id.
    """
    given = next((value for name, value in scope["headers"] if name == CALL_ID), b"")  # LiteLLM takes the first
    if 0 < len(given) <= LONGEST_CALL_ID:
        return scope, given.decode("latin-1")
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
        protocols = found.get(SUBPROTOCOLS, b"").decode("latin-1").split(",")
        keys = (name.strip().removeprefix(SUBPROTOCOL_KEY) for name in protocols if SUBPROTOCOL_KEY in name)
        presented = next(keys, None) or dict(parse_qsl(query)).get("key", "")
    scheme, _, token = presented.partition(" ")
    if scheme.lower() in {"bearer", "basic"}:
        presented = token.replace(f"{scheme} ", "")  # some write it twice, and LiteLLM takes them all away
    elif credential := AWS_CREDENTIAL.match(presented):
        presented = credential[1]
    return hashlib.sha256(presented.encode()).hexdigest() if presented else None


def redact(text: str) -> str:
    """Replace what looks like a key.

    Args:
        text: A path, a header's value, a call id.
    """
    return SECRET_VALUE.sub(REDACTED, text)


def redact_query(query: str) -> str:
    """Replace the values of a URL's query that are, or may be, secrets.

    Args:
        query: As it came.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(redact(name), REDACTED if SECRET_NAME.search(name) else redact(value)) for name, value in pairs])


def kept_headers(headers: Headers, is_recorded: Callable[[str], bool]) -> dict[str, str]:
    """Choose the headers to record.

    Args:
        headers: All of them, names in lower case.
        is_recorded: Says which.
    """
    kept: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1")
        if is_recorded(name):
            value = redact(raw_value.decode("latin-1"))
            kept[name] = f"{kept[name]}, {value}" if name in kept else value
    return kept


def hide_query(record: logging.LogRecord) -> bool:
    """Take queries, which may have keys in them, out of uvicorn's lines about WebSockets (a filter of `logging`).

    Args:
        record: Any line's.
    """
    message = record.getMessage()  # LiteLLM may have put it together already
    if WEBSOCKET_QUERY.search(message):
        record.msg, record.args = WEBSOCKET_QUERY.sub(r"\1", message), ()
    return True
