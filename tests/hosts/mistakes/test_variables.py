"""A mistake stops site.yml before any host is touched. Which mistakes are found, and what is said: tests/roles."""

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, Lab, Run


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


def test_a_mistake_on_one_host_stops_all(lab: Lab) -> None:
    refused(lab.playbook(variables={"schema_init_prot": 1}), "Unknown variable schema_init_prot")


def test_more_connections_than_the_database_gives(lab: Lab) -> None:
    run = lab.playbook(variables={"litellm_gateway_workers": 9})
    refused(
        run, "may want 90 connections to the database; their login has 80, four fifths of postgres17_max_connections"
    )


def test_a_password_in_a_mistake_is_not_told(lab: Lab) -> None:
    run = lab.playbook("--limit=database", variables={"postgres17_owner_password": "too-short"})
    refused(run, "each password must have 16 characters")
    assert "too-short" not in run.output


@pytest.mark.long
def test_missing_models(lab: Lab, tmp_path: Path) -> None:
    inventory = tmp_path / "lab"
    shutil.copytree(CHECKOUT / "inventory/lab", inventory)
    variables = inventory / "group_vars/gateway.yml"
    text = variables.read_text()
    variables.write_text(
        text[: text.index("litellm_gateway_models")] + text[text.index("litellm_gateway_database_host") :]
    )

    run = lab.playbook("--limit=gateway", inventory=inventory)

    refused(run, "missing required arguments: litellm_gateway_models")


@pytest.mark.long
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
