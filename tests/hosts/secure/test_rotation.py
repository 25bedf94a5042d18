"""All credentials are rotated while calls go on: none fails, and a run that died is taken up by the same command.

And when the vault is lost, another one takes its place.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
import yaml

from tests.hosts.lab import CA, CHECKOUT, Lab, eventually

PLAYBOOK = "playbooks/rotate_credentials.yml"
CALLS_PER_SECOND = 10  # of each client; more would only take the CPU from the playbooks


@pytest.fixture
def inventory(lab: Lab, tmp_path: Path) -> Generator[Path]:
    """The lab's inventory with a vault of its own, for other labs use the checkout's."""
    copy = tmp_path / "inventory/lab"
    shutil.copytree(CHECKOUT / "inventory/lab", copy)
    yield copy
    lab.site()  # with the credentials that the other tests know


def vault(inventory: Path) -> dict[str, Any]:
    command = ["ansible-vault", "view", str(inventory / "group_vars/all/vault.yml")]
    found: dict[str, Any] = yaml.safe_load(
        subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True).stdout
    )
    return found


def names(secrets: dict[str, Any]) -> dict[str, list[str]]:
    return {group: [login["name"] for login in logins] for group, logins in secrets["postgres17_logins"].items()}


def dies(lab: Lab, inventory: Path, play: str, *arguments: str) -> None:
    """Run the playbook, and kill it when a play begins."""
    variables = ["-e", f"lab_host_directory={lab.directory}"]
    with subprocess.Popen(
        ["ansible-playbook", f"--inventory={inventory}", *variables, *arguments, PLAYBOOK],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout
        output = ""
        for line in run.stdout:
            output += line
            if line.startswith(f"PLAY [{play}]"):
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL, output


@contextmanager
def calls(lab: Lab, secrets: dict[str, Any]) -> Generator[list[str]]:
    """What failed of calls that need the database and that ask a model, with the key that secrets has meanwhile.

    In the end there were some, by each client.
    """
    failed: list[str] = []
    answered = dict.fromkeys(("/key/list", "/v1/embeddings"), 0)
    end = threading.Event()

    def call(method: str, path: str, body: dict[str, str] | None) -> None:
        with lab.client() as client:
            while not end.is_set():
                key = {"authorization": f"Bearer {secrets['litellm_gateway_master_key']}"}
                try:
                    client.request(method, path, json=body, headers=key).raise_for_status()
                    answered[path] += 1
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                end.wait(1 / CALLS_PER_SECOND)

    asked = {"model": "smollm2-embedding", "input": "hello"}
    threads = [
        threading.Thread(target=call, args=arguments)
        for arguments in (("GET", "/key/list", None), ("POST", "/v1/embeddings", asked))
    ]
    for thread in threads:
        thread.start()
    try:
        yield failed
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert min(answered.values()) > 100, answered


def logged_in(lab: Lab, password: str) -> str:
    """The key that somebody gets who logs in to the admin UI."""
    with lab.client() as client:
        answer = client.post("/login", data={"username": "admin", "password": password})
    assert answer.status_code == 303, answer.text
    claims = answer.cookies["token"].split(".")[1]
    found: str = json.loads(base64.urlsafe_b64decode(claims + "=="))["key"]
    return found


def status(lab: Lab, key: str, path: str = "/key/list", ca: Path = CA) -> int:
    with lab.client(key, ca=ca) as client:
        return client.get(path).status_code


@pytest.mark.timeout(3600)  # six runs of the playbook, while other tests run
def test_everything_is_rotated_by_runs_that_die_and_no_call_fails(lab: Lab, inventory: Path) -> None:
    old = vault(inventory)
    used = dict(old)
    session = logged_in(lab, old["litellm_gateway_master_key"])
    with calls(lab, used) as failed:
        dies(lab, inventory, "Have the database take both")
        both = vault(inventory)
        assert {len(logins) for logins in names(both).values()} == {2}
        dies(lab, inventory, "Switch the gateways to the new ones")
        assert lab.playbook(playbook=PLAYBOOK, inventory=inventory).succeeded
        assert vault(inventory) == both
        assert status(lab, old["litellm_gateway_master_key"]) == 200
        used["litellm_gateway_master_key"] = both["litellm_gateway_master_key"]
        assert status(lab, both["litellm_gateway_master_key"]) == 200
        assert status(lab, session) == 200
        dies(lab, inventory, "Have the database refuse the old ones", "-e", "revoke=true")
        assert lab.playbook("-e", "revoke=true", playbook=PLAYBOOK, inventory=inventory).succeeded
    assert failed == []

    new = vault(inventory)
    assert names(new) == {group: logins[1:] for group, logins in names(both).items()}
    assert new["litellm_gateway_previous_master_keys"] == []
    changed = {name for name in new.keys() - {"litellm_gateway_previous_master_keys"} if old[name] != new[name]}
    assert changed == {"litellm_gateway_master_key", "postgres17_logins", "postgres17_owner_password"}
    assert status(lab, old["litellm_gateway_master_key"]) == 401
    eventually(lambda: status(lab, session) == 401)  # a worker keeps it for a minute
    logins = lab.sql("SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname ~ '_(a|[0-9]+)$'")
    assert sorted(row["rolname"] for row in logins) == sorted(name for its in names(new).values() for name in its)
    kept = lab.script("gateway", "ls /etc/ssl/litellm/client-*.key").split()
    assert not [name for its in names(old).values() for name in its if f"/etc/ssl/litellm/client-{name}.key" in kept]

    # With nothing under way, there is nothing to revoke.
    again = lab.playbook("-e", "revoke=true", playbook=PLAYBOOK, inventory=inventory)
    assert again.changed == {"database-1": 0, "gateway-1": 0}
    assert vault(inventory) == new


@pytest.mark.long
def test_another_vault_takes_the_place_of_one_that_is_lost(lab: Lab, inventory: Path) -> None:
    """As the runbook says it: only what the gateway still knows stays, and the callers' keys with it."""
    lost = vault(inventory)
    with lab.client() as client:
        key = client.post("/key/generate", json={}).raise_for_status().json()["key"]
    file, ca, old = (inventory / name for name in ("group_vars/all/vault.yml", "pki/ca.crt", "pki/old.crt"))
    file.unlink()
    shutil.copy(ca, old)

    def run(playbook: str, *trusted: Path) -> None:
        variables = {"pki_trusted_certificates": [str(certificate) for certificate in trusted]}
        assert lab.playbook(playbook=playbook, inventory=inventory, variables=variables).succeeded

    try:
        run("playbooks/secrets.yml")
        made = vault(inventory)
        for variable, credential in (("salt_key", "LITELLM_SALT_KEY"), ("master_key", "LITELLM_MASTER_KEY")):
            known = lab.script("gateway", f"systemd-creds decrypt /etc/litellm/credentials/{credential} -")
            assert made[f"litellm_gateway_{variable}"] != known == lost[f"litellm_gateway_{variable}"]
            made[f"litellm_gateway_{variable}"] = known
        command = ["ansible-vault", "encrypt", "--output", str(file)]
        subprocess.run(command, cwd=CHECKOUT, input=yaml.safe_dump(made), text=True, check=True)
        run("site.yml", old)
        run("playbooks/renew_certificates.yml", old)
        run("playbooks/renew_certificates.yml")

        assert status(lab, lost["litellm_gateway_master_key"], ca=ca) == 200
        assert status(lab, key, "/v1/models", ca) == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            status(lab, key)
        for logins in made["postgres17_logins"].values():
            with lab.connection(logins[0]["name"], logins[0]["password"], sslrootcert=str(ca)):
                pass
            with (
                pytest.raises(psycopg2.OperationalError, match="password authentication failed"),
                lab.connection(logins[0]["name"], lab.secrets[logins[0]["name"]], sslrootcert=str(ca)),
            ):
                pass
    finally:
        both = {"pki_trusted_certificates": [str(ca)]}
        lab.site(**both)
        assert lab.playbook(playbook="playbooks/renew_certificates.yml", variables=both).succeeded
        assert lab.playbook(playbook="playbooks/renew_certificates.yml").succeeded
