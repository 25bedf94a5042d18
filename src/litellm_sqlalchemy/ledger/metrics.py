"""Metrics of the ledger, for Prometheus: every process keeps its own in files, and the drain shows the sum of all.

The files are those of prometheus-client's multiprocess mode. That mode itself is not used: it is switched on for a
whole process, so it would take LiteLLM's own metrics along.

A process holds the lowest number that no other one holds (`<number>.lock`), and goes on counting where the number's
last holder stopped: counters survive their process, and there are never more files than processes at a time.
"""

import fcntl
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from prometheus_client import Metric as Collected
    from prometheus_client.mmap_dict import MmapedDict

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BYTES_AT_FIRST = 1 << 16  # of a file; it is filled, because to write into a hole on a full disk kills the process

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured.

    Attributes:
        name: As Prometheus names it.
        kind: Counters and histograms are summed over all processes, gauges over those that live.
        help: What it says, in a line.
        label: Name of its label; empty if it has none.
        values: The label's values that are shown although they are zero.
        buckets: Upper limits of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)
    buckets: tuple[float, ...] = ()


OUTCOMES = ("completed", "error", "refused", "client_disconnected", "interrupted", "upstream_timeout")
EXCHANGES = Metric("ledger_exchanges_total", "counter", "Exchanges recorded by the gateway.", "outcome", OUTCOMES)
REFUSED = Metric("ledger_refused_total", "counter", "Requests answered 503 because they could not be recorded.")
UNRECORDED = Metric("ledger_unrecorded_total", "counter", "Answers served without a record of the exchange.")
OPEN_EXCHANGES = Metric("ledger_open_exchanges", "gauge", "Exchanges that have begun and not ended.")
HELD_SECONDS = Metric(
    "ledger_held_seconds",
    "histogram",
    "How long the last bytes of answers waited for their record.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, float("inf")),
)
SPOOL_RECORDS = Metric("ledger_spool_records", "gauge", "Records that wait for the database.")
SPOOL_OLDEST_AGE_SECONDS = Metric(
    "ledger_spool_oldest_age_seconds", "gauge", "Age of the oldest record that waits for the database."
)
SPOOL_BYTES = Metric("ledger_spool_bytes", "gauge", "Size of the spool on the disk.")
SPOOL_MAX_BYTES = Metric("ledger_spool_max_bytes", "gauge", "Largest size of the spool, by its setting or by its disk.")
SPOOL_ALARM = Metric("ledger_spool_alarm", "gauge", "1 if the spool is larger than its alarm threshold.")
STORED_ROWS = Metric(
    "ledger_stored_rows_total", "counter", "Rows stored in the database.", "table", ("requests", "responses", "usages")
)
REJECTED_RECORDS = Metric("ledger_rejected_records", "gauge", "Records set aside because PostgreSQL refuses them.")
DRAIN_WAITING = Metric("ledger_drain_waiting", "gauge", "1 if the drain waits for the database to come back.")
METRICS = tuple(value for value in globals().values() if isinstance(value, Metric))


class Metrics:
    """The metrics of this process. Used by one thread at a time.

    Args:
        directory: Where all processes keep them. None: nothing is measured. If it cannot be used, that is logged and
            nothing is measured: the ledger does not depend on its metrics.
    """

    def __init__(self, directory: Path | None) -> None:
        self._files: dict[str, MmapedDict] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._lock: int | None = None
        if directory is None:
            return
        try:
            self._open(directory)
        except OSError as error:
            self.close()
            logger.warning(
                "cannot keep metrics in %s, so there are none: %s. LEDGER_METRICS_DIRECTORY must be a directory with "
                "space left, in which this user can write",
                directory,
                error,
            )

    def _open(self, directory: Path) -> None:
        from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - who has no metrics need not load it

        number, self._lock = next(_free_numbers(directory))
        _file(directory, "gauge", number).unlink(missing_ok=True)
        files = {}
        for kind in ("counter", "gauge", "histogram"):
            path = _file(directory, kind, number)
            with path.open("a+b") as file:
                os.posix_fallocate(file.fileno(), 0, BYTES_AT_FIRST)
            files[kind] = MmapedDict(str(path))
        self._files = files
        for metric in METRICS:
            for value in metric.values:
                if metric.kind == "histogram":
                    for limit in metric.buckets:
                        self._change(metric, f"{limit:g}".replace("inf", "+Inf"), 0)
                self._change(metric, value, 0)

    def add(self, metric: Metric, amount: float = 1, label: str = "") -> None:
        """Count.

        Args:
            metric: A counter or a gauge.
            amount: How many; of a gauge it may be negative.
            label: The label's value.
        """
        if self._files:
            self._change(metric, label, amount)

    def set(self, metric: Metric, value: float) -> None:
        """Say how much there is.

        Args:
            metric: A gauge without label.
            value: The amount.
        """
        if self._files:
            self._files["gauge"].write_value(self._key(metric, ""), float(value), 0.0)

    def observe(self, metric: Metric, value: float) -> None:
        """Count a measurement.

        Args:
            metric: A histogram.
            value: What was measured.
        """
        if self._files:
            limit = next(limit for limit in metric.buckets if value <= limit)
            self._change(metric, f"{limit:g}".replace("inf", "+Inf"), 1)
            self._change(metric, "", value)

    def close(self) -> None:
        """Let another process go on with the files."""
        for file in self._files.values():
            file.close()
        self._files = {}
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _change(self, metric: Metric, label: str, amount: float) -> None:
        file, key = self._files[metric.kind], self._key(metric, label)
        file.write_value(key, file.read_value(key)[0] + amount, 0.0)

    def _key(self, metric: Metric, label: str) -> str:
        key = self._keys.get((metric.name, label))
        if key is None:
            from prometheus_client.mmap_dict import mmap_key  # noqa: PLC0415

            family, sample, label_name = metric.name.removesuffix("_total"), metric.name, metric.label
            if metric.kind == "histogram":
                sample, label_name = (f"{family}_bucket", "le") if label else (f"{family}_sum", "")
            names, values = ([label_name], [label]) if label_name else ([], [])
            key = self._keys[metric.name, label] = mmap_key(family, sample, names, values, metric.help)
        return key


def render(directory: Path) -> str:
    """Sum the metrics of all processes, in Prometheus' text format (`CONTENT_TYPE`).

    Args:
        directory: Where they keep them.
    """
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    files = []
    for lock in directory.glob("*.lock"):
        kinds = ("counter", "histogram", "gauge") if _is_held(lock) else ("counter", "histogram")
        files += [file for kind in kinds if (file := _file(directory, kind, int(lock.stem))).exists()]

    class All:
        def collect(self) -> Iterable["Collected"]:
            merged: Iterable[Collected] = MultiProcessCollector.merge([str(file) for file in files])
            return merged

    registry = CollectorRegistry()
    registry.register(All())
    return generate_latest(registry).decode()


def _file(directory: Path, kind: str, number: int) -> Path:
    return directory / f"{'gauge_livesum' if kind == 'gauge' else kind}_{number}.db"


def _free_numbers(directory: Path) -> Iterator[tuple[int, int]]:
    """Find numbers that no process holds, and hold them: the descriptor beside each is its lock."""
    for number in itertools.count():
        lock = os.open(directory / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            yield number, lock


def _is_held(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
