"""The metrics: what is counted is shown once, and outlives who counted it."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from litellm_sqlalchemy.ledger.metrics import (
    EXCHANGES,
    HELD_SECONDS,
    METRICS,
    OPEN_EXCHANGES,
    REFUSED,
    SPOOL_BYTES,
    Metrics,
    render,
)

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SPAWN = multiprocessing.get_context("spawn")
Kept = Callable[[], Metrics]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Metrics as of another process: each has files of its own."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Metrics(tmp_path)))


def shown(directory: Path) -> dict[str, float]:
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(render(directory))
        for sample in family.samples
    }


def test_everything_is_shown_from_the_start(tmp_path: Path, kept: Kept) -> None:
    kept()
    found = shown(tmp_path)
    assert set(found.values()) == {0}
    for metric in METRICS:
        assert any(name.startswith(metric.name) for name in found), metric.name


def test_processes_are_summed(tmp_path: Path, kept: Kept) -> None:
    one, two = kept(), kept()
    one.add(EXCHANGES, label="completed")
    one.add(EXCHANGES, label="error")
    two.add(EXCHANGES, label="completed")
    one.add(OPEN_EXCHANGES, 2)
    two.add(OPEN_EXCHANGES, 1)
    one.add(OPEN_EXCHANGES, -1)
    two.set(SPOOL_BYTES, 5)
    two.set(SPOOL_BYTES, 7)
    found = shown(tmp_path)
    assert found["ledger_exchanges_total{outcome=completed}"] == 2
    assert found["ledger_exchanges_total{outcome=error}"] == 1
    assert found["ledger_open_exchanges"] == 2
    assert found["ledger_spool_bytes"] == 7


def test_a_histogram(tmp_path: Path, kept: Kept) -> None:
    one, two = kept(), kept()
    one.observe(HELD_SECONDS, 0.0005)
    one.observe(HELD_SECONDS, 0.002)
    two.observe(HELD_SECONDS, 1_000)
    found = shown(tmp_path)
    buckets = {name: value for name, value in found.items() if name.startswith("ledger_held_seconds_bucket")}
    assert buckets["ledger_held_seconds_bucket{le=0.0005}"] == 1
    assert buckets["ledger_held_seconds_bucket{le=0.001}"] == 1
    assert buckets["ledger_held_seconds_bucket{le=0.0025}"] == 2
    assert buckets["ledger_held_seconds_bucket{le=10.0}"] == 2
    assert buckets["ledger_held_seconds_bucket{le=+Inf}"] == 3
    assert len(buckets) == len(HELD_SECONDS.buckets)
    assert found["ledger_held_seconds_count"] == 3
    assert found["ledger_held_seconds_sum"] == pytest.approx(1_000.0025)


def _count_and_wait(directory: Path, ready: "Connection[None, None]") -> None:
    metrics = Metrics(directory)
    metrics.add(REFUSED, 3)
    metrics.add(OPEN_EXCHANGES, 4)
    ready.send(None)
    signal.pause()


def test_counters_outlive_a_killed_process_and_gauges_do_not(tmp_path: Path, kept: Kept) -> None:
    for times in (1, 2):
        end, other_end = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=_count_and_wait, args=(tmp_path, other_end))
        process.start()
        end.recv()
        found = shown(tmp_path)
        assert (found["ledger_refused_total"], found["ledger_open_exchanges"]) == (3 * times, 4)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert shown(tmp_path)["ledger_refused_total"] == 3 * times
        assert "ledger_open_exchanges" not in shown(tmp_path)
    kept()
    assert shown(tmp_path)["ledger_open_exchanges"] == 0
    assert len(list(tmp_path.glob("*.db"))) == 3  # the third holder of the number has no new ones


def test_without_a_directory_nothing_is_kept_and_nothing_is_loaded(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from litellm_sqlalchemy.ledger.metrics import *\n"
        "metrics = Metrics(None)\n"
        "metrics.add(REFUSED); metrics.set(SPOOL_BYTES, 1); metrics.observe(HELD_SECONDS, 1); metrics.close()\n"
        "assert 'prometheus_client' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_used_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(tmp_path / "missing")
    metrics.add(REFUSED)
    metrics.close()
    assert f"cannot keep metrics in {tmp_path / 'missing'}, so there are none" in caplog.text


def test_litellms_own_metrics_and_ours_do_not_mix(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, prometheus_client\n"
        "from litellm_sqlalchemy.ledger.metrics import *\n"
        "from litellm_sqlalchemy.ledger.metrics import render\n"
        "prometheus_client.Counter('litellm_requests', 'theirs').inc()\n"
        "metrics = Metrics(pathlib.Path(sys.argv[1]))\n"
        "metrics.add(REFUSED)\n"
        "theirs, ours = prometheus_client.generate_latest().decode(), render(pathlib.Path(sys.argv[1]))\n"
        "assert 'litellm_requests_total 1.0' in theirs and 'ledger_' not in theirs, theirs\n"
        "assert 'ledger_refused_total 1.0' in ours and 'litellm_' not in ours and 'python_' not in ours, ours\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
