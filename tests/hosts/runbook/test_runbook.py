"""Every command in RUNBOOK.md and docs/admin-ui.md works on a deployment, where they say to type it."""

import os
import re
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from tests.hosts.lab import CHECKOUT, Lab

BLOCK = re.compile(r"^```bash(?: (?P<where>\w+))?\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (match["where"], match["commands"])
    for document in ("RUNBOOK.md", "docs/admin-ui.md")
    for match in BLOCK.finditer((CHECKOUT / document).read_text())
]


@pytest.fixture(autouse=True)
def _keep_the_committed_evidence(tmp_path: Path) -> Generator[None]:
    """The evidence in the checkout is of the demo lab, and verify.yml writes there."""
    evidence, kept = CHECKOUT / "evidence", tmp_path / "evidence"
    if evidence.exists():
        shutil.copytree(evidence, kept)
    yield
    shutil.rmtree(evidence, ignore_errors=True)
    if kept.exists():
        shutil.copytree(kept, evidence)


def test_each_block_says_where() -> None:
    # The first one only sets the inventory, which the test sets to the lab's.
    assert BLOCKS[0] == (None, "export INVENTORY=inventory/mine\n")
    assert {where for where, _ in BLOCKS[1:]} == {"controller", "gateway", "database"}


def test_every_command_is_in_a_block() -> None:
    """Commands within a sentence are run, too: by a block, or by the test that is named here."""
    run_elsewhere = {
        'ansible-playbook -i "$INVENTORY" site.yml -e litellm_gateway_release=NAME': "day2/test_releases.py",
        "ansible-vault edit $INVENTORY/group_vars/all/vault.yml": "readme/test_readme.py",
        "ansible-vault rekey --new-vault-password-file .vault-password.new $INVENTORY/group_vars/all/vault.yml": (
            "controller/test_secrets.py"
        ),
        ".venv/bin/pip install --require-hashes -r requirements/controller.txt": "readme/test_readme.py",
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384": "secure/test_tls.py",
        "make -s key": "readme/test_readme.py",
        "make -s key INVENTORY=$INVENTORY": "readme/test_readme.py",
        'ansible-playbook -i "$INVENTORY" playbooks/rotate_credentials.yml': "secure/test_rotation.py",
        'ansible-playbook -i "$INVENTORY" playbooks/rotate_credentials.yml -e revoke=true': "secure/test_rotation.py",
        "sudo litellm-sqlalchemy ledger tail": "test_tail_until_interrupted",
        "litellm-sqlalchemy ledger --help": "database/test_commands.py",
    }
    text = BLOCK.sub("", (CHECKOUT / "RUNBOOK.md").read_text())
    commands = {code for code in re.findall(r"`([^`\n]+)`", text) if " " in code and shutil.which(code.split()[0])}
    assert commands <= run_elsewhere.keys()


def test_tail_until_interrupted(lab: Lab, client: httpx.Client) -> None:
    """On a terminal, as one types it: a line comes while it runs, and Ctrl-C ends it."""
    command = ["ssh", "-F", lab.ssh_config, "-tt", "gateway", "sudo litellm-sqlalchemy ledger tail"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tail:
        assert tail.stdin
        assert tail.stdout
        assert tail.stdout.readline().startswith(b"Following")
        answer = client.post("/v1/chat/completions", json={"model": "no-such-model", "messages": []})
        line = tail.stdout.readline().decode()
        tail.stdin.write(b"\x03")
        tail.stdin.flush()
        tail.stdout.read()
    assert tail.returncode == 130
    assert f"{answer.status_code} error" in line


@pytest.mark.parametrize(("where", "commands"), BLOCKS[1:], ids=[block.splitlines()[0][:60] for _, block in BLOCKS[1:]])
def test_block(lab: Lab, where: str, commands: str) -> None:
    script = ["bash", "-eu", "-o", "pipefail", "-s"]
    if where != "controller":
        # Logged in by make ssh, one is a user with sudo, not root.
        script = ["ssh", "-F", lab.ssh_config, where, *script]
    done = subprocess.run(
        script,
        input=commands,
        cwd=CHECKOUT,
        env={**os.environ, "INVENTORY": "inventory/lab", "LAB_NAME": lab.directory.name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "it says to look, and there is nothing to see"
