"""The real LiteLLM behind the ledger, as the gateway's unit runs it, with a scripted upstream."""

import contextlib
import importlib.metadata
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from litellm_sqlalchemy.ledger.drain import Drain
from litellm_sqlalchemy.ledger.spool import Spool
from tests.fix_postgres import Database
from tests.fix_server import serving, wait_for
from tests.gateway.fix_upstream import PROVIDER_KEY, go_on, make_upstream
from tests.ports import free_port, listens

CHECKOUT = Path(__file__).parents[2]
PINNED = importlib.metadata.version("litellm")
OLDER = ("1.83.0", "1.93.1")
NEWEST = "1.110.2"
TRIED = os.environ.get("LITELLM_RELEASE")  # by scripts/try-litellm: what runs on each release runs on it alone
RELEASES = (TRIED,) if TRIED else (*OLDER, PINNED)
# For parametrize. Between the oldest and the pinned one there is little that neither has.
EACH_RELEASE = [pytest.param(one, marks=pytest.mark.long) if one == OLDER[1] != TRIED else one for one in RELEASES]
WITH_NEWEST = (TRIED,) if TRIED else (*RELEASES, NEWEST)  # of tests about the stand-in for Prisma
MASTER_KEY = "sk-the-master-key-of-the-tests"
WRONG_KEY = "sk-a-wrong-key-of-the-tests"
Rows = Callable[[int], list[dict[str, Any]]]
CONFIG = """
model_list:
  - model_name: talks
    litellm_params:
      model: openai/talks-upstream
      api_base: {upstream}/v1
      api_key: os.environ/PROVIDER_KEY
      input_cost_per_token: 0.001
      output_cost_per_token: 0.01
  - model_name: writes
    litellm_params:
      model: text-completion-openai/writes-upstream
      api_base: {upstream}/v1
      api_key: os.environ/PROVIDER_KEY
  - model_name: ranks
    litellm_params: {{model: cohere/ranks-upstream, api_base: {upstream}, api_key: os.environ/PROVIDER_KEY}}
  - model_name: generates
    litellm_params: {{model: gemini/generates-upstream, api_base: {upstream}, api_key: os.environ/PROVIDER_KEY}}
  - &embeds
    model_name: embeds
    litellm_params: {{model: openai/any-upstream, api_base: {upstream}/v1, api_key: os.environ/PROVIDER_KEY}}
  - {{<<: *embeds, model_name: draws}}
  - {{<<: *embeds, model_name: speaks}}
  - {{<<: *embeds, model_name: hears}}
  - {{<<: *embeds, model_name: judges}}
  - {{<<: *embeds, model_name: converses}}
litellm_settings:
  num_retries: 0
  use_chat_completions_url_for_anthropic_messages: true
files_settings:
  - {{custom_llm_provider: openai, api_base: {upstream}/v1, api_key: os.environ/PROVIDER_KEY}}
general_settings:
  pass_through_endpoints:
    - path: /passed-on
      target: {upstream}/passed
      include_subpath: true
      headers: {{authorization: os.environ/PROVIDER_KEY}}
mcp_servers:
  atlas: {{url: "{upstream}/mcp", transport: http}}
"""


@dataclass(frozen=True)
class LiteLLM:
    """The running gateway."""

    release: str
    port: int
    spool: Path
    told_systemd: list[bytes]

    @property
    def provider(self) -> str | None:
        """What the headers of an answer by a model of openai/ say; older releases have none that does."""
        return None if self.release in OLDER else "openai"

    def on_disk(self) -> bytes:
        """All that the ledger has written, deleted records included."""
        return b"".join(file.read_bytes() for file in self.spool.parent.rglob("*") if file.is_file())

    def post(self, path: str, body: object, key: str = MASTER_KEY) -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{self.port}{path}", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60
        )


def interpreter(release: str) -> str:
    """The Python that has a release of LiteLLM; the tests themselves run with the pinned one's."""
    if release == PINNED:
        return sys.executable
    made = subprocess.run([CHECKOUT / "scripts/venv-with", release], check=True, stdout=subprocess.PIPE, text=True)
    return made.stdout.strip()


def site_packages(release: str) -> Path:
    """Where that Python has its packages."""
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    told = subprocess.run([interpreter(release), "-c", asked], check=True, stdout=subprocess.PIPE, text=True)
    return Path(told.stdout.strip())


@contextlib.contextmanager
def running(release: str, directory: Path, **environment: str) -> Iterator[LiteLLM]:
    """Start LiteLLM with two workers and further variables; it has two minutes to become ready."""
    credentials = directory / "credentials"
    credentials.mkdir()
    for name, secret in (
        ("LITELLM_MASTER_KEY", MASTER_KEY),
        ("PROVIDER_KEY", PROVIDER_KEY),
        ("OPENAI_API_KEY", PROVIDER_KEY),
    ):
        (credentials / name).write_text(f"{secret}\n")
    with (
        serving(make_upstream()) as upstream,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        (directory / "log").open("w") as log,
    ):
        (directory / "config.yaml").write_text(CONFIG.format(upstream=f"http://127.0.0.1:{upstream}"))
        systemd.bind(str(directory / "notify"))
        systemd.settimeout(120)
        port, spool = free_port(), directory / "spool" / "spool.sqlite3"
        process = subprocess.Popen(
            [
                *(interpreter(release), "-m", "uvicorn", "litellm_sqlalchemy.gateway:app", "--lifespan", "on"),
                *("--workers", "2", "--port", str(port)),
                # Seconds; on a busy machine a worker may be late, and a client that keeps its connection, too.
                *("--timeout-worker-healthcheck", "60", "--timeout-keep-alive", "60"),
                # It has bytes for a WebSocket's text, as uvicorn's newer protocol does not take them.
                *(("--ws", "websockets") if release == "1.83.0" else ()),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "CONFIG_FILE_PATH": str(directory / "config.yaml"),
                "CREDENTIALS_DIRECTORY": str(credentials),
                "LEDGER_SPOOL_PATH": str(spool),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_MODE": "PRODUCTION",
                "OPENAI_API_BASE": f"http://127.0.0.1:{upstream}",  # of the pass-through /openai
                "NOTIFY_SOCKET": str(directory / "notify"),
                **environment,
            },
            stdout=log,
            stderr=log,
        )
        try:
            told = [systemd.recv(100), systemd.recv(100)]  # one for each worker
            wait_for(lambda: listens(port), "uvicorn listens, which it does a moment later")
            yield LiteLLM(release, port, spool, told)
        except TimeoutError:
            raise AssertionError((directory / "log").read_text()) from None
        finally:
            go_on.set()
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="session", params=EACH_RELEASE)
def litellm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLM]:
    """One gateway for all tests of a release: it takes half a minute of CPU to start."""
    with running(request.param, tmp_path_factory.mktemp("litellm")) as started:
        yield started


@pytest.fixture
def rows(litellm: LiteLLM, ledger_database: Database) -> Iterator[Rows]:
    """Drains what a test has made, and gives so many exchanges; columns of requests begin with `request_`."""
    engine = ledger_database.engine()
    with contextlib.closing(Spool(litellm.spool)) as spool:
        spool.settle(spool.last_sequence(), closed=spool.open_exchanges())  # by a test that failed
        drain = Drain(spool, engine, batch_records=500, batch_bytes=1 << 24)

        def drained(count: int) -> list[dict[str, Any]]:
            def is_complete() -> bool:
                while drain.run_once():
                    pass
                return ledger_database.rows("SELECT count(*) FROM responses") == [{"count": count}]

            wait_for(is_complete, f"{count} exchanges")
            assert spool.status().rejected == 0
            requests = ledger_database.rows("SELECT * FROM requests ORDER BY received_at")
            responses = ledger_database.rows("SELECT * FROM responses ORDER BY received_at")
            assert [row["id"] for row in requests] == [row["id"] for row in responses]
            for row in (*requests, *responses):
                for key in (MASTER_KEY, WRONG_KEY, PROVIDER_KEY):
                    assert key not in str(row)
            return [
                {**{f"request_{name}": value for name, value in request.items()}, **response}
                for request, response in zip(requests, responses, strict=True)
            ]

        yield drained
    engine.dispose()
