"""The real LiteLLM behind the ledger, as the gateway's unit runs it, with a scripted upstream."""

import contextlib
import importlib.metadata
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.fix_server import serving
from tests.gateway.fix_upstream import PROVIDER_KEY, UPSTREAM, go_on
from tests.ports import free_port

CHECKOUT = Path(__file__).parents[2]
PINNED = importlib.metadata.version("litellm")
RELEASES = ("1.83.0", "1.93.1", PINNED)
MASTER_KEY = "sk-the-master-key-of-the-tests"
CONFIG = """
model_list:
  - model_name: talks
    litellm_params:
      model: openai/talks-upstream
      api_base: {upstream}
      api_key: os.environ/PROVIDER_KEY
      input_cost_per_token: 0.001
      output_cost_per_token: 0.01
  - model_name: writes
    litellm_params:
      model: text-completion-openai/writes-upstream
      api_base: {upstream}
      api_key: os.environ/PROVIDER_KEY
  - model_name: embeds
    litellm_params: {{model: openai/embeds-upstream, api_base: {upstream}, api_key: os.environ/PROVIDER_KEY}}
litellm_settings:
  num_retries: 0
  use_chat_completions_url_for_anthropic_messages: true
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
        return "openai" if self.release == PINNED else None

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


@contextlib.contextmanager
def running(release: str, directory: Path) -> Iterator[LiteLLM]:
    """Start LiteLLM with two workers; it has two minutes to become ready."""
    credentials = directory / "credentials"
    credentials.mkdir()
    for name, secret in (("LITELLM_MASTER_KEY", MASTER_KEY), ("PROVIDER_KEY", PROVIDER_KEY)):
        (credentials / name).write_text(f"{secret}\n")
    with (
        serving(UPSTREAM) as upstream,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        (directory / "log").open("w") as log,
    ):
        (directory / "config.yaml").write_text(CONFIG.format(upstream=f"http://127.0.0.1:{upstream}/v1"))
        systemd.bind(str(directory / "notify"))
        systemd.settimeout(120)
        port, spool = free_port(), directory / "spool" / "spool.sqlite3"
        process = subprocess.Popen(
            [
                *(interpreter(release), "-m", "uvicorn", "litellm_sqlalchemy.gateway:app", "--lifespan", "on"),
                *("--workers", "2", "--port", str(port)),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "CONFIG_FILE_PATH": str(directory / "config.yaml"),
                "CREDENTIALS_DIRECTORY": str(credentials),
                "LEDGER_SPOOL_PATH": str(spool),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_MODE": "PRODUCTION",
                "PYTHONPATH": str(CHECKOUT / "src"),
                "NOTIFY_SOCKET": str(directory / "notify"),
            },
            stdout=log,
            stderr=log,
        )
        try:
            told = [systemd.recv(100), systemd.recv(100)]  # one for each worker
            yield LiteLLM(release, port, spool, told)
        except TimeoutError:
            raise AssertionError((directory / "log").read_text()) from None
        finally:
            go_on.set()
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="session", params=RELEASES)
def litellm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLM]:
    """One gateway for all tests of a release: it takes half a minute of CPU to start."""
    with running(request.param, tmp_path_factory.mktemp("litellm")) as started:
        yield started
