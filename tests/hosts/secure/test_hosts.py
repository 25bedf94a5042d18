"""An independent eye on the hosts, and what they do about updates, core dumps, their journal and curious users."""

import re

import pytest
from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, UNITS, Lab

OURS = ("gateway", "database")
LOOK = (CHECKOUT / "roles/evidence/files/hosts.sh").read_text()
WAIVER = re.compile(
    r"^\| lynis (?P<check>[A-Z]+-\d+) \| (?P<reason>.{40,}) \| (?P<date>20\d\d-\d\d-\d\d) \|$", re.MULTILINE
)


def findings(lab: Lab, alias: str) -> dict[str, list[str]]:
    """What verify.yml finds: check → expected, observed, and "unproven" where it could not look."""
    lines = lab.script(alias, f"bash -s -- {' '.join(UNITS[alias])} <<'SCRIPT'\n{LOOK}\nSCRIPT\n").splitlines()
    return {check: found for check, *found in (line.split(" | ") for line in lines)}


def test_lynis_warns_of_nothing_but_what_is_waived(lab: Lab) -> None:
    warnings = {}
    for alias in OURS:
        lab.script(alias, "apt-get -q update && apt-get -qy install --no-install-recommends lynis")
        lab.script(alias, "lynis audit system --quick --no-colors --quiet")
        warnings[alias] = lab.script(alias, "grep '^warning' /var/log/lynis-report.dat || true")
    found = {check for said in warnings.values() for check in re.findall(r"=([A-Z]+-\d+)\|", said)}
    waived = {match["check"] for match in WAIVER.finditer((CHECKOUT / "docs/waivers.md").read_text())}
    assert found == waived, warnings


@pytest.mark.parametrize("alias", OURS)
def test_the_hosts_are_as_verify_expects(lab: Lab, alias: str) -> None:
    found = findings(lab, alias)
    assert len(found) >= 5
    clock = found.pop("who keeps the clock")
    assert clock == ["a program of the host, synchronised", "the container's machine", "unproven"]
    for check, (expected, observed) in found.items():
        assert observed == expected, check


def test_verify_sees_what_is_open_to_any_user(lab: Lab, gateway: Host) -> None:
    gateway.check_output("install --mode=0666 /dev/null /etc/litellm/open")
    gateway.check_output("install -D --mode=0644 /dev/null /etc/ssl/litellm/open.key")
    try:
        found = findings(lab, "gateway")
    finally:
        gateway.check_output("rm /etc/litellm/open /etc/ssl/litellm/open.key")
    assert found["what any user can write"] == ["nothing", "/etc/litellm/open"]
    assert found["secrets and logs that any user can read"] == ["nothing", "/etc/ssl/litellm/open.key"]


@pytest.mark.parametrize("alias", OURS)
def test_only_security_updates_come_by_themselves(lab: Lab, alias: str) -> None:
    said = lab.host(alias).check_output("unattended-upgrade --dry-run --debug 2>&1")
    origins = re.search(r"Allowed origins are: (.*)", said)
    assert origins
    assert all("-security" in origin for origin in origins[1].split(", "))
    assert "origin=Debian,codename=trixie-security,label=Debian-Security" in origins[1].split(", ")
    for held in ("postgresql-", "libpq", r"python3\.", r"libpython3\."):
        assert held in said.partition("Initial blacklist: ")[2].splitlines()[0].split()


@pytest.mark.parametrize("alias", OURS)
def test_a_service_can_t_leave_a_core_dump(lab: Lab, alias: str) -> None:
    """Not even one that wants to."""
    run = "systemd-run --quiet --wait --pipe --uid=nobody bash -c 'ulimit -c unlimited 2>&1; ulimit -H -c'"
    said = lab.host(alias).check_output(run)
    assert said.splitlines()[-1] == "0"
    assert "Operation not permitted" in said


@pytest.mark.parametrize("alias", OURS)
def test_the_journal_stays_within_its_limits(lab: Lab, alias: str) -> None:
    host = lab.host(alias)
    said = host.check_output("journalctl --boot --unit=systemd-journald --output=cat --no-pager")
    assert re.findall(r"System Journal \(/var/log/journal/\S+\) is \S+, max (\S+),", said)[-1] == "1G"
    assert "MaxRetentionSec=90day" in host.check_output("systemd-analyze cat-config systemd/journald.conf")


@pytest.mark.parametrize("alias", OURS)
def test_the_clock_is_kept_where_it_is_the_host_s_own(lab: Lab, alias: str) -> None:
    """A lab's host is a container: its unit waits for a machine."""
    timesyncd = lab.host(alias).service("systemd-timesyncd.service")
    assert timesyncd.is_enabled
    assert timesyncd.systemd_properties["ConditionResult"] == "no" or timesyncd.is_running
