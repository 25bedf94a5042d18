"""No secret can be read but by the process that it is for: not while a deployment is made, not afterwards."""

import base64
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, EXPOSED, UNITS, Lab

END = "/run/secrets-test-is-over"


class Secrets(list[str]):
    """Texts that a test which fails does not print."""

    def __repr__(self) -> str:
        return f"{len(self)} secrets"


def leaves(value: Any) -> Generator[str]:
    """The texts in the vault, however deep."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield str(value)


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> Secrets:
    """All that must not be found: the vault's, what is made of it, and the keys that the hosts have made themselves."""
    found = [text for text in leaves(lab.secrets) if len(text) >= 16]  # names of logins are no secrets
    found.append((CHECKOUT / ".vault-password").read_text().strip())
    names = set(lab.script("gateway", "ls /etc/litellm/credentials").split()) - {"config.yaml"}
    decrypt = "systemd-creds decrypt /etc/litellm/credentials/"
    found += [lab.script("gateway", f"{decrypt}{name} -").strip() for name in sorted(names)]
    for alias in UNITS:
        keys = lab.script(alias, "find /etc/ssl/litellm -name '*.key' -exec cat {} + 2>/dev/null || true")
        found += re.findall(r"-----BEGIN [A-Z ]+-----\n.*?-----END [A-Z ]+-----", keys, re.DOTALL)
    assert len(found) >= 5
    return Secrets(found)


@contextmanager
def watched(lab: Lab, secrets: list[str]) -> Generator[dict[str, set[str]]]:
    """All processes of the hosts and of this machine are looked at, again and again, while the block runs."""
    found: dict[str, set[str]] = {}
    local = Path(END)
    for alias in UNITS:
        lab.script(alias, f"rm --force {END}")
    local.unlink(missing_ok=True)
    command = [sys.executable, "-I", str(EXPOSED), "--processes-until", END]
    with (
        ThreadPoolExecutor() as pool,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as controller,
    ):
        hosts = {alias: pool.submit(lab.exposed, alias, secrets, "--processes-until", END) for alias in UNITS}
        assert controller.stdin is not None
        controller.stdin.write(json.dumps(secrets))
        controller.stdin.close()
        try:
            yield found
        finally:
            for alias in UNITS:
                lab.script(alias, f"touch {END}")
            local.touch()
            found.update({alias: future.result() for alias, future in hosts.items()})
            assert controller.stdout is not None
            found["controller"] = set(controller.stdout.read().splitlines())
            assert controller.wait() == 0
            local.unlink()


def load(lab: Lab, stop: Path) -> int:
    """Calls, and the management of a key, until a file is there."""
    done = 0
    with lab.client() as client:
        while not stop.exists():
            question = {"model": "smollm2", "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 2}
            try:
                done += client.post("/v1/chat/completions", json=question).status_code == 200
                key = client.post("/key/generate", json={"duration": "1h"}).json()["key"]
                client.post("/key/delete", json={"keys": [key]})
            except (httpx.HTTPError, KeyError, ValueError):
                pass  # the gateway restarts meanwhile
            time.sleep(0.5)
    return done


def test_no_secret_is_seen_while_a_deployment_is_made_and_verified(
    lab: Lab, gateway: Host, secrets: list[str], tmp_path: Path
) -> None:
    """Everything is encrypted and restarted anew, under load, with Ansible at its most talkative."""
    evidence, facts, stop = tmp_path / "evidence", tmp_path / "facts", tmp_path / "stop"
    environment = {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(facts)}
    lab.script("gateway", "rm --force /etc/litellm/credentials/*")
    with watched(lab, secrets) as found, ThreadPoolExecutor() as pool, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        calls = pool.submit(load, lab, stop)
        try:
            runs = [
                lab.playbook("--diff", "-vvv"),
                lab.playbook("-vvv", playbook="verify.yml", variables={"evidence_directory": str(evidence)}),
            ]
        finally:
            stop.touch()
        assert calls.result() > 0
    assert [run.succeeded for run in runs] == [True, True]
    assert len(gateway.file("/etc/litellm/credentials").listdir()) >= 5

    assert found == {alias: set() for alias in [*UNITS, "controller"]}
    assert {alias: lab.exposed(alias, secrets) for alias in UNITS} == {alias: set() for alias in UNITS}
    written = [*evidence.iterdir(), *facts.iterdir()]
    assert len(written) > 10
    texts = {path.name: path.read_text() for path in written} | {
        "Ansible's output": "".join(run.output for run in runs)
    }
    for secret in secrets:
        for text in (secret, urllib.parse.quote(secret, safe=""), base64.b64encode(secret.encode()).decode()):
            assert [
                name for name, content in texts.items() if text in content or " ".join(text.split()) in content
            ] == []


def test_no_secret_is_in_what_postgresql_logs_or_shows(lab: Lab, secrets: list[str]) -> None:
    shown = "runuser --user postgres -- psql --no-psqlrc --tuples-only --dbname=litellm_db --command"
    script = """
    set +e
    for view in pg_stat_activity pg_settings pg_file_settings pg_hba_file_rules pg_stat_ssl; do
        SHOWN "TABLE $view"
    done
    SHOWN "TABLE pg_stat_statements" 2>/dev/null  # only where somebody has made it
    find /var/log/postgresql -type f -exec cat {} +
    journalctl --unit='postgresql*' --output=cat --no-pager
    """
    text = lab.script("database", script.replace("SHOWN", shown))
    assert len(text) > 1000
    assert [name for name, secret in enumerate(secrets) if secret in text] == []


PLANTS = {
    "command line of": "systemd-run --quiet --unit=planted sh -c ': {secret}; sleep 600'",
    "environment of": "systemd-run --quiet --unit=planted --setenv=PLANTED={quoted} sleep 600",
    "systemctl show": "systemd-run --quiet --unit=planted --description={encoded} sleep 600",
    "journalctl --output=export": "systemd-run --quiet --unit=planted sleep 600; logger {longer}; journalctl --sync",
    "/etc/planted": "systemd-run --quiet --unit=planted sleep 600; echo {secret} > /etc/planted",
    "/tmp/planted": "systemd-run --quiet --unit=planted sleep 600; umask 077; echo {encoded} > /tmp/planted",  # noqa: S108
    "/var/log/planted.gz": "systemd-run --quiet --unit=planted sleep 600; echo {secret} | gzip > /var/log/planted.gz",
    "/root/planted": "systemd-run --quiet --unit=planted sleep 600; umask 077; echo {secret} > /root/planted",
}


@pytest.mark.parametrize("place", PLANTS)
def test_the_search_finds_what_is_planted(lab: Lab, place: str) -> None:
    """Proof of the tests above, with a secret that is none, anew each time: the journal keeps what it has."""
    secret = f"planted/{os.urandom(12).hex()}"
    encoded = base64.b64encode(secret.encode()).decode()
    longer = base64.b64encode(f"x{secret}yz".encode()).decode()
    assert lab.exposed("model", [secret]) == set()
    plant = PLANTS[place].format(
        secret=secret, encoded=encoded, longer=longer, quoted=urllib.parse.quote(secret, safe="")
    )
    try:
        lab.script("model", plant)
        found = lab.exposed("model", [secret])
    finally:
        lab.script("model", "systemctl stop planted.service; rm --force /{etc,tmp,root}/planted /var/log/planted.gz")
    assert [one for one in found if one.startswith(place)], found
