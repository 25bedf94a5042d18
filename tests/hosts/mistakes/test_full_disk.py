"""The database host's disk is full: a small tmpfs stands for it."""

import json

import httpx
from testinfra.host import Host

from tests.hosts.lab import Lab, eventually

ASK = {"model": "smollm2", "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 5}

MOVE_TO_A_SMALL_DISK = """
systemctl stop postgresql@17-main
cd /var/lib/postgresql/17
cp --archive main /run/main
mount -t tmpfs -o size=400m,mode=0700,uid=$(id -u postgres),gid=$(id -g postgres) tmpfs main
cp --archive /run/main/. main
rm -r /run/main
systemctl start postgresql@17-main
"""


def waiting(gateway: Host) -> int:
    """How many records wait in the spool."""
    status = gateway.check_output(
        "systemd-run --quiet --wait --pipe --property=User=litellm --property=EnvironmentFile=/etc/litellm/ledger.env"
        " /opt/litellm/current/bin/litellm-sqlalchemy status"
    )
    records: int = json.loads(status)["records"]
    return records


def test_the_gateway_answers_and_nothing_is_lost(lab: Lab, gateway: Host, database: Host, client: httpx.Client) -> None:
    lab.script("database", MOVE_TO_A_SMALL_DISK)
    filler = "/var/lib/postgresql/17/main/filler"
    database.run("dd if=/dev/zero of=%s bs=1M", filler)
    assert "100%" in database.check_output("df /var/lib/postgresql/17/main")
    # More than the pages that PostgreSQL has at hand.
    question = ASK | {"messages": [{"role": "user", "content": "Say yes. " + "no " * 1000}]}

    answers = [client.post("/v1/chat/completions", json=question) for _ in range(5)]

    assert {answer.status_code for answer in answers} == {200}
    database.check_output("rm %s", filler)
    lab.site("--limit=database")
    for answer in answers:
        lab.exchange(answer.headers["x-litellm-call-id"])
    eventually(lambda: waiting(gateway) == 0)


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
