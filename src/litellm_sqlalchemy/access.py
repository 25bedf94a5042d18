"""Who may do what at the gateway, before LiteLLM is asked: where it is managed from, and which master keys count.

Where admin networks are named, only what asks a model is served to anybody else, and the master key is to them a key
that nobody was given: LiteLLM refuses it in its own words. While master keys rotate, one of before does what the
current one does.
"""

import functools
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlencode

from litellm_sqlalchemy.ledger.asgi import App, Message, Receive, Scope, Send
from litellm_sqlalchemy.settings import AccessSettings

# By these nginx says who asks. uvicorn has read them; nobody behind it should take them for something else.
SAID_BY_NGINX = {b"x-forwarded-for", b"x-forwarded-proto"}
REFUSAL = "This path is served to the gateway's admin networks only (litellm_gateway_admin_networks)."
POLICY_VIOLATION = 1008  # a WebSocket's close code
VISIBLE_END = 4  # characters of a key that LiteLLM repeats when it refuses it
# Where a key may begin in a header: LiteLLM finds it behind words, names and signs of several kinds.
WORD = re.compile(rb"(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-])")
# Of these LiteLLM takes each one out of a header, wherever it stands.
SCHEME = re.compile(rb"(?:[Bb]earer|Basic) ")


class Access:
    """ASGI application that decides what another one gets to see.

    Args:
        app: The application to wrap.
        settings: The networks, and the keys.
        is_open: Says whether a path is for those who only ask models.
    """

    def __init__(self, app: App, settings: AccessSettings, is_open: Callable[[str], bool]) -> None:
        self._app = app
        self._networks = settings.admin_networks
        self._is_open = is_open
        self._current = settings.master_key.get_secret_value().encode()
        self._previous = [key.encode() for key in settings.previous_master_keys.get_secret_value().split()]
        self._nobodys = {key: _nobodys(key) for key in (*self._previous, self._current) if key}
        self.is_admin = functools.lru_cache(maxsize=4096)(self._is_admin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope (ASGI 3)."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        is_admin = self.is_admin(scope["client"][0] if scope["client"] else None)
        if not is_admin and not self._is_open(scope["path"]):
            await _refuse(scope, receive, send)
            return
        scope = {**scope, "headers": [header for header in scope["headers"] if header[0] not in SAID_BY_NGINX]}
        others = dict.fromkeys(self._previous, self._current) if is_admin else self._nobodys
        for key, other in others.items():
            scope, is_replaced = _with_another_key(scope, key, other)
            if is_replaced and not is_admin:
                send = _as_if_sent(send, key, other)
        await self._app(scope, receive, send)

    def _is_admin(self, client: str | None) -> bool:
        """Say whether an address may do everything; None is the host itself, at the socket."""
        if client is None or not self._networks:
            return True
        try:
            address = ip_address(client)
        except ValueError:
            return False
        # An IPv4 client of a socket for both kinds of addresses
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


def _nobodys(key: bytes) -> bytes:
    """Make up a key of the same length, with the same end: LiteLLM's refusal shows no difference."""
    random = f"sk-{secrets.token_hex(len(key))}".encode()
    return random[: len(key) - VISIBLE_END] + key[-VISIBLE_END:]


def _with_another_key(scope: Scope, key: bytes, other: bytes) -> tuple[Scope, bool]:
    """Replace a key by another one wherever LiteLLM looks for keys; say whether it was there.

    Every place is compared in a time that does not depend on how much of it is right.
    """
    query = scope["query_string"]
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    is_in = [hmac.compare_digest(value.encode(), key) for _, value in pairs]
    if any(is_in):
        values = (other.decode() if found else value for (_, value), found in zip(pairs, is_in, strict=True))
        query = urlencode([(name, value) for (name, _), value in zip(pairs, values, strict=True)]).encode()
    headers = [(name, _replaced(value, key, other)) for name, value in scope["headers"]]
    return {**scope, "headers": headers, "query_string": query}, any(is_in) or headers != list(scope["headers"])


def _replaced(value: bytes, key: bytes, other: bytes) -> bytes:
    """Replace the key in a header: as it stands there, or in pieces that LiteLLM joins."""
    joined = value
    while (shorter := SCHEME.sub(b"", joined)) != joined:
        joined = shorter
    # Most have no scheme, or one at the beginning: then what is joined is within what stands there.
    for text, scheme in ((value, b""), (joined, b"Bearer "))[: 1 if value.endswith(joined) else 2]:
        found = text
        for beginning in reversed([word.start() for word in WORD.finditer(text)]):
            end = beginning + len(key)
            if hmac.compare_digest(found[beginning:end], key):
                found = found[:beginning] + other + found[end:]
        if found != text:
            return scheme + found
    return value


def _as_if_sent(send: Send, key: bytes, other: bytes) -> Send:
    """Put the hash of the key that was sent where a refusal names the hash of the one that LiteLLM saw."""
    seen, sent = (hashlib.sha256(each).hexdigest().encode() for each in (other, key))

    async def send_as_if(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": message.get("body", b"").replace(seen, sent)}
        await send(message)

    return send_as_if


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
        return
    error = {"message": REFUSAL, "type": "not_from_here", "param": None, "code": "403"}
    body = json.dumps({"error": error}).encode()
    headers: Iterable[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
