"""An unmodified `litellm --config …` with our wheel in a plain environment: nothing of the checkout, no ledger."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fix_postgres import Database
from tests.fix_prisma import rows, url_of
from tests.fix_server import serving, wait_for
from tests.gateway.fix_litellm import CHECKOUT, CONFIG, MASTER_KEY
from tests.gateway.fix_managed import SALT_KEY
from tests.gateway.fix_upstream import CHAT, PROVIDER_KEY, make_upstream
from tests.ports import free_port

# As docs/leaving-prisma.md has it.
INSTALL = """
. scripts/package-index.sh
uv venv --quiet --python "$PYTHON" "$1"
uv pip sync --quiet --python "$1/bin/python" --require-hashes requirements/gateway.txt
wheel=$(scripts/wheel | sed -n 1p)
uv pip install --quiet --offline --python "$1/bin/python" --no-deps "$wheel"
"""
PRICE = 5 * 0.001 + 2 * 0.01  # of the upstream's usage
TABLES = "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY relname"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's programs."""
    venv = tmp_path_factory.mktemp("plain") / "venv"
    python = CHECKOUT / ".venv/bin/python"
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", INSTALL, "bash", venv],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHON": str(python)},
        check=True,
    )
    return venv / "bin"


def environment(plain: Path, directory: Path, url: str) -> dict[str, str]:
    return {
        "PATH": f"{plain}:/usr/bin:/bin",
        "HOME": str(directory),
        "DATABASE_URL": url,
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_SALT_KEY": SALT_KEY,
        "PROVIDER_KEY": PROVIDER_KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PROXY_BATCH_WRITE_AT": "1",
    }


def processes(directory: Path) -> dict[int, tuple[str, str]]:
    """The program and the state of all that was started with this home, whoever its parent is, and of their zombies."""
    found, home = {}, f"HOME={directory}\0".encode()
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda entry: int(entry.name)):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            name, _, rest = (entry / "stat").read_text().rpartition(")")
            state, parent, *_ = rest.split()
            if home in (entry / "environ").read_bytes() or (state == "Z" and int(parent) in found):
                found[int(entry.name)] = (name.partition("(")[2], state)
    return found


class Gateway:
    """A running one."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}"
        self._log = log
        self.programs: set[str] = set()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ask(self, method: str, path: str, body: object = None, key: str = MASTER_KEY) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.request(method, f"{self._url}{path}", json=body, headers=headers, timeout=60)

    def call(self, method: str, path: str, body: object = None, key: str = MASTER_KEY) -> Any:
        answer = self.ask(method, path, body, key)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def chat(self, key: str) -> httpx.Response:
        return self.ask("POST", CHAT, {"model": "talks", "messages": [{"role": "user", "content": "Hi"}]}, key)

    def is_ready(self) -> bool:
        self.programs |= {name for name, _ in processes(self._log.parent).values()}
        assert self.process.poll() is None, "it has ended"
        with contextlib.suppress(httpx.TransportError):
            return self.ask("GET", "/health/readiness").text == '{"status":"healthy","db":"connected"}'
        return False

    def stop(self) -> None:
        """End it as systemd does; it leaves nothing behind."""
        assert "Z" not in {state for _, state in processes(self._log.parent).values()}
        self.process.terminate()
        assert self.process.wait(60) in {0, -signal.SIGTERM}
        assert "Application shutdown complete" in self.log
        assert processes(self._log.parent) == {}


@contextlib.contextmanager
def starting(plain: Path, directory: Path, url: str) -> Iterator[Gateway]:
    """Start it; however that ends, there is none afterwards."""
    directory.mkdir()
    with serving(make_upstream()) as upstream, (directory / "log").open("w") as log:
        (directory / "config.yaml").write_text(CONFIG.format(upstream=f"http://127.0.0.1:{upstream}"))
        port = free_port()
        process = subprocess.Popen(
            [plain / "litellm", "--config", "config.yaml", "--port", str(port)],
            cwd=directory,
            env=environment(plain, directory, url),
            stdout=log,
            stderr=log,
        )
        gateway = Gateway(process, port, directory / "log")
        try:
            yield gateway
        except AssertionError as error:
            error.add_note(gateway.log)
            raise
        finally:
            for left in processes(directory):
                os.kill(left, signal.SIGKILL)
            process.wait(60)


@contextlib.contextmanager
def running(plain: Path, directory: Path, url: str) -> Iterator[Gateway]:
    """Start it, wait until it is ready, and end it."""
    with starting(plain, directory, url) as gateway:
        wait_for(gateway.is_ready, "LiteLLM is ready", 180)
        yield gateway
        gateway.stop()


@pytest.mark.long
def test_it_does_what_it_does_with_prisma(plain: Path, empty_database: Database, tmp_path: Path) -> None:
    url = url_of(empty_database)
    with running(plain, tmp_path / "first", url) as gateway:
        migrated, tables = rows(empty_database), rows(empty_database, TABLES)
        assert len(migrated) > 200
        assert all(row["finished_at"] for row in migrated)

        key = gateway.call("POST", "/key/generate", {"key_alias": "first"})["key"]
        assert gateway.chat(key).json()["choices"]
        wait_for(
            lambda: gateway.call("GET", f"/key/info?key={key}")["info"]["spend"] == pytest.approx(PRICE), "its spend"
        )
        wait_for(lambda: len(gateway.call("GET", f"/spend/logs?api_key={key}")) == 1, "its log")

        poor = gateway.call("POST", "/key/generate", {"max_budget": 0.00001})["key"]
        wait_for(lambda: "udget" in gateway.chat(poor).text, "a refusal")

        user = gateway.call("POST", "/user/new", {"user_id": "anna", "auto_create_key": False})["user_id"]
        team = gateway.call("POST", "/team/new", {"team_alias": "blue"})["team_id"]
        gateway.call("POST", "/team/member_add", {"team_id": team, "member": {"role": "user", "user_id": user}})
        assert "anna" in str(gateway.call("GET", f"/team/info?team_id={team}")["team_info"]["members_with_roles"])

        login = gateway.ask("GET", "/ui/login/")
        assert (login.status_code, login.headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert gateway.programs <= {"litellm", "prisma", "python", "python3"}, "an engine, or Node"

    with running(plain, tmp_path / "second", url) as gateway:
        assert gateway.chat(key).json()["choices"]
        assert gateway.call("GET", "/user/info?user_id=anna")["user_info"]["user_id"] == "anna"
    assert rows(empty_database) == migrated
    now = rows(empty_database, TABLES)  # what LiteLLM makes by itself in the background may have come meanwhile
    assert [one for one in tables if one not in now] == []

    done = subprocess.run(
        [plain / "litellm-sqlalchemy", "doctor"],
        env=environment(plain, tmp_path, url),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}, done.stdout
    assert f"ok       prisma command: {plain / 'prisma'}\n" in done.stdout


def test_it_refuses_genuine_prisma_beside_with_the_cure(plain: Path, migrated: Database, tmp_path: Path) -> None:
    packages = next(plain.parent.glob("lib/*/site-packages"))
    metadata = packages / "prisma-0.15.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: prisma\nVersion: 0.15.0\n")
    try:
        with starting(plain, tmp_path / "refused", url_of(migrated)) as gateway:
            wait_for(lambda: gateway.process.poll() is not None, "it ends", 180)
            assert gateway.process.returncode != 0
            assert "ImportError: prisma (prisma-client-py 0.15.0) is installed beside" in gateway.log
            assert "pip uninstall prisma" in gateway.log
    finally:
        shutil.rmtree(metadata.parent)
