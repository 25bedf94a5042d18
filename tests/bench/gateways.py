"""The gateways that are compared: the same LiteLLM, with the same configuration and upstream, started in four ways."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jinja2
import yaml

from tests.bench import load, processes, service
from tests.fix_postgres import OWNER_PASSWORD, Database
from tests.ports import free_port

HERE = Path(__file__).parents[2]
UNIT = (HERE / "roles/litellm_gateway/templates/litellm.service.j2").read_text()
KEY = "sk-the-master-key-of-the-benchmark"
STOP_SECONDS = 60

Kind = Literal["ledger", "none", "orm", "stock", "recorded", "bare"]
KINDS: tuple[Kind, ...] = ("ledger", "none", "orm", "stock")
SMALL: tuple[Kind, ...] = ("recorded", "bare")
APPLICATIONS: dict[Kind, str] = {
    "ledger": "litellm_sqlalchemy.gateway:app",
    "none": "litellm.proxy.proxy_server:app",
    "orm": "litellm.proxy.proxy_server:app",
    "recorded": "tests.bench.small_app:recorded",
    "bare": "tests.bench.small_app:bare",
}
MEANING: dict[Kind, str] = {
    "ledger": "as role litellm_gateway deploys it: its unit's command line and variables",
    "none": "the same command line and variables, for LiteLLM's own application",
    "orm": "as without, and LiteLLM's success callback opens a session of SQLAlchemy's ORM, adds a row, commits",
    "stock": "`litellm --config … --num_workers N`, where httptools and opentelemetry-sdk are not installed",
}


@dataclass(frozen=True)
class Gateway:
    """A running gateway.

    Attributes:
        kind: Which of the four.
        port: Where it listens on loopback.
        worker_pids: Its workers; what they started is below them.
        pid: The process that was started, which is the worker itself if there is one.
    """

    kind: Kind
    port: int
    pid: int
    worker_pids: list[int]

    async def connect(self, connections: int) -> list[load.Connection]:
        """Open connections, as many to each worker: those of the others cannot accept meanwhile."""
        opened: list[load.Connection] = []
        for number, worker in enumerate(self.worker_pids):
            others = [pid for pid in self.worker_pids if pid != worker]
            share = connections // len(self.worker_pids) + (number < connections % len(self.worker_pids))
            try:
                for other in others:
                    os.kill(other, signal.SIGSTOP)
                opened += await asyncio.gather(*(self._connect() for _ in range(share)))
            finally:
                for other in others:
                    os.kill(other, signal.SIGCONT)
        return opened

    async def _connect(self) -> load.Connection:
        connection = await load.connect(self.port)
        await connection.ask(b"GET /health/liveliness HTTP/1.1\r\nhost: gateway\r\n\r\n")
        return connection


def unit_command(application: str, port: int, workers: int) -> list[str]:
    """Give the unit's own command line, for this application, with this machine's Python and a port of loopback."""
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    words = (
        jinja2.Template(line)
        .render(
            litellm_gateway_workers=workers,
            litellm_gateway_stop_timeout=STOP_SECONDS,
        )
        .replace("--fd 3", f"--host 127.0.0.1 --port {port}")
        .split()
    )
    return [sys.executable, "-m", "uvicorn", application, *words[2:]]


def unit_environment() -> dict[str, str]:
    """Give the variables that the unit sets for LiteLLM."""
    return dict(re.findall(r"^Environment=(LITELLM_\w+)=(.*)$", UNIT, re.MULTILINE))


def configuration(upstream: int, *, callbacks: list[str]) -> str:
    """Write LiteLLM's configuration: one model, of which LiteLLM knows the price."""
    parameters = {"model": "openai/gpt-4o-mini", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "sk-none"}
    return yaml.safe_dump(
        {
            "model_list": [{"model_name": "bench", "litellm_params": parameters}],
            "litellm_settings": {"telemetry": False, "request_timeout": 600, "callbacks": callbacks},
            "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        }
    )


class Workplace:
    """The files and addresses that the gateways of a run have in common.

    Args:
        directory: A directory on the disk that is to be measured.
        database: Where the ledger's rows, and those of the usual design, go.
        upstream: Port of the scripted model.
        database_url: Of LiteLLM's own database; None: it has none.
    """

    def __init__(self, directory: Path, database: Database, upstream: int, *, database_url: str | None = None) -> None:
        self._database_url = database_url
        self.directory = directory
        self.database = database
        self._configurations = {kind: directory / f"config-{kind}.yaml" for kind in (*KINDS, *SMALL)}
        for kind, file in self._configurations.items():
            callbacks = ["tests.bench.orm_callback.logger"] if kind == "orm" else []
            file.write_text(configuration(upstream, callbacks=callbacks))
        # Their import fails, as where nobody has installed them: LiteLLM's own dependencies have them not.
        for module in ("httptools", "opentelemetry/sdk"):
            (directory / "stock" / module).mkdir(parents=True)
            (directory / "stock" / module / "__init__.py").write_text("raise ModuleNotFoundError\n")

    def _environment(self, kind: Kind) -> dict[str, str]:
        server = self.database.cluster
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LITELLM_MASTER_KEY": KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # stock, too: else it waits for the internet at start
        }
        if kind == "stock":
            return {**environment, "PYTHONPATH": str(self.directory / "stock")}
        return {
            **environment,
            **unit_environment(),
            **service.environment(self.directory, self.database),
            **({} if self._database_url is None else {"DATABASE_URL": self._database_url}),
            "CONFIG_FILE_PATH": str(self._configurations[kind]),
            "PYTHONPATH": str(HERE),
            "BENCH_ORM_URL": f"postgresql+psycopg2://litellm_owner:{OWNER_PASSWORD}@{server.host}:{server.port}"
            f"/{self.database.name}",
        }

    def _command(self, kind: Kind, port: int, workers: int) -> list[str]:
        if kind == "stock":
            program = str(Path(sys.executable).with_name("litellm"))
            return [
                *(sys.executable, program, "--config", str(self._configurations[kind])),
                *("--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers)),
                *("--timeout_worker_healthcheck", "60"),  # seconds: else a busy machine never has all of them
            ]
        return unit_command(APPLICATIONS[kind], port, workers)

    @contextlib.contextmanager
    def gateways(self, kinds: tuple[Kind, ...], workers: int) -> Iterator[dict[Kind, Gateway]]:
        """Run gateways at the same time, one of each kind; all workers are up."""
        with contextlib.ExitStack() as stack:
            found: dict[Kind, Gateway] = {}
            waiting: dict[Kind, Callable[[], Gateway]] = {}
            for kind in kinds:
                waiting[kind] = self._start(stack, kind, workers)
                if workers > 1:  # one after the other: uvicorn kills workers that take too long to start
                    found[kind] = waiting.pop(kind)()
            found |= {kind: wait() for kind, wait in waiting.items()}
            yield found

    def _start(self, stack: contextlib.ExitStack, kind: Kind, workers: int) -> Callable[[], Gateway]:
        """Start a gateway, which ends with the stack; gives what waits for it."""
        port, log = free_port(), self.directory / f"{kind}-{workers}.log"
        command, environment = self._command(kind, port, workers), self._environment(kind)
        process = stack.enter_context(processes.running(command, environment, log))

        def wait() -> Gateway:
            processes.wait_for_lines(log, "Application startup complete", workers, process)
            processes.wait_for_port(port, process)  # which uvicorn listens at a moment later
            return Gateway(kind, port, process.pid, processes.workers(process.pid))

        return wait


@contextlib.contextmanager
def scripted_upstream(directory: Path) -> Iterator[int]:
    """Run the scripted model; gives its port."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.upstream", str(port)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE)}
    with processes.running(command, environment, directory / "upstream.log") as process:
        processes.wait_for_port(port, process)
        yield port
