"""What is known to be bad is never locked or installed, and an audit that looked at nothing says so."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
REFUSED = [line.split()[0] for line in (ROOT / "requirements/refused.txt").read_text().splitlines() if line[0] != "#"]


def run(*command: str | Path, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **given}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8"])
def test_a_release_that_is_known_to_be_bad_is_not_locked(version: str, tmp_path: Path) -> None:
    assert f"litellm!={version}" in REFUSED
    done = run("scripts/lock", "--litellm", version, tmp_path / "lock.txt")
    assert done.returncode == 1
    assert f"LiteLLM {version} is never locked: requirements/refused.txt says why" in done.stderr
    assert not list(tmp_path.iterdir())


def test_no_lock_has_one() -> None:
    for lock in ROOT.glob("requirements/*.txt"):
        locked = {line.split()[0].replace("==", "!=") for line in lock.read_text().splitlines() if "==" in line}
        assert not locked & set(REFUSED)


def test_the_role_refuses_a_lock_that_has_one(tmp_path: Path) -> None:
    lock = tmp_path / "gateway.txt"
    lock.write_text("idna==3.20 \\\n    --hash=sha256:0\nlitellm==1.82.8 \\\n    --hash=sha256:0\n")
    variables = tmp_path / "variables.json"
    variables.write_text(json.dumps({"__litellm_gateway_lock": str(lock)}))
    # The role's own task, without a host: everything that it needs is on the controller.
    playbook = tmp_path / "playbook.yml"
    tasks = (ROOT / "roles/litellm_gateway/tasks/assert.yml").read_text().split("\n\n")
    task = next(text for text in tasks if text.startswith("- name: Refuse a lock with"))
    play = [
        "- hosts: localhost",
        "  gather_facts: false",
        f"  vars: {{role_path: {ROOT}/roles/litellm_gateway}}",
        f"  vars_files: [{ROOT}/roles/litellm_gateway/vars/main.yml]",
        "  tasks:",
        *(f"    {line}" for line in task.splitlines()),
    ]
    playbook.write_text("\n".join(play))
    done = run("ansible-playbook", f"--extra-vars=@{variables}", playbook, ANSIBLE_FORCE_COLOR="false")
    assert done.returncode != 0
    assert f"{lock} has litellm 1.82.8, and requirements/refused.txt says why" in " ".join(done.stdout.split())


KNOWN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1"}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (3)"}


@pytest.mark.parametrize(
    ("found", "code", "says"),
    [
        ([KNOWN], 0, "1 packages were audited (pypi); 0 are known to be vulnerable."),
        ([KNOWN, BAD], 1, "b 2: PYSEC-1"),
        ([KNOWN, UNKNOWN], 3, "NOT audited:\n  Dependency not found on PyPI"),
        ([UNKNOWN], 3, "NOTHING WAS AUDITED"),
        (None, 3, "NOTHING WAS AUDITED"),
    ],
)
def test_an_audit_says_what_it_did(found: list[dict[str, Any]] | None, code: int, says: str, tmp_path: Path) -> None:
    """The answers are pip-audit's, as it gives them (2.10); which it gets depends on where this runs."""
    answer = "sys.exit('no answer')" if found is None else f"print({json.dumps({'dependencies': found})!r})"
    (tmp_path / "pip_audit.py").write_text(f"import sys\n{answer}\n")
    done = run("scripts/audit.py", "requirements/model.txt", PYTHONPATH=str(tmp_path))
    assert (done.returncode, says in done.stdout) == (code, True), done.stdout + done.stderr


def test_an_audit_by_pip_audit_itself() -> None:
    done = run("scripts/audit.py", "requirements/model.txt")
    assert done.returncode in {0, 1, 3}
    assert (done.returncode == 3) == ("NOT audited" in done.stdout or "NOTHING WAS AUDITED" in done.stdout)
    assert done.stderr == ""
