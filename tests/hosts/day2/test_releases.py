"""A new release stands beside the old one, and the way back is one variable."""

from pathlib import Path

import pytest
from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, Lab


def running(gateway: Host) -> str:
    """The name of the release that the gateway's process runs from."""
    pid = gateway.service("litellm.service").systemd_properties["MainPID"]
    return Path(gateway.check_output("tr '\\0' '\\n' < /proc/%s/cmdline | head --lines=1", pid)).parts[4]


def set_revision(lab: Lab, revision: str) -> None:
    """Say that the tables have another revision of the schema."""
    statement = "UPDATE ledger_alembic_version SET version_num = :'revision'"
    psql = f"psql --quiet --dbname=litellm_db --set=ON_ERROR_STOP=1 --set=revision={revision}"
    lab.script("database", f'runuser --user postgres -- {psql} <<< "{statement}"')


@pytest.mark.long
def test_an_old_release_stays_and_can_be_gone_back_to(lab: Lab, gateway: Host, tmp_path: Path) -> None:
    lock = tmp_path / "gateway.txt"

    def install(comment: str) -> str:
        lock.write_text((CHECKOUT / "requirements/gateway.txt").read_text() + f"# {comment}\n")
        lab.site("--limit=gateway", __litellm_gateway_lock=str(lock))
        return running(gateway)

    first = running(gateway)
    second = install("the same packages, another release")
    assert second != first

    # Meanwhile a newer release has upgraded the tables to a revision that this one has never heard of.
    revision = str(lab.sql("SELECT version_num FROM ledger_alembic_version")[0]["version_num"])
    set_revision(lab, "later")
    lab.site("--limit=gateway", litellm_gateway_release=first)
    assert running(gateway) == first
    set_revision(lab, revision)
    with lab.client() as client:
        assert client.get("/v1/models").status_code == 200

    # The one that ran before is kept, not the newer one that somebody went back from.
    third = install("a third one")
    assert gateway.file("/opt/litellm/releases").listdir() == sorted([first, third])

    run = lab.playbook("--limit=gateway", variables={"litellm_gateway_release": second})
    assert not run.succeeded
    assert f"litellm_gateway_release is {second}, but the host has only" in run.output
    assert running(gateway) == third
