"""The database host's disk is full while PostgreSQL is installed: a small tmpfs stands for it."""

import pytest
from testinfra.host import Host

from tests.hosts.lab import Lab

ASK = {"model": "smollm2", "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 5}


@pytest.mark.long
def test_an_installation_stops_and_the_next_one_succeeds(lab: Lab, database: Host) -> None:
    wipe = lab.playbook("--limit=database-1", playbook="playbooks/lab.yml", variables={"lab_action": "wipe"})
    assert wipe.succeeded
    database.check_output("mkdir -p /var/lib/postgresql")
    database.check_output("mount -t tmpfs -o size=8m tmpfs /var/lib/postgresql")

    run = lab.playbook("--limit=database")
    database.check_output("umount /var/lib/postgresql")
    lab.site()

    assert not run.succeeded
    assert "No space left on device" in run.output
    assert set(lab.site().changed.values()) == {0}
    with lab.client() as client:
        lab.exchange(client.post("/v1/chat/completions", json=ASK).headers["x-litellm-call-id"])
