"""Where the gateway is managed from, and which master keys count."""

import asyncio
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from litellm_sqlalchemy.access import Access
from litellm_sqlalchemy.ledger.asgi import Message, Receive, Scope, Send
from litellm_sqlalchemy.ledger.head import Rules
from litellm_sqlalchemy.settings import AccessSettings, CaptureSettings, load

CURRENT, PREVIOUS, OTHER = "sk-current-0123456789", "sk-previous-of-another-length", "sk-a-virtual-key-9876543"
NETWORKS = "10.0.0.0/24,fd00::/64"
INSIDE, OUTSIDE = "10.0.0.7", "10.0.1.7"
IS_ASKING = Rules(CaptureSettings()).is_asking


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_NETWORKS", NETWORKS)
    monkeypatch.setenv("LITELLM_MASTER_KEY", CURRENT)
    monkeypatch.setenv("LITELLM_PREVIOUS_MASTER_KEYS", f"{PREVIOUS}\nsk-the-one-before-that")


async def says_whose_key_it_is(scope: Scope, receive: Receive, send: Send) -> None:
    """Say what it was asked, and the hash of its key, as LiteLLM's refusal does."""
    headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
    key = dict(headers).get("authorization", "").removeprefix("Bearer ")
    seen = {"headers": headers, "query": parse_qs(scope["query_string"].decode()), "hash": sha256(key), "end": key[-4:]}
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode(), "more_body": False})


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ask(path: str, client: str | None, headers: dict[str, str] | None = None, query: str = "") -> tuple[int, Any]:
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "path": path,
        "client": (client, 0) if client else None,
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "query_string": query.encode(),
    }

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Access(says_whose_key_it_is, load(AccessSettings), IS_ASKING)(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/health/readiness", "/mcp", "/v1/responses/x"])
def test_models_are_asked_from_anywhere(path: str) -> None:
    assert ask(path, OUTSIDE)[0] == 401


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "/ui",
            "/ui/login",
            "/login",
            "/v2/login",
            "/sso/key/generate",
            "/key/generate",
            "/key/mcp",
            "/team/mcp",
        ),
        *("/model/new", "/user/new", "/config/update", "/health", "/health/test_connection", "/public/model_hub/info"),
        *("/spend/logs", "/key/x/v1/files/regenerate", "/credentials/mcp", "/routes", "/metrics", "/nothing"),
    ],
)
def test_management_is_for_admin_networks(path: str) -> None:
    assert ask(path, OUTSIDE) == (
        403,
        {
            "error": {
                "message": "This path is served to the gateway's admin networks only (litellm_gateway_admin_networks).",
                "type": "not_from_here",
                "param": None,
                "code": "403",
            }
        },
    )
    for client in (INSIDE, "fd00::7", None):
        assert ask(path, client)[0] == 401


def test_ipv4_is_known_when_a_socket_is_for_both() -> None:
    assert ask("/ui", f"::ffff:{INSIDE}")[0] == 401
    assert ask("/ui", f"::ffff:{OUTSIDE}")[0] == 403


@pytest.mark.parametrize("client", ["", "not an address", "10.0.0.7, 10.0.1.7", "fd01::7"])
def test_what_is_no_address_inside_is_outside(client: str) -> None:
    assert ask("/ui", client or "-")[0] == 403


def test_no_networks_are_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_NETWORKS", "")
    assert ask("/ui", OUTSIDE)[0] == 401
    assert keys(ask("/v1/models", OUTSIDE, {"authorization": f"Bearer {CURRENT}"})[1]) == {CURRENT}


def keys(seen: Any) -> set[str]:
    """What the application was given as keys."""
    texts = [value for _, value in seen["headers"]] + [value for values in seen["query"].values() for value in values]
    return {word for text in texts for word in text.replace("=", " ").replace(".", " ").replace("/", " ").split()} - {
        *("Bearer", "bearer", "realtime,", "openai-insecure-api-key", "AWS4-HMAC-SHA256", "Credential", "20261125")
    }


PLACES: list[tuple[dict[str, str], str]] = [
    ({"authorization": "Bearer {}"}, ""),
    ({"authorization": "bearer {}"}, ""),
    ({"authorization": "{}"}, ""),
    ({"authorization": "Bearer Bearer {}"}, ""),
    ({"authorization": "AWS4-HMAC-SHA256 Credential=Bearer {}/20261125"}, ""),
    ({"authorization": "AWS4-HMAC-SHA256 Credential={}/20261125"}, ""),
    ({"api-key": "{}"}, ""),
    ({"x-api-key": "{}"}, ""),
    ({"x-litellm-api-key": "Bearer {}"}, ""),
    ({"sec-websocket-protocol": "realtime, openai-insecure-api-key.{}"}, ""),
    ({"x-a-header-of-ones-own": "{}"}, ""),
    ({}, "key={}"),
]


@pytest.mark.parametrize(("headers", "query"), PLACES)
def test_wherever_the_key_is(headers: dict[str, str], query: str) -> None:
    def given(key: str, client: str) -> set[str]:
        put = {name: value.format(key) for name, value in headers.items()}
        return keys(ask("/v1/models", client, put, query.format(key))[1])

    assert given(CURRENT, INSIDE) == given(PREVIOUS, INSIDE) == given("sk-the-one-before-that", INSIDE) == {CURRENT}
    for key in (OTHER, CURRENT[:-1], CURRENT[1:], f"{PREVIOUS[:-1]}x"):
        assert given(key, INSIDE) == given(key, OUTSIDE) == {key}
    for key in (CURRENT, PREVIOUS):
        (nobodys,) = given(key, OUTSIDE)
        assert nobodys not in {CURRENT, PREVIOUS}
        assert nobodys.startswith("sk-")


@pytest.mark.parametrize("key", [CURRENT, PREVIOUS])
@pytest.mark.parametrize("name", ["authorization", "x-litellm-api-key"])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "Basic ", "BeaBearer rer "])
def test_pieces_that_litellm_joins_make_no_key(scheme: str, name: str, key: str) -> None:
    put = {name: f"Bearer {key[:5]}{scheme}{key[5:]}"}
    assert key == CURRENT or keys(ask("/v1/models", INSIDE, put)[1]) == {CURRENT}
    (nobodys,) = keys(ask("/v1/models", OUTSIDE, put)[1])
    assert nobodys not in {CURRENT, PREVIOUS}
    assert nobodys[-4:] == key[-4:]


def test_a_percent_sign_hides_no_key() -> None:
    assert keys(ask("/v1/models", OUTSIDE, query=f"alt=sse&key=%73{CURRENT[1:]}")[1]) & {CURRENT} == set()


@pytest.mark.parametrize("key", [CURRENT, PREVIOUS])
def test_a_master_key_from_outside_is_refused_as_a_wrong_one_is(key: str) -> None:
    """By what LiteLLM says, nobody learns that the key is one, or anything of another one."""
    _, seen = ask("/v1/models", OUTSIDE, {"authorization": f"Bearer {key}"})
    assert (seen["hash"], seen["end"]) == (sha256(key), key[-4:])


def test_nobody_takes_the_client_s_address_from_a_header() -> None:
    headers = {"x-forwarded-for": OUTSIDE, "x-forwarded-proto": "https", "accept": "*/*"}
    assert ask("/v1/models", INSIDE, headers)[1]["headers"] == [["accept", "*/*"]]


@pytest.mark.parametrize("wrong", ["10.0.0.7/24", "everywhere"])
def test_a_network_that_is_none(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_NETWORKS", wrong)
    with pytest.raises(SystemExit):
        load(AccessSettings)
    assert "environment variable GATEWAY_ADMIN_NETWORKS[0]" in capsys.readouterr().err
