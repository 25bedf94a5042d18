"""Every command in RUNBOOK.md works on a deployment, where the runbook says to type it."""

import os
import re
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.hosts.lab import CHECKOUT, Lab

BLOCK = re.compile(r"^```bash(?: (?P<where>\w+))?\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match["where"], match["commands"]) for match in BLOCK.finditer((CHECKOUT / "RUNBOOK.md").read_text())]


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
    assert BLOCKS[0] == (None, "export INVENTORY=inventory/production\n")
    assert {where for where, _ in BLOCKS[1:]} == {"controller", "gateway", "database"}


def test_every_command_is_in_a_block() -> None:
    """Commands within a sentence are run, too: by a block, or by the test that is named here."""
    run_elsewhere = {
        'ansible-playbook -i "$INVENTORY" site.yml -e litellm_gateway_release=NAME': "day2/test_releases.py",
        "ansible-vault edit $INVENTORY/group_vars/all/vault.yml": "readme/test_readme.py",
        "make -s key": "readme/test_readme.py",
    }
    text = BLOCK.sub("", (CHECKOUT / "RUNBOOK.md").read_text())
    commands = {code for code in re.findall(r"`([^`\n]+)`", text) if " " in code and shutil.which(code.split()[0])}
    assert commands <= run_elsewhere.keys()


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
    assert done.stdout.strip(), "the runbook says to look, and there is nothing to see"
