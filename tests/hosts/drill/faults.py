"""What can go wrong, done to a lab: each function brings one fault, and takes away what does not end by itself.

Beside the lab it gets a function that waits until clients are answered again, as they are when it begins.
"""

import contextlib
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tests.hosts.lab import DATABASE, Lab, eventually

KILLS = 3
SHORT_SECONDS = 10.0
LONG_SECONDS = 60.0
POSTGRESQL = "postgresql@17-main.service"
DATA = "/var/lib/postgresql/17/main"
SPOOL = "/var/lib/litellm/spool"
PSQL = "runuser --user postgres -- env PGOPTIONS='-c default_transaction_read_only=off' psql -qAtX --dbname=litellm_db"
# The workers are what uvicorn's supervisor spawned, beside multiprocessing's own resource tracker.
WORKERS = "pgrep --parent $(systemctl show --property=MainPID --value litellm.service) --full spawn_main"
FILL = "dd if=/dev/zero of={0}/filler bs=4k 2>/dev/null || df {0} | grep --silent 100%"

Answered = Callable[[], None]
Fault = Callable[[Lab, Answered], None]
FAULTS: dict[str, Fault] = {}


def _fault(function: Fault) -> Fault:
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


def _repeatedly(kill: Callable[[], object], answered: Answered) -> None:
    for _ in range(KILLS):
        kill()
        answered()


def _sql(lab: Lab, statements: str, **variables: str) -> str:
    """Give PostgreSQL's administrator statements, which have the variables as :'name'."""
    options = " ".join(f"--set={name}={shlex.quote(value)}" for name, value in variables.items())
    return lab.script("database", f"{PSQL} --set=ON_ERROR_STOP=1 {options} <<'SQL'\n{statements}\nSQL\n").strip()


def _sql_if_it_can(lab: Lab, statements: str) -> str:
    """Nothing, while PostgreSQL is away."""
    try:
        return _sql(lab, statements)
    except subprocess.CalledProcessError:
        return ""


def _workers(lab: Lab) -> list[str]:
    return lab.script("gateway", f"{WORKERS} || true").split()


def _role(lab: Lab) -> str:
    """The drain's role in the database."""
    role = lab.script("gateway", "sed --quiet 's/^LEDGER_DATABASE_USER=//p' /etc/litellm/ledger.env").strip()
    assert re.fullmatch(r"\w+", role)
    return role


@_fault
def nothing(_: Lab, answered: Answered) -> None:
    """No fault: what the load alone does."""
    answered()


@_fault
def kill_worker(lab: Lab, answered: Answered) -> None:
    """kill -9 of a gateway's worker, three times."""

    def kill() -> None:
        pids = eventually(lambda: found if len(found := _workers(lab)) > 1 else None)
        lab.script("gateway", f"kill -KILL {pids[0]}")

    _repeatedly(kill, answered)


@_fault
def kill_writer(lab: Lab, answered: Answered) -> None:
    """kill -9 of a worker's child that writes the spool, three times."""

    def kill() -> None:
        pids = eventually(lambda: lab.script("gateway", f"pgrep --parent $({WORKERS} | paste -sd,) || true").split())
        lab.script("gateway", f"kill -KILL {pids[0]}")

    _repeatedly(kill, answered)


@_fault
def kill_master(lab: Lab, _: Answered) -> None:
    """kill -9 of uvicorn's supervisor; systemd kills the rest, and starts all anew."""
    lab.script("gateway", "systemctl kill --kill-whom=main --signal=KILL litellm.service")


@_fault
def kill_drain(lab: Lab, answered: Answered) -> None:
    """kill -9 of the drain, three times."""

    def kill() -> None:
        lab.script(
            "gateway",
            "systemctl is-active --quiet ledger-drain || systemctl start ledger-drain\n"
            "systemctl kill --signal=KILL ledger-drain.service",
        )

    _repeatedly(kill, answered)


@_fault
def kill_backend(lab: Lab, answered: Answered) -> None:
    """kill -9 of the PostgreSQL backend that serves the drain, three times; all of PostgreSQL recovers from a crash."""
    which = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ledger-drain'"
    _repeatedly(
        lambda: lab.script("database", f"kill -KILL {eventually(lambda: _sql_if_it_can(lab, which)).split()[0]}"),
        answered,
    )


@_fault
def kill_postmaster(lab: Lab, _: Answered) -> None:
    """kill -9 of PostgreSQL's first process; systemd starts it anew."""
    start = "SELECT pg_postmaster_start_time()"
    before = _sql(lab, start)
    lab.script("database", f"kill -KILL $(head --lines=1 {DATA}/postmaster.pid)")
    eventually(lambda: _sql_if_it_can(lab, start) not in {"", before})


@_fault
def restart_units(lab: Lab, _: Answered) -> None:
    """A restart of each unit, all in a row."""
    lab.script("gateway", "systemctl restart ledger-drain litellm")
    lab.script("database", f"systemctl restart {POSTGRESQL}")


@_fault
def stop_database(lab: Lab, _: Answered) -> None:
    """PostgreSQL is stopped for a minute."""
    _stop_postgresql(lab, LONG_SECONDS)


def stop_database_shortly(lab: Lab, _: Answered) -> None:
    """PostgreSQL is stopped for some seconds."""
    _stop_postgresql(lab, SHORT_SECONDS)


def _stop_postgresql(lab: Lab, seconds: float) -> None:
    lab.script("database", f"systemctl stop {POSTGRESQL}")
    time.sleep(seconds)
    lab.script("database", f"systemctl start {POSTGRESQL}")


@_fault
def read_only(lab: Lab, _: Answered) -> None:
    """The database takes no writes."""
    _sql(lab, "ALTER SYSTEM SET default_transaction_read_only = on;\nSELECT pg_reload_conf();")
    time.sleep(SHORT_SECONDS)
    _sql(lab, "ALTER SYSTEM RESET default_transaction_read_only;\nSELECT pg_reload_conf();")


@_fault
def wrong_password(lab: Lab, _: Answered) -> None:
    """The drain's password is wrong."""
    role = _role(lab)
    right = _sql(lab, "SELECT rolpassword FROM pg_authid WHERE rolname = :'role'", role=role)
    away = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :'role'"
    _sql(lab, f"ALTER ROLE :role PASSWORD 'not the password';\n{away};", role=role)
    time.sleep(SHORT_SECONDS)
    _sql(lab, "ALTER ROLE :role PASSWORD :'right'", role=role, right=right)


@_fault
def partition(lab: Lab, _: Answered) -> None:
    """What lies between the gateway and the database host drops every packet."""
    with lab.partition():
        time.sleep(SHORT_SECONDS)


@_fault
def link_down(lab: Lab, _: Answered) -> None:
    """The database host's link is down."""
    link = ("ip", "link", "set", "vb-database-1")
    subprocess.run(lab.on_network(*link, "down"), check=True)
    time.sleep(SHORT_SECONDS)
    subprocess.run(lab.on_network(*link, "up"), check=True)


@_fault
def reject(lab: Lab, _: Answered) -> None:
    """A firewall resets every connection to the database."""
    lab.script(
        "gateway",
        f"""
        nft add table inet drill
        nft add chain inet drill out '{{ type filter hook output priority 0; }}'
        nft add rule inet drill out ip daddr {DATABASE} reject with tcp reset
        """,
    )
    time.sleep(SHORT_SECONDS)
    lab.script("gateway", "nft delete table inet drill")


@_fault
def power_cut_gateway(lab: Lab, _: Answered) -> None:
    """The gateway host's power is cut."""
    lab.act("power_cut", "gateway")
    lab.act("start", "gateway")


@_fault
def power_cut_database(lab: Lab, _: Answered) -> None:
    """The database host's power is cut."""
    lab.act("power_cut", "database")
    time.sleep(SHORT_SECONDS)
    lab.act("start", "database")


@_fault
def reboot(lab: Lab, _: Answered) -> None:
    """Both hosts are rebooted at once."""
    hosts = ("gateway", "database")
    before = {host: _boot(lab, host) for host in hosts}
    for host in hosts:
        with contextlib.suppress(subprocess.CalledProcessError):  # it may take the connection away at once
            lab.script(host, "systemctl --no-block reboot")
    for host in hosts:
        eventually(lambda host=host: _boot(lab, host) not in {"", before[host]})  # type: ignore[misc] # bound at once


@_fault
def disk_full_database(lab: Lab, answered: Answered) -> None:
    """The disk of PostgreSQL's data is full."""
    with _small_disk(lab, "database", DATA, POSTGRESQL, spare_mb=128):
        lab.script("database", FILL.format(DATA))
        time.sleep(SHORT_SECONDS * 2)  # PostgreSQL has some pages at hand
        lab.script("database", f"rm {DATA}/filler")
        eventually(lambda: _sql_if_it_can(lab, "CREATE TEMPORARY TABLE room AS SELECT 1; SELECT 1"))
        answered()


@_fault
def disk_full_spool(lab: Lab, answered: Answered) -> None:
    """The disk of the gateway's spool is full: what can't be recorded is refused."""
    with _small_disk(lab, "gateway", SPOOL, "litellm.socket litellm.service ledger-drain.service", spare_mb=64):
        answered()
        lab.script("gateway", FILL.format(SPOOL))
        time.sleep(SHORT_SECONDS)
        lab.script("gateway", f"rm {SPOOL}/filler")
        answered()


@contextmanager
def _small_disk(lab: Lab, host: str, directory: str, units: str, *, spare_mb: int) -> Generator[None]:
    """A small tmpfs stands for the disk: what is there is moved to it, and back at the end."""
    lab.script(
        host,
        f"""
        systemctl stop {units}
        mv {directory} {directory}.before
        size=$(($(du --summarize --block-size=1M {directory}.before | cut --fields=1) + {spare_mb}))
        mkdir {directory}
        mount -t tmpfs -o size=${{size}}m tmpfs {directory}
        cp --archive --no-target-directory {directory}.before {directory}
        systemctl start {units}
        """,
    )
    try:
        yield
    finally:
        lab.script(
            host,
            f"""
            systemctl stop {units}
            cp --archive --no-target-directory {directory} {directory}.after
            umount {directory}
            rmdir {directory}
            mv {directory}.after {directory}
            rm --recursive {directory}.before
            systemctl start {units}
            """,
        )


def _boot(lab: Lab, host: str) -> str:
    try:
        return lab.script(host, "cat /proc/sys/kernel/random/boot_id")
    except subprocess.CalledProcessError:
        return ""
