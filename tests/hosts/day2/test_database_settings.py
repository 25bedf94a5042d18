"""A change of PostgreSQL's settings interrupts nobody unless PostgreSQL says that it must."""

import httpx
import pytest

from tests.hosts.lab import Lab


def server_start(lab: Lab) -> str:
    return str(lab.sql("SELECT pg_postmaster_start_time() AS start")[0]["start"])


def setting(lab: Lab, name: str) -> str:
    return str(lab.sql("SELECT current_setting(:'name') AS value", name=name)[0]["value"])


SLOW = {"log_min_duration_statement": "2s"}
LOCKS = {"max_locks_per_transaction": 128}  # can't be changed without a restart
BACK = """
file=/etc/postgresql/17/main/conf.d/50-postgres17.conf
cp $file /run/new.conf
sed --in-place "s/^log_min_duration_statement = .*/log_min_duration_statement = '3s'/" $file
systemctl reload postgresql@17-main
until runuser --user postgres -- psql -tAc 'SHOW log_min_duration_statement' | grep --quiet 3s; do sleep 0.1; done
sleep 1
cat /run/new.conf > $file
"""


@pytest.mark.long
def test_what_needs_a_reload_only_reloads(lab: Lab) -> None:
    before = server_start(lab)

    lab.site("--limit=database", postgres17_settings=SLOW)

    assert setting(lab, "log_min_duration_statement") == "2s"
    assert server_start(lab) == before


@pytest.mark.long
def test_what_a_stopped_run_has_written_comes_into_force_with_the_next_one(lab: Lab) -> None:
    lab.script("database", BACK)
    assert setting(lab, "log_min_duration_statement") == "3s"

    assert set(lab.site("--limit=database", postgres17_settings=SLOW).changed.values()) == {1}

    assert setting(lab, "log_min_duration_statement") == "2s"


def test_what_needs_a_restart_restarts_and_the_drain_finds_its_way_back(lab: Lab, client: httpx.Client) -> None:
    before = server_start(lab)

    lab.site("--limit=database", postgres17_settings=LOCKS)

    assert setting(lab, "max_locks_per_transaction") == "128"
    assert setting(lab, "log_min_duration_statement") == "1s"
    assert server_start(lab) != before
    question = {"model": "smollm2", "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 5}
    lab.exchange(client.post("/v1/chat/completions", json=question).headers["x-litellm-call-id"])


def test_what_is_wrong_is_refused_and_the_old_settings_stay(lab: Lab) -> None:
    before = server_start(lab)

    run = lab.playbook("--limit=database", variables={"postgres17_settings": {"shared_bufers": "1GB"}})

    assert not run.succeeded
    assert 'unrecognized configuration parameter "shared_bufers"' in run.output
    assert set(run.changed.values()) == {0}
    assert server_start(lab) == before
    assert setting(lab, "max_locks_per_transaction") == "128"


@pytest.mark.long
def test_what_can_not_start_says_why_and_the_cure_is_enough(lab: Lab) -> None:
    run = lab.playbook("--limit=database", variables={"postgres17_settings": {"superuser_reserved_connections": 100}})

    assert not run.succeeded
    assert "PostgreSQL does not come up with postgres17_settings" in run.output
    assert "superuser_reserved_connections" in run.output
    lab.site("--limit=database")
    # What was set before and is no longer, is back as well.
    assert setting(lab, "max_locks_per_transaction") == "512"


@pytest.mark.long
def test_a_setting_that_is_removed_is_back_even_if_that_takes_a_restart(lab: Lab) -> None:
    lab.site("--limit=database", postgres17_settings=LOCKS)
    before = server_start(lab)

    lab.site("--limit=database")

    assert setting(lab, "max_locks_per_transaction") == "512"
    assert server_start(lab) != before
