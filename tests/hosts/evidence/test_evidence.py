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


def test_evidence_of_a_system_that_is_not(lab: Lab, gateway: Host, tmp_path: Path) -> None:
    gateway.check_output("systemctl stop ledger-drain.service")
    try:
        run = lab.playbook(playbook="verify.yml", variables={"evidence_directory": str(tmp_path)})
    finally:
        gateway.check_output("systemctl start ledger-drain.service")

    assert not run.succeeded
    assert "these checks failed" in run.output
    found = verdicts(tmp_path)
    assert {name for name, verdict in found.items() if verdict == "fail"} == {"service_status", "join_check"}
    assert found["chat_call"] == "pass"
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
