"""The processes of a run: started with logs, measured through /proc, and none of them left behind."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.ports import listens

PATIENCE_SECONDS = 180
TICKS = os.sysconf("SC_CLK_TCK")
KILOBYTE = 1_024


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command in a session of its own; at the end, whatever the end is, it and what it started are killed."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGKILL to a process, to those that it started, and to the rest of its session."""
    kill_tree(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_tree(pid: int) -> None:
    """Send SIGKILL to a process and to all below it."""
    for one in tree(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def wait_for_lines(log: Path, pattern: str, count: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a log has so many lines with this pattern.

    Raises:
        RuntimeError: The process ended, or it took too long; with the end of the log.
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    while len(re.findall(pattern, text := log.read_text(errors="replace"))) < count:
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"no {count} lines {pattern!r} in {log}, which ends with:\n{text[-4_000:]}")
        time.sleep(0.005)


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until somebody listens there.

    Raises:
        RuntimeError: The process ended.
    """
    while not listens(port):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with code {process.returncode}")
        time.sleep(0.05)


def _stat(pid: int) -> list[str]:
    """Give the fields of /proc/PID/stat from the third on: the second may have anything in it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = int(_stat(int(entry.name))[1])
    return found


def children(pid: int) -> list[int]:
    """Give the processes that one has started."""
    return sorted(child for child, parent in _parents().items() if parent == pid)


def tree(pid: int) -> list[int]:
    """Give a process and all below it."""
    parents = _parents()
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def workers(pid: int) -> list[int]:
    """Give uvicorn's workers: the processes that it has spawned, or itself."""
    spawned = [child for child in children(pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return spawned or [pid]


def cpu_seconds(pid: int) -> float:
    """Give the time that a process and all below it have spent on a CPU."""
    spent = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = _stat(one)
            spent += int(fields[11]) + int(fields[12])
    return spent / TICKS


def memory(pid: int) -> dict[str, float]:
    """Give the memory in MB of a process and all below it: rss; pss (what is shared is divided); private."""
    found = dict.fromkeys(("rss", "pss", "private"), 0.0)
    names = {"Rss": "rss", "Pss": "pss", "Private_Clean": "private", "Private_Dirty": "private"}
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in names:
                    found[names[name]] += int(value.split()[0]) * KILOBYTE / 1e6
    return found
