"""A wrong variable stops the run before any host is touched; the message names it, the rule and the cure."""

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, Lab, Run

MODEL: dict[str, Any] = {
    "model_name": "m",
    "litellm_params": {"model": "openai/m", "api_key": "os.environ/NO_SUCH_KEY"},
}


def refused(run: Run, *messages: str) -> None:
    """The run failed with these messages and had changed nothing."""
    assert not run.succeeded
    for message in messages:
        assert message in run.output
    assert set(run.changed.values()) <= {0}


@pytest.fixture(scope="module", autouse=True)
def nothing_half_done(lab: Lab) -> Generator[None]:
    """After all of them, a run with the right variables finds nothing to do."""
    yield
    assert set(lab.site().changed.values()) == {0}


@pytest.mark.parametrize(
    ("variables", "messages"),
    [
        (
            {"litellm_gateway_port": "four thousand"},
            ["argument 'litellm_gateway_port' is of type", "unable to convert to int"],
        ),
        ({"litellm_gateway_models": "gpt-5"}, ["'litellm_gateway_models' is of type", "unable to convert to dict"]),
        ({"litellm_gateway_models": [{"model_name": "m"}]}, ["litellm_params", "litellm_gateway_models"]),
        ({"litellm_gateway_models": []}, ["litellm_gateway_models is empty", "Name one at least", "group_vars"]),
        (
            {"litellm_gateway_models": [MODEL]},
            ["os.environ/NO_SUCH_KEY", "litellm_gateway_credentials has no such key", "from the vault"],
        ),
        (
            {"litellm_gateway_prot": 4100},
            ["Unknown variable litellm_gateway_prot", "ignored in silence", "roles/litellm_gateway/README.md"],
        ),
        (
            {"litellm_gateway_master_key": "short"},
            ["litellm_gateway_master_key must begin with sk-", "playbooks/secrets.yml"],
        ),
        (
            {"litellm_gateway_credentials": {"my-key": "x"}},
            ["litellm_gateway_credentials has my-key", "capital letters"],
        ),
        (
            {"litellm_gateway_database_sslmode": "disable"},
            ["litellm_gateway_database_sslmode", "require, verify-ca, verify-full"],
        ),
        ({"schema_init_prot": 1}, ["Unknown variable schema_init_prot"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_gateway(lab: Lab, variables: dict[str, Any], messages: list[str]) -> None:
    refused(lab.playbook("--limit=gateway", variables=variables), *messages)


@pytest.mark.parametrize(
    ("variables", "messages"),
    [
        ({"postgres17_max_connections": "many"}, ["argument 'postgres17_max_connections' is of type", "int"]),
        ({"postgres17_max_conections": 200}, ["Unknown variable postgres17_max_conections"]),
        ({"postgres17_client_networks": []}, ["postgres17_client_networks is []", "such as 192.168.10.18/32"]),
        ({"postgres17_client_networks": ["192.168.10.18"]}, ["postgres17_client_networks", "prefix length"]),
        ({"postgres17_owner_password": "short"}, ["each password must have 16 characters"]),
        ({"postgres17_reader": "litellm"}, ["must be three different names"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_database(lab: Lab, variables: dict[str, Any], messages: list[str]) -> None:
    refused(lab.playbook("--limit=database", variables=variables), *messages)


def test_missing_models(lab: Lab, tmp_path: Path) -> None:
    inventory = tmp_path / "lab"
    shutil.copytree(CHECKOUT / "inventory/lab", inventory)
    (inventory / "group_vars/gateway.yml").unlink()

    run = lab.playbook("--limit=gateway", inventory=inventory)

    refused(run, "missing required arguments", "litellm_gateway_models")


def test_unsupported_system(lab: Lab, gateway: Host) -> None:
    lab.script(
        "gateway",
        'sed \'s/13 (trixie)/12 (bookworm)/; s/trixie/bookworm/; s/"13"/"12"/\' /usr/lib/os-release > /run/os-release\n'
        "echo 12.9 > /run/debian_version\n"
        "mount --bind /run/os-release /usr/lib/os-release\n"
        "mount --bind /run/debian_version /etc/debian_version\n",
    )
    try:
        run = lab.playbook("--limit=gateway")
    finally:
        gateway.check_output("umount /usr/lib/os-release /etc/debian_version")
    refused(run, "Debian 12 is not supported", "Debian 13 and Ubuntu 24.04")
