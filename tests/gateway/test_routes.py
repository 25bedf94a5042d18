"""What is recorded of all routes that LiteLLM has: a new release may bring one that answers with secrets.

`routes/RELEASE.txt` has the routes that are recorded with their bodies (full) or not at all (ignored). All others are
recorded without bodies.
"""

import contextlib
import json
import os
import re
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from litellm_sqlalchemy.ledger.asgi import Receive, Scope, Send
from litellm_sqlalchemy.ledger.capture import Ledger
from litellm_sqlalchemy.ledger.head import Rules
from litellm_sqlalchemy.ledger.spool import Spool, SpooledRecord
from litellm_sqlalchemy.settings import CaptureSettings
from tests.fix_server import serving
from tests.gateway.fix_litellm import EACH_RELEASE, interpreter

HERE = Path(__file__).parent
KEY_IN_PATH = "sk-a-key-in-a-path"


async def answer_with_a_key(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with a fresh key, as some of LiteLLM's routes do."""
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"sk-{uuid.uuid4().hex}".encode()})


def routes_of(release: str) -> list[str]:
    done = subprocess.run(
        [interpreter(release), HERE / "routes_of_litellm.py"],
        env={"PATH": os.environ["PATH"], "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout.splitlines()


def capture_of(records: list[SpooledRecord]) -> str:
    """How an exchange was recorded, as the settings say it."""
    if not records:
        return "ignored"
    assert [record.kind for record in records] == ["request", "response"]
    kept = {record.body is not None for record in records}
    assert len(kept) == 1
    return "full" if kept == {True} else "metadata"


@pytest.mark.parametrize("release", EACH_RELEASE)
def test_every_route(release: str, tmp_path: Path) -> None:
    routes = routes_of(release)
    assert len(routes) > 600
    path = tmp_path / "spool" / "spool.sqlite3"
    with (
        serving(Ledger(answer_with_a_key, CaptureSettings(spool_path=path))) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        ThreadPoolExecutor(8) as threads,
    ):

        def ask(route: str) -> tuple[str, str]:
            key = f"sk-{uuid.uuid4().hex}"
            headers = {"authorization": f"Bearer {key}", "x-litellm-call-id": route}
            url = re.sub(r"\{[^}]*\}", KEY_IN_PATH, route)
            return key, client.post(url, content=key, params={"key": key}, headers=headers).text

        keys = dict(zip(routes, threads.map(ask, routes), strict=True))
    with contextlib.closing(Spool(path)) as spool:
        recorded: dict[str, list[SpooledRecord]] = {route: [] for route in routes}
        for record in spool.read(10_000, 1 << 30):
            recorded[json.loads(record.facts)["call_id"]].append(record)
    found = [(capture_of(records), route) for route, records in recorded.items()]

    on_disk = b"".join(file.read_bytes() for file in path.parent.rglob("*") if file.is_file())
    secrets = [key for capture, route in found if capture != "full" for key in keys[route]]
    assert [secret for secret in (KEY_IN_PATH, *secrets) if secret.encode() in on_disk] == []
    for capture, route in found:
        if capture == "full":
            assert [record.body for record in recorded[route]] == [key.encode() for key in keys[route]]

    # What is managed may have any name, of those that are in other paths as well.
    rules = Rules(CaptureSettings(spool_path=path))
    for name, parameter in (("mcp", r"\{[^}]*\}"), ("x/v1/files", r"\{[^}]*:path\}"), ("v1/files", r"\{[^}]*:path\}")):
        named = {re.sub(parameter, name, route) for capture, route in found if capture == "metadata"}
        assert [other for other in named if "{" not in other and rules.is_full(other)] == []

    kept = [f"{capture} {route}" for capture, route in found if capture != "metadata"]
    listed = (HERE / f"routes/{release}.txt").read_text().splitlines()
    assert kept == listed, (
        f"LiteLLM {release} has other routes than routes/{release}.txt, or they are recorded otherwise. Read what each "
        "that differs takes and answers. If it is a model's work, list it; if it has secrets, add it to METADATA_PATHS "
        "in settings.py"
    )
