"""Units, files and records on the hosts."""

import re
from itertools import product

import pytest
from testinfra.host import Host

from tests.hosts.lab import UNITS, Lab

GATEWAY_UNITS = UNITS["gateway"]
ROLES = {
    "gateway": ("firewall", "host_hardening", "litellm_gateway", "schema_init"),
    "database": ("firewall", "host_hardening", "postgres17"),
    "model": ("lab_model",),
}


@pytest.mark.parametrize("alias", UNITS)
def test_units_run_and_start_with_the_host(lab: Lab, alias: str) -> None:
    for unit in UNITS[alias]:
        service = lab.host(alias).service(unit)
        assert service.is_running
        assert service.is_enabled


@pytest.mark.parametrize("alias", UNITS)
def test_no_unit_has_failed(lab: Lab, alias: str) -> None:
    assert lab.host(alias).check_output("systemctl list-units --failed --no-legend") == ""


@pytest.mark.parametrize("unit", GATEWAY_UNITS)
def test_a_unit_that_dies_comes_back(gateway: Host, unit: str) -> None:
    before = gateway.service(unit).systemd_properties["MainPID"]
    gateway.check_output("systemctl kill --kill-whom=all --signal=SIGKILL %s", unit)
    # Type=notify: `start` returns when the unit says that it is ready.
    gateway.check_output("systemctl start %s", unit)
    assert gateway.service(unit).systemd_properties["MainPID"] not in {before, "0"}


@pytest.mark.parametrize("unit", GATEWAY_UNITS)
def test_units_are_in_a_sandbox(lab: Lab, gateway: Host, unit: str) -> None:
    pid = gateway.service(unit).systemd_properties["MainPID"]
    user = "litellm-nginx" if unit == "litellm-nginx.service" else "litellm"
    status = dict(
        line.split(":\t", 1)
        for line in gateway.file(f"/proc/{pid}/status").content_string.splitlines()
        if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["Uid"].split()[0] == str(gateway.user(user).uid) != "0"
    inside = f"nsenter --target={pid} --mount --setuid={gateway.user(user).uid} touch"
    for path, answer in {
        "/etc/mine": "Read-only file system",
        "/opt/litellm/mine": "Read-only file system",
        "/home/mine": "Permission denied|Read-only file system",
        "/var/lib/litellm/spool/mine": "written" if user == "litellm" else "Permission denied|Read-only file system",
    }.items():
        assert re.search(answer, lab.script("gateway", f"{inside} {path} 2>&1 && echo written && rm {path} || true"))


def test_no_unit_may_be_taken_over_through_its_files(gateway: Host) -> None:
    """Whoever is the gateway's user, or nginx's, can write its state, and nothing that is run or read at start."""
    units = " ".join(f"/etc/systemd/system/{unit}" for unit in ("litellm.socket", *GATEWAY_UNITS))
    paths = f"/etc/litellm {units} /opt/litellm /usr/local/bin/litellm-sqlalchemy"
    # .lock: an empty file of uv's.
    search = f"find {paths} -not -type l -not -name .lock '(' -not -user root -o -perm /022 ')' -print -quit"
    writable = gateway.check_output(search)
    assert writable == ""


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("/etc/litellm", "root", 0o755),
        ("/etc/litellm/credentials", "root", 0o700),
        ("/etc/litellm/credentials/LITELLM_MASTER_KEY", "root", 0o600),
        ("/etc/litellm/credentials/config.yaml", "root", 0o600),
        ("/etc/litellm/credentials/ledger_database_password", "root", 0o600),
        ("/var/lib/litellm", "litellm", 0o700),
        ("/var/lib/litellm/spool", "litellm", 0o700),
        ("/run/litellm/metrics", "litellm", 0o700),
    ],
)
def test_secrets_are_where_only_their_owner_reads_them(gateway: Host, path: str, owner: str, mode: int) -> None:
    file = gateway.file(path)
    assert (file.user, file.mode) == (owner, mode)


def test_there_are_no_credentials_but_those_that_are_used(gateway: Host) -> None:
    assert sorted(gateway.file("/etc/litellm/credentials").listdir()) == [
        "DATABASE_URL",
        "LITELLM_MASTER_KEY",
        "LITELLM_SALT_KEY",
        "config.yaml",
        "ledger_database_password",
        "ledger_reader_password",
    ]
    assert not gateway.file("/etc/litellm/config.yaml").exists


def test_credentials_are_encrypted_by_a_key(lab: Lab) -> None:
    """By the TPM, the host's own key, or both: systemd knows a null key as well, and would take it."""
    script = "for file in /etc/litellm/credentials/*; do base64 --decode < $file | head --bytes=16 | od -An -tx1; done"
    keys = {line.replace(" ", "") for line in lab.script("gateway", script).splitlines()}
    null = "058469daf6f54324800549da0f8ea2fb"
    assert null not in keys
    assert len(keys) == 1


def test_there_are_no_releases_but_complete_ones(gateway: Host) -> None:
    releases = gateway.file("/opt/litellm/releases").listdir()
    assert [name for name in releases if not gateway.file(f"/opt/litellm/releases/{name}/complete").exists] == []


def test_the_gateway_runs_from_a_complete_release(gateway: Host) -> None:
    release = gateway.file("/opt/litellm/current").linked_to
    assert re.fullmatch(r"/opt/litellm/releases/[0-9a-f]{12}", release)
    assert gateway.file(f"{release}/complete").exists
    pid = gateway.service("litellm.service").systemd_properties["MainPID"]
    assert (
        f"{release}/"
        in gateway.check_output("tr '\\0' ' ' < /proc/%s/cmdline", pid) + gateway.file(f"/proc/{pid}/exe").path
    )


@pytest.mark.parametrize(("alias", "role"), [pair for alias in ROLES for pair in product([alias], ROLES[alias])])
def test_roles_leave_records(lab: Lab, alias: str, role: str) -> None:
    records = lab.host(alias).check_output("journalctl --identifier=ansible-role --output=cat --no-pager")
    for phase in ("begin", "success"):
        assert re.search(rf"role={role} version=\d+\.\d+\.\d+ phase={phase} check=false", records)


@pytest.mark.parametrize("alias", UNITS)
def test_no_secret_is_anywhere_but_in_its_place(lab: Lab, alias: str) -> None:
    assert lab.exposed(alias, list(lab.secrets.values())) == set()


def test_no_secret_is_in_the_database(lab: Lab) -> None:
    script = """
secrets() { cat <<'SECRETS'
%s
SECRETS
}
runuser --user postgres -- pg_dumpall --no-role-passwords > /run/dump-to-search
wc --lines < /run/dump-to-search
grep --quiet --fixed-strings --text --file=<(secrets) /run/dump-to-search && echo found || true
rm /run/dump-to-search
"""
    secret_lines = [line for secret in lab.secrets.values() for line in secret.splitlines() if "-----" not in line]
    lines, *found = lab.script("database", script % "\n".join(secret_lines)).split()
    assert int(lines) > 100
    assert found == []
