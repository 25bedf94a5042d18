"""The gateway's front: what it lets in, what it refuses and how, and that nothing is lost behind it."""

import contextlib
import itertools
import json
import re
import socket
import ssl
import sysconfig
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from testinfra.host import Host

from tests.hosts.drill.drill import ECHO, Load
from tests.hosts.lab import CA, DATABASE, GATEWAY, MODEL, UNITS, Lab, eventually

PROVIDER = {"api_key": "none", "model": "openai/none"}
SLOW = {"model_name": "slow", "litellm_params": PROVIDER | {"api_base": f"http://{MODEL}:8090/slow/v1"}}
PREVIOUS_KEY = "sk-the-master-key-of-before"
QUESTION = {"model": "echo", "messages": [{"role": "user", "content": "Say yes."}]}
CHAT = "/v1/chat/completions"
HIGHEST_EXPOSURE = 2.0
RESTARTS = 3
LONG_SECONDS = 300
LOOPBACK_PORT = 4080
NAME = "gateway.example"
PACKAGED_UI = Path(sysconfig.get_path("purelib")) / "litellm/proxy/_experimental/out"  # as the host's release has it


@pytest.fixture(scope="module")
def managed_from_elsewhere(lab: Lab) -> Generator[None]:
    """The gateway with all that can be asked of its front, while the master key is rotated.

    None of the lab's hosts is in an admin network; the gateway's own host also stands for a proxy before it.
    """
    with lab.upstream():
        lab.site(
            "--limit=gateway",
            litellm_gateway_workers=2,
            litellm_gateway_models=[*lab.models, ECHO, SLOW],
            litellm_gateway_admin_networks=["192.0.2.0/24"],
            litellm_gateway_previous_master_keys=[PREVIOUS_KEY],
            litellm_gateway_admin_ui=False,
            litellm_gateway_api_docs=True,
            litellm_gateway_trusted_proxies=[f"{GATEWAY}/32"],
            litellm_gateway_http_loopback_port=LOOPBACK_PORT,
            litellm_gateway_tls_minimum="1.2",
            litellm_gateway_names=[NAME],
        )
        yield
    lab.site("--limit=gateway")


@pytest.fixture
def insider(lab: Lab, managed_from_elsewhere: None) -> Generator[httpx.Client]:
    """On the gateway's host, with the master key."""
    with lab.client(via="gateway") as client:
        yield client


@pytest.fixture
def virtual_key(insider: httpx.Client) -> str:
    return str(insider.post("/key/generate", json={"models": ["echo", "slow"]}).json()["key"])


@contextlib.contextmanager
def connection(port: int) -> Generator[ssl.SSLSocket]:
    """A connection with TLS, to say on it what one likes."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=LONG_SECONDS) as plain,
        ssl.create_default_context(cafile=CA).wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        yield tls


def all_of(tls: ssl.SSLSocket) -> bytes:
    """What comes until the other side ends it."""
    received = b""
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        while piece := tls.recv(1 << 16):
            received += piece
    return received


def refusal(answer: httpx.Response) -> str:
    """What nginx says in the place of LiteLLM."""
    error = answer.json()["error"]
    assert error["type"] == "refused_at_the_door"
    return str(error["message"])


def test_plain_http_is_told_to_use_https(lab: Lab) -> None:
    with lab.tunnel("model", GATEWAY, 4000) as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/health/readiness", trust_env=False, timeout=60)
    assert answer.status_code == 400
    assert "HTTPS" in refusal(answer)


def test_nothing_else_is_open_on_the_gateway_s_network(gateway: Host) -> None:
    listeners = gateway.check_output("ss --no-header --tcp --listening --numeric --processes")
    programs = {line.split()[3]: line.split('"')[1] for line in listeners.splitlines()}
    open_to_others = {address: name for address, name in programs.items() if not re.match(r"127\.|\[::1\]", address)}
    assert {address: name for address, name in open_to_others.items() if not name.startswith(("sshd", "systemd"))} == {
        "0.0.0.0:4000": "nginx"
    }


def test_nobody_but_nginx_reaches_the_gateway_itself(lab: Lab) -> None:
    tried = lab.script(
        "gateway",
        """
        for user in litellm-nginx litellm nobody; do
            runuser --user $user -- python3 -c "import socket; socket.socket(socket.AF_UNIX).connect('/run/litellm/gateway.sock')" \
                2> /dev/null && echo $user || true
        done
        """,  # noqa: E501 - a program
    )
    assert tried.split() == ["litellm-nginx"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/readiness", 200),
        ("GET", "/", 200),
        ("GET", "/nothing", 404),
        ("GET", "/redoc", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/mcp/docs", 404),
        ("GET", "/mcp/openapi.json", 404),
        ("GET", "/public/model_hub/info", 404),
        ("GET", "/get/latest_release_info", 200),
        ("GET", "/ui/", 200),
        ("POST", CHAT, 401),
        ("GET", f"/{'x' * 40_000}", 414),
    ],
)
def test_no_version_is_told_and_every_answer_has_its_headers(
    lab: Lab, gateway: Host, method: str, path: str, status: int
) -> None:
    python = "from importlib.metadata import version; print(version('litellm'), version('uvicorn'))"
    versions = gateway.check_output(f'/opt/litellm/current/bin/python -c "{python}"').split()
    versions.append(re.split(r"[-+~]", gateway.package("nginx").version)[0])
    with lab.client(key="sk-nobody-was-given-this-key") as client:
        answer = client.request(method, path, json=QUESTION if method == "POST" else None)
    assert answer.status_code == status
    head = "\n".join(f"{name}: {value}" for name, value in answer.headers.multi_items())
    text = head if path == "/ui/" else head + answer.text  # of the UI's scripts, digits are no news
    assert not [version for version in versions if version in text]
    assert "Traceback" not in answer.text
    assert {
        "strict-transport-security": "max-age=31536000",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
    }.items() <= dict(answer.headers).items()
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_a_body_that_is_too_large_is_refused(lab: Lab) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: gateway\r\ncontent-length: {200 << 20}\r\n\r\n"
    with lab.tunnel("model", GATEWAY, 4000) as port, connection(port) as tls:
        tls.sendall(head.encode())
        assert tls.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_slow_clients_are_cut_off(lab: Lab) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: gateway\r\ncontent-length: 100\r\n\r\n"
    with (
        lab.tunnel("model", GATEWAY, 4000) as port,
        connection(port) as half_a_head,
        connection(port) as half_a_body,
    ):
        half_a_head.sendall(head.encode()[:-2])
        half_a_body.sendall(f"{head}{{".encode())
        for tls in (half_a_head, half_a_body):
            assert b" 200 " not in all_of(tls)


def test_too_many_requests_of_an_address_are_refused(lab: Lab, client: httpx.Client) -> None:
    """All connections first: then the requests come at once, however slow this machine is."""
    head = f"POST {CHAT} HTTP/1.1\r\nhost: gateway\r\ncontent-length: 100\r\n\r\n"
    with lab.tunnel("model", GATEWAY, 4000) as port, contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connection(port)) for _ in range(450)]
        for tls in opened:
            tls.sendall(head.encode())
        answered = eventually(lambda: _first_answer(opened))
    assert answered.startswith(b"HTTP/1.1 429 ")
    assert b"refused_at_the_door" in answered
    eventually(lambda: client.get("/health/liveliness").status_code == 200)


def _first_answer(opened: list[ssl.SSLSocket]) -> bytes:
    for tls in opened:
        tls.settimeout(0.01)
        with contextlib.suppress(TimeoutError):
            return tls.recv(1 << 16)
    return b""


TOKENS = st.text("abcdefghijklmnopqrstuvwxyz-_ \t\"'(),/:;<=>?@[]{}\\\x00\x01\x7f\xff", max_size=20)
NUMBERS = ("-1", "+5", "0x10", "1e3", "99999999999999999999", "5, 6", "", " ", "\x00", "5;a=b")
ENCODINGS = ("chunked", "chunked, chunked", "xchunked", "gzip", "\vchunked")
TARGETS = ("/%00", "/%zz", "/../../etc/passwd", "//", "http://", "*", "/%2e%2e/")
LINES = (f"POST {CHAT} HTTP/1.1", f"POST {CHAT} HTTP/1.0", f"POST {CHAT}", "PRI * HTTP/2.0", "GET  / HTTP/1.1")
VERSIONS = ("HTTP/1.1", "HTTP/9.9", "HTTP/1.1.1", "http/1.1", "")
ODD_HEADERS = (
    "content-length: 5\r\ncontent-length: 6",
    " folded: x",
    ":",
    "host",
    "expect: 100-continue",
    "x: " + "y" * 40_000,
)
BODIES = (b"5\r\nhello\r\n0\r\n\r\n", b"-1\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"0\r\n\r\nGET /")
MALFORMED = st.builds(
    lambda line, headers, end, body: "\r\n".join([line, *headers]).encode("latin-1") + end + body,
    st.one_of(
        TOKENS,
        st.sampled_from(LINES),
        st.builds("POST {} HTTP/1.1".format, st.sampled_from(TARGETS)),
        st.builds("{} {} {}".format, TOKENS, TOKENS, st.sampled_from(VERSIONS)),
    ),
    st.lists(
        st.one_of(
            st.builds("{}: {}".format, TOKENS, TOKENS),
            st.builds("host: {}".format, TOKENS),
            st.builds("content-length: {}".format, st.sampled_from(NUMBERS)),
            st.builds("transfer-encoding: {}".format, st.sampled_from(ENCODINGS)),
            st.sampled_from(ODD_HEADERS),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n", b"\r\r", b""]),
    st.one_of(st.binary(max_size=50), st.sampled_from(BODIES)),
)


def test_malformed_requests_get_nothing_and_break_nothing(lab: Lab, gateway: Host) -> None:
    def processes() -> list[str]:
        units = [*UNITS["gateway"], "litellm.socket"]
        shown = gateway.check_output(f"systemctl show --property=MainPID,NRestarts --value {' '.join(units)}")
        return str(shown).split()

    before, sent = processes(), []
    with lab.tunnel("model", GATEWAY, 4000) as port:

        @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(MALFORMED)
        def get_nothing(request: bytes) -> None:
            with connection(port) as tls:
                tls.sendall(request)
                # Its end, without TLS's word for it: the gateway need not wait for more.
                socket.socket.shutdown(tls, socket.SHUT_WR)
                received = all_of(tls)
            sent.append(request)
            statuses = re.findall(rb"(?m)^HTTP/1\.1 (\d)", received)
            assert set(statuses) <= {b"4", b"5", b"3"}, received
            assert b"Traceback" not in received

        get_nothing()
    assert len(sent) >= 500
    assert processes() == before
    with lab.client() as client:
        assert client.get("/health/readiness").json() == {"status": "healthy", "db": "connected"}


def test_the_client_s_address_is_what_is_seen_not_what_is_said(lab: Lab, client: httpx.Client) -> None:
    said = {"x-forwarded-for": "192.0.2.66", "x-real-ip": "192.0.2.66", "forwarded": "for=192.0.2.66"}
    answer = client.post(CHAT, json=QUESTION | {"model": "no-such-model"}, headers=said)
    stored = lab.exchange(answer.headers["x-litellm-call-id"])
    assert stored["request"]["client_address"] == MODEL


def test_whoever_asks_models_may_do_so_from_anywhere(lab: Lab, virtual_key: str) -> None:
    with lab.client(key=virtual_key) as outsider:
        assert outsider.post(CHAT, json=QUESTION).status_code == 200
        assert outsider.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/key/generate", "/key/info", "/team/new", "/model/new", "/health", "/openapi.json", "/%6bey/info"],
)
def test_management_is_for_admin_networks(lab: Lab, insider: httpx.Client, path: str) -> None:
    with lab.client() as outsider:
        for method in ("GET", "POST"):
            answer = outsider.request(method, path)
            assert (answer.status_code, answer.json()["error"]["type"]) == (403, "not_from_here")
    assert insider.get("/key/list").status_code == 200


def test_an_admin_ui_that_is_switched_off_is_not_there_for_admins_either(insider: httpx.Client) -> None:
    script = next(PACKAGED_UI.glob("_next/static/chunks/*.js")).relative_to(PACKAGED_UI)
    for path in ("/ui/", "/ui", "/ui/login/", "/%75i/", "//ui/", f"/{script}", "/sso/key/generate"):
        assert insider.get(str(insider.base_url).rstrip("/") + path).status_code == 404, path
    login = {"username": "admin", "password": insider.headers["authorization"].removeprefix("Bearer ")}
    for path in ("/login", "/v2/login", "/v3/login"):
        answer = insider.post(path, data=login) if path == "/login" else insider.post(path, json=login)
        assert (answer.status_code, "token" in answer.cookies) == (404, False), path


def test_the_description_of_the_api_is_served_where_it_is_asked_for(insider: httpx.Client) -> None:
    assert "/v1/chat/completions" in insider.get("/openapi.json").json()["paths"]


def test_a_proxy_before_the_gateway_says_for_whom_it_asks(lab: Lab, insider: httpx.Client) -> None:
    """And nobody else does."""
    assert insider.get("/key/list").status_code == 200
    assert insider.get("/key/list", headers={"x-forwarded-for": MODEL}).status_code == 403
    with lab.client() as outsider:
        for said in (GATEWAY, "127.0.0.1", "192.0.2.7", f"192.0.2.7, {GATEWAY}"):
            assert outsider.get("/key/list", headers={"x-forwarded-for": said}).status_code == 403


def test_paths_that_clients_tidy_up_lead_nowhere(lab: Lab, managed_from_elsewhere: None) -> None:
    with lab.tunnel("model", GATEWAY, 4000) as port:
        for target in ("/ui/../key/list", "//key/list", "/v1/models/../../key/list", "https://gateway/key/list"):
            head = f"GET {target} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n"
            with connection(port) as tls:
                tls.sendall(head.encode())
                assert re.match(rb"HTTP/1\.1 40[034] ", all_of(tls)), target


def test_plain_http_is_for_the_host_alone(lab: Lab, gateway: Host, managed_from_elsewhere: None) -> None:
    ask = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:%d/health/liveliness').status)"
    assert gateway.check_output(f'python3 -c "{ask % LOOPBACK_PORT}"') == "200"
    listeners = gateway.check_output("ss --no-header --tcp --listening --numeric")
    assert re.findall(rf"\S+:{LOOPBACK_PORT}\b", listeners) == [f"127.0.0.1:{LOOPBACK_PORT}"]


def test_an_older_tls_and_a_further_name_where_they_are_asked_for(lab: Lab, managed_from_elsewhere: None) -> None:
    context = ssl.create_default_context(cafile=CA)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        lab.tunnel("model", GATEWAY, 4000) as port,
        socket.create_connection(("127.0.0.1", port), timeout=LONG_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as tls,
    ):
        assert tls.version() == "TLSv1.2"


def without_key(answer: httpx.Response) -> tuple[int, str]:
    """A refusal, with the parts of the key and of its hash taken out."""
    return answer.status_code, re.sub(r"[0-9a-f]{64}|sk-\S*", "", answer.text)


def test_the_master_key_is_refused_from_outside_as_a_wrong_one_is(lab: Lab, insider: httpx.Client) -> None:
    with lab.client() as outsider, lab.client(key="sk-nobody-was-given-this-key") as stranger:
        refused, wrong = (client.post(CHAT, json=QUESTION) for client in (outsider, stranger))
    assert without_key(refused) == without_key(wrong)
    assert refused.status_code == 401
    assert lab.exchange(refused.headers["x-litellm-call-id"])["response"]["outcome"] == "refused"
    assert insider.post(CHAT, json=QUESTION).status_code == 200


def test_the_previous_master_key_does_what_the_current_one_does(lab: Lab, managed_from_elsewhere: None) -> None:
    with lab.client(key=PREVIOUS_KEY, via="gateway") as inside, lab.client(key=PREVIOUS_KEY) as outsider:
        assert inside.post(CHAT, json=QUESTION).status_code == 200
        assert inside.get("/key/list").status_code == 200
        assert outsider.post(CHAT, json=QUESTION).status_code == 401


def test_a_large_request_and_answer_pass_and_are_stored(lab: Lab, virtual_key: str) -> None:
    text = "much " * (4 << 20)  # 20 MiB
    with lab.client(key=virtual_key) as client:
        answer = client.post(CHAT, json=QUESTION | {"messages": [{"role": "user", "content": text}]})
    assert answer.json()["choices"][0]["message"]["content"] == text
    stored = lab.exchange(answer.headers["x-litellm-call-id"])
    assert stored["request"]["body_size"] > len(text)
    assert stored["response"]["outcome"] == "completed"


def test_a_stream_comes_as_it_is_made_and_a_client_that_leaves_is_noted(lab: Lab, virtual_key: str) -> None:
    with (
        lab.client(key=virtual_key) as client,
        client.stream("POST", CHAT, json=QUESTION | {"model": "slow", "stream": True}) as answer,
    ):
        # The model goes on until it is told to end: what is read here was not waited for.
        assert next(line for line in answer.iter_lines() if line).startswith("data: {")
    stored = lab.exchange(answer.headers["x-litellm-call-id"])
    assert stored["response"]["outcome"] == "client_disconnected"


def test_a_websocket_reaches_litellm(lab: Lab, virtual_key: str) -> None:
    upgrade = [
        "GET /v1/realtime?model=echo HTTP/1.1",
        *("host: gateway", "connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13"),
        *("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", f"authorization: Bearer {virtual_key}", "", ""),
    ]
    with lab.tunnel("model", GATEWAY, 4000) as port, connection(port) as tls:
        tls.sendall("\r\n".join(upgrade).encode())
        received = tls.recv(1 << 16)
    assert received.startswith(b"HTTP/1.1 101 ")


def test_another_protocol_is_not_spoken_and_the_request_is_answered(lab: Lab, virtual_key: str) -> None:
    """A parser that waits for the other protocol gives the body to nobody."""
    asks = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
    with lab.client(virtual_key) as client:
        answer = client.post(CHAT, json=QUESTION, headers=asks)
    assert answer.status_code == 200
    assert lab.exchange(answer.headers["x-litellm-call-id"])["request"]["model"] == "echo"


def test_a_restart_costs_no_request(lab: Lab, insider: httpx.Client, gateway: Host, tmp_path: Path) -> None:
    key = insider.post("/key/generate", json={"models": ["echo"]}).json()["key"]
    journal = tmp_path / "journal"
    load = Load(lab, "restart", journal, key=key, patience=LONG_SECONDS)
    try:
        for _ in range(RESTARTS):
            load.wait_for_answers()
            gateway.check_output("systemctl restart litellm.service")
            gateway.check_output("systemctl reload litellm-nginx.service")
        load.wait_for_answers()
    finally:
        load.end()
    calls = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len(calls) > RESTARTS
    assert [call for call in calls if (call["verdict"], call["status"]) != ("answered", 200)] == []


def test_the_gateway_asks_nobody_but_its_database_and_its_models(
    lab: Lab, insider: httpx.Client, gateway: Host
) -> None:
    count = f"""
        table inet third_parties {{
            chain out {{
                type filter hook output priority 0
                meta skuid "litellm" ip daddr != {{ 127.0.0.0/8, {GATEWAY}, {DATABASE}, {MODEL} }} counter
                meta skuid "litellm" meta nfproto ipv6 ip6 daddr != ::1 counter
            }}
        }}
    """
    lab.script("gateway", f"nft -f - <<'RULES'\n{count}\nRULES")
    try:
        gateway.check_output("systemctl restart litellm.service")
        for path in (
            *(
                "/get/latest_release_info",
                "/public/litellm_blog_posts",
                "/policy/templates",
                "/public/autorouter_presets",
            ),
            *(
                "/model_group/info",
                "/v1/model/info",
                "/public/litellm_model_cost_map",
                "/health/readiness/details",
                "/ui/",
            ),
        ):
            insider.get(path)
        assert insider.post("/utils/token_counter", json=QUESTION).status_code == 200
        assert insider.post(CHAT, json=QUESTION).status_code == 200
        packets = re.findall(r"packets (\d+)", gateway.check_output("nft list table inet third_parties"))
    finally:
        gateway.check_output("nft delete table inet third_parties")
    assert packets == ["0", "0"]


@pytest.mark.parametrize(
    ("alias", "unit"),
    [
        *((alias, unit) for alias in ("gateway", "model") for unit in UNITS[alias]),
        ("database", "ledger-maintenance.service"),
        *itertools.product(("gateway", "database"), ("litellm-firewall.service", "certificate-expiry.service")),
    ],
)
def test_units_have_little_to_give_away(lab: Lab, alias: str, unit: str) -> None:
    said = lab.host(alias).check_output("systemd-analyze security --no-pager %s", unit)
    found: Any = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert float(found[1]) <= HIGHEST_EXPOSURE, said
