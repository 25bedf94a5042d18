"""verify.yml tells the truth about the running system, and others can check that it was not changed afterwards."""

import json
import subprocess
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.hosts.lab import Lab

FILES = {
    "SHA256SUMS",
    "chat_call.json",
    "gateway_db_connect.log",
    "join_check.txt",
    "requests_head.txt",
    "responses_head.txt",
    "sbom.cdx.json",
    "security_check.json",
    "service_status.txt",
    "summary.json",
    "virtual_keys.json",
}


def verdicts(directory: Path) -> dict[str, str]:
    summary = json.loads((directory / "summary.json").read_text())
    return {check["check"]: check["verdict"] for check in summary["checks"]}


def test_evidence_of_a_system_that_is_well(lab: Lab, tmp_path: Path) -> None:
    run = lab.playbook(playbook="verify.yml", variables={"evidence_directory": str(tmp_path)})

    assert run.succeeded
    assert {path.name for path in tmp_path.iterdir()} == FILES
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)
    assert set(verdicts(tmp_path).values()) == {"pass"}
    exchange = json.loads((tmp_path / "chat_call.json").read_text())
    answer = exchange["response"]
    assert answer["status"] == 200
    stored = lab.exchange(answer["headers"]["x-litellm-call-id"])
    assert stored["response"]["body"]["choices"] == answer["body"]["choices"]
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert not [name for name, secret in lab.secrets.items() if secret in text]
    assert run.changed == {"localhost": 0}


HOLES = {
    "gateway": (
        """
        systemctl stop ledger-drain.service
        echo 'deb [trusted=true] file:/nowhere ./' > /etc/apt/sources.list.d/hole.list
        echo 'APT::Periodic::Enable "0";' > /etc/apt/apt.conf.d/99hole
        touch /etc/litellm/hole
        chmod a+w /etc/litellm/hole
        """,
        """
        systemctl start ledger-drain.service
        rm /etc/apt/sources.list.d/hole.list /etc/apt/apt.conf.d/99hole /etc/litellm/hole
        """,
    ),
    "database": (
        """
        hba=/etc/postgresql/17/main/pg_hba.conf
        sed --in-place=.before '1i hostssl litellm_db litellm_reader_a 192.168.10.0/24 scram-sha-256' $hba
        chown postgres:postgres $hba
        cd / && runuser --user=postgres -- psql --quiet --dbname=litellm_db <<'SQL'
        SELECT pg_reload_conf();
        ALTER ROLE litellm_a CREATEDB;
        ALTER ROLE litellm_a IN DATABASE litellm_db SET statement_timeout = 0;
        GRANT pg_read_server_files TO litellm_a;
        GRANT SELECT (client_address) ON requests TO litellm_maintenance;
SQL
        systemctl stop certificate-expiry.timer
        """,
        """
        hba=/etc/postgresql/17/main/pg_hba.conf
        mv $hba.before $hba
        chown postgres:postgres $hba
        cd / && runuser --user=postgres -- psql --quiet --dbname=litellm_db <<'SQL'
        SELECT pg_reload_conf();
        ALTER ROLE litellm_a NOCREATEDB;
        ALTER ROLE litellm_a IN DATABASE litellm_db RESET ALL;
        REVOKE pg_read_server_files FROM litellm_a;
        REVOKE SELECT (client_address) ON requests FROM litellm_maintenance;
SQL
        systemctl start certificate-expiry.timer
        """,
    ),
}
SEEN = {
    "apt sources that need no signature",
    "gateway-1: what any user can write",
    "gateway-1: what keeps security updates from coming by themselves",
    "logins that come in by their password, without a certificate",
    "logins without an end of statements, or of idle transactions",
    "roles that may make roles or databases, replicate, or pass over policies",
    "rules that let in without TLS, password and certificate, but for the host's own by peer",
    "tables that the login of the maintenance may read or write",
    "which login is a member of which role",
}


def test_evidence_of_a_system_that_is_not(lab: Lab, tmp_path: Path) -> None:
    """The drain does not run, and somebody has made holes: each is seen, and nothing else."""
    for alias, (make, _) in HOLES.items():
        lab.script(alias, make)
    try:
        run = lab.playbook(playbook="verify.yml", variables={"evidence_directory": str(tmp_path)})
    finally:
        for alias, (_, mend) in HOLES.items():
            lab.script(alias, mend)

    assert not run.succeeded
    assert "these checks failed" in run.output
    found = verdicts(tmp_path)
    assert {name for name, verdict in found.items() if verdict == "fail"} == {
        *("service_status", "security_check", "join_check")
    }
    assert found["chat_call"] == "pass"
    checks = json.loads((tmp_path / "security_check.json").read_text())
    assert {check["check"] for check in checks if check["verdict"] == "fail"} == SEEN
    status = (tmp_path / "service_status.txt").read_text()
    assert "certificate-expiry.timer: inactive, enabled" in status
    assert {path.name for path in tmp_path.iterdir()} == FILES


@pytest.mark.long
def test_evidence_of_what_does_not_answer_at_all(lab: Lab, gateway: Host, tmp_path: Path) -> None:
    def power(action: str) -> None:
        done = lab.playbook("--limit=database-1", playbook="playbooks/lab.yml", variables={"lab_action": action})
        assert done.succeeded

    # With its socket, which would start it again for the next call, and with nginx, which would wait for it.
    units = "litellm-nginx.service litellm.socket litellm.service"
    gateway.check_output(f"systemctl stop {units}")
    power("power_cut")
    try:
        run = lab.playbook(playbook="verify.yml", variables={"evidence_directory": str(tmp_path)})
    finally:
        power("start")
        gateway.check_output(f"systemctl start {units}")

    assert not run.succeeded
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert set(verdicts(tmp_path).values()) == {"fail"}
    status = (tmp_path / "service_status.txt").read_text()
    assert "litellm.service: inactive" in status
    assert "lab-model@chat.service: active" in status
    assert "cannot reach PostgreSQL" in (tmp_path / "gateway_db_connect.log").read_text()
    assert "Connection refused" in (tmp_path / "chat_call.json").read_text()
