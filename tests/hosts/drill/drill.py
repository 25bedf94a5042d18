"""The drill: a lab under load, one fault after the other, and then a count of what was answered against the tables.

usage: python -m tests.hosts.drill.drill    in a lab that LAB_NAME names (scripts/drill-ledger makes it)

FAULTS: some of the faults' names, with commas. By default it is all of them, and what was found goes into FINDINGS.md
and findings/drill-ledger.json. Ends with 1 if anything is wrong.
"""

import contextlib
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.hosts.drill import client, count
from tests.hosts.drill.faults import FAULTS, Fault
from tests.hosts.lab import CA, CHECKOUT, GATEWAY, MODEL, Lab, eventually, lab_of_the_environment

ENOUGH_CALLS = 30
WORKERS = 2
MODEL_NAME = "echo"
ECHO = {
    "model_name": MODEL_NAME,
    "litellm_params": {"model": "openai/echo", "api_base": f"http://{MODEL}:8090/echo/v1", "api_key": "none"},
}
PSQL = "sudo runuser --user postgres -- psql --no-psqlrc -qAtX --dbname=litellm_db"
IN_SPOOL = """runuser --user litellm -- python3 - <<'PROGRAM'
import sqlite3
spool = sqlite3.connect("/var/lib/litellm/spool/spool.sqlite3", timeout=60)
print(spool.execute("SELECT count(*) FROM records").fetchone()[0])
PROGRAM
"""
WITHOUT_RESPONSE = (
    "SELECT 1 FROM requests LEFT JOIN responses USING (received_at, id) WHERE responses.id IS NULL LIMIT 1"
)
VERSIONS = """
. /etc/os-release
echo "$PRETTY_NAME"
/opt/litellm/current/bin/python - <<'PROGRAM'
import importlib.metadata, platform
print("Python", platform.python_version())
for name in ("litellm", "uvicorn"):
    print(name, importlib.metadata.version(name))
PROGRAM
"""
FINDINGS, FIGURES = CHECKOUT / "FINDINGS.md", CHECKOUT / "findings/drill-ledger.json"
BEGIN, END = "<!-- drill-ledger: written by `make drill-ledger` -->\n", "<!-- drill-ledger: end -->\n"


class Load:
    """A client at work in a process of its own, in the lab's network; it goes on until the `with` ends.

    Args:
        lab: Whose gateway is asked.
        label: What the calls' ids begin with.
        journal: The file for what became of each call.
        key: The gateway's key; by default the inventory's master key.
        port: The gateway's port.
        patience: Seconds for which a call waits for a gateway that says nothing.
    """

    def __init__(
        self,
        lab: Lab,
        label: str,
        journal: Path,
        key: str | None = None,
        port: int = 4000,
        patience: float = client.PATIENCE_SECONDS,
    ) -> None:
        url = f"https://{GATEWAY}:{port}"
        program = str(CHECKOUT / "tests/hosts/drill/client.py")
        self._journal = journal
        with journal.open("w") as file:
            self._process = subprocess.Popen(
                lab.on_network(sys.executable, program, url, str(CA), MODEL_NAME, label, str(patience)),
                stdin=subprocess.PIPE,
                stdout=file,
                text=True,
            )
        assert self._process.stdin
        self._process.stdin.write(f"{key or lab.secrets['litellm_gateway_master_key']}\n")
        self._process.stdin.flush()

    def wait_for_answers(self) -> None:
        """Wait until enough calls that begin from now on have been answered."""
        now = time.time()
        eventually(lambda: sum(call["began"] > now and call["status"] == 200 for call in self._calls()) >= ENOUGH_CALLS)

    def _calls(self) -> list[dict[str, Any]]:
        lines = self._journal.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def end(self) -> None:
        """Let the calls in flight come to their end."""
        self._process.communicate()
        assert self._process.returncode == 0


def under_load(lab: Lab, label: str, fault: Fault, journal: Path, **client: Any) -> float:
    """Bring a fault while a client asks, and wait until all is well again: calls are answered, the spool is empty.

    Args:
        lab: Where.
        label: What the calls' ids begin with.
        fault: What to do.
        journal: The file for what became of each call.
        client: Further arguments of `Load`.

    Returns:
        The seconds from the end of the load until the spool was empty.
    """
    load = Load(lab, label, journal, **client)
    try:
        load.wait_for_answers()
        fault(lab, load.wait_for_answers)
        load.wait_for_answers()
    finally:
        load.end()
    began = time.monotonic()
    eventually(lambda: int(lab.script("gateway", IN_SPOOL)) == 0)
    return time.monotonic() - began


def compare(lab: Lab, journals: Sequence[Path]) -> dict[str, Any]:
    """Count what the journals say against the tables (see `count.count`)."""
    return count.count(journals, ["ssh", "-F", lab.ssh_config, "database", PSQL])


@contextmanager
def _quiet(log: Path) -> Generator[None]:
    """Playbooks tell the log what they do."""
    with log.open("a") as file, contextlib.redirect_stdout(file):
        yield


def _say(text: str) -> None:
    print(f"{dt.datetime.now(dt.UTC):%H:%M:%S} {text}", flush=True)  # noqa: T201


def _conditions(lab: Lab) -> dict[str, Any]:
    git = ("git", "describe", "--always", "--dirty", "--exclude=*")
    versions = [
        *lab.script("gateway", VERSIONS).splitlines(),
        lab.sql("SELECT version()")[0]["version"].partition(" on ")[0],
    ]
    return {
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        "commit": subprocess.run(git, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip(),
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}, three hosts by systemd-nspawn on it",
        "versions": versions,
        "load": f"{client.CONCURRENCY} callers, at most {client.CALLS_PER_SECOND} calls/s, every other one streamed",
        "workers": WORKERS,
    }


def _write_findings(found: dict[str, Any]) -> None:
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    conditions, counted = found["conditions"], found["count"]
    total = counted["sum"]
    said = "\n".join(f"| {name} | {FAULTS[name].__doc__} | {seconds} |" for name, seconds in found["drained"].items())
    section = f"""{BEGIN}
## The ledger under faults

`make drill-ledger`, {conditions["date"]}, commit {conditions["commit"]}: **answered {total["answered"]:,}, in tables
{total["in tables"]:,}, missing {total["missing"]}, twice {total["twice"]}, altered {total["altered"]}.**

A client on the controller asks the gateway ({conditions["load"]}; a scripted provider that answers at once, so
that the model is not the limit) and keeps a record of what it was answered, while one fault after the other is
brought. At the end `tests/hosts/drill/count.py` compares that record with the tables by SQL: each request's body, each
answer's body (of a stream: its events) and status, byte for byte. It knows nothing of the ledger's code.

Conditions: {conditions["machine"]}; {", ".join(conditions["versions"])}; {conditions["workers"]} workers.

{count.table(counted)}

*answered*: the client has the end of the answer, whatever its status. *refused*: the gateway said that it can't record,
503. *unanswered*: no end came; *no row*: the request never came as far as the spool, for example because nobody
listened; *no outcome*: a request is there and its response is not.

| fault | what is done | spool empty after, s |
|---|---|---|
{said}

Not shown by this: that fsync is true. A host's power is cut by killing all that runs on it; the machine's page cache
survives that. A disk that lies about fsync loses what it has not written, here as anywhere.

{END}"""
    text = FINDINGS.read_text() if FINDINGS.exists() else "# Findings\n"
    before, begin, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if begin else ""
    FINDINGS.write_text(f"{before.rstrip()}\n\n{section}{after}")


def main() -> int:
    lab = lab_of_the_environment()
    names = [name for name in os.environ.get("FAULTS", "").split(",") if name] or list(FAULTS)
    if unknown := set(names) - FAULTS.keys():
        print(f"FAULTS has {', '.join(sorted(unknown))}; there are: {', '.join(FAULTS)}", file=sys.stderr)  # noqa: T201
        return 2
    journals = lab.directory / "journals"
    journals.mkdir(exist_ok=True)
    log = lab.directory / "drill.log"
    began = time.monotonic()
    _say(f"Install the gateway with two workers (site.yml; its output is in {log.relative_to(CHECKOUT)})")
    with _quiet(log):
        installed = lab.playbook(variables={"litellm_gateway_workers": WORKERS, "litellm_gateway_models": [ECHO]})
    if not installed.succeeded:
        subprocess.run(["scripts/explain", str(log)], cwd=CHECKOUT, check=False)
        return 1
    drained, failed = {}, {}
    run = dt.datetime.now(dt.UTC).strftime("%H%M%S")  # a second drill in the same lab has other ids
    with lab.upstream():
        for name in names:
            _say(f"{name}: {FAULTS[name].__doc__}")
            try:
                with _quiet(log):
                    drained[name] = round(under_load(lab, name, FAULTS[name], journals / f"{name}.{run}.jsonl"), 1)
            except (AssertionError, subprocess.CalledProcessError) as error:
                failed[name] = f"{type(error).__name__}: {error} {getattr(error, 'stderr', '')}"
                _say(f"{name} failed: {failed[name]}")
    with contextlib.suppress(AssertionError):  # then the count says how many
        eventually(lambda: not lab.sql(WITHOUT_RESPONSE))
    counted = compare(lab, sorted(journals.glob(f"*.{run}.jsonl"), key=lambda path: path.stat().st_mtime))
    counted["passed"] = counted["passed"] and not failed
    found = {
        "conditions": _conditions(lab),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "count": counted,
        "drained": drained,
        "failed": failed,
    }
    if names == list(FAULTS):
        _write_findings(found)
    print(f"\n{count.table(counted)}\n")  # noqa: T201
    for problem in [*counted["problems"], *(f"{name}: {reason}" for name, reason in failed.items())]:
        print(problem)  # noqa: T201
    _say(f"{'passed' if counted['passed'] else 'FAILED'} after {found['minutes']} minutes")
    return 0 if counted["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
