"""The drain, run as its unit runs it, and the ledger's files and settings in a directory."""

import contextlib
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import processes
from tests.fix_postgres import LEDGER_PASSWORD, Database
from tests.ports import free_port

UNIT = Path(__file__).parents[2] / "roles/litellm_gateway/templates/ledger-drain.service.j2"
POLL_SECONDS = 0.005


def spool_path(directory: Path) -> Path:
    """Say where the spool is."""
    return directory / "spool" / "spool.sqlite3"


def environment(directory: Path, database: Database) -> dict[str, str]:
    """Give the settings of the ledger's parts; makes the directory of the metrics."""
    metrics = directory / "metrics"
    metrics.mkdir(mode=0o700, exist_ok=True)
    return {
        "LEDGER_SPOOL_PATH": str(spool_path(directory)),
        "LEDGER_METRICS_DIRECTORY": str(metrics),
        "LEDGER_METRICS_PORT": str(free_port()),
        **database.environment(),
    }


@contextlib.contextmanager
def draining(directory: Path, database: Database) -> Iterator[None]:
    """Run the drain; it is ready."""
    credentials = directory / "credentials"
    credentials.mkdir(mode=0o700, exist_ok=True)
    (credentials / "ledger_database_password").write_text(LEDGER_PASSWORD)
    settings = {
        **environment(directory, database),
        "PATH": os.environ["PATH"],
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    (nice,) = re.findall(r"^Nice=(\d+)$", UNIT.read_text(), re.MULTILINE)
    command = ["nice", "-n", nice, sys.executable, "-m", "litellm_sqlalchemy.cli", "drain"]
    log = directory / "drain.log"
    with processes.running(command, settings, log) as process:
        processes.wait_for_lines(log, "action=started", 1, process)
        yield


def wait_until_empty(directory: Path, seconds: float) -> None:
    """Wait until the drain has taken everything out of the spool.

    Raises:
        RuntimeError: It has not after so many seconds.
    """
    give_up = time.monotonic() + seconds
    with contextlib.closing(sqlite3.connect(spool_path(directory), timeout=seconds)) as connection:
        while connection.execute("SELECT 1 FROM records LIMIT 1").fetchone():
            if time.monotonic() > give_up:
                log = (directory / "drain.log").read_text()
                raise RuntimeError(f"the spool is not empty after {seconds:.0f} s; the drain says:\n{log[-4_000:]}")
            time.sleep(POLL_SECONDS)
