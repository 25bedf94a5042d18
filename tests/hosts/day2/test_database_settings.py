"""A change of PostgreSQL's settings interrupts nobody unless PostgreSQL says that it must."""

import httpx

from tests.hosts.lab import Lab


def server_start(lab: Lab) -> str:
    return str(lab.sql("SELECT pg_postmaster_start_time() AS start")[0]["start"])


def setting(lab: Lab, name: str) -> str:
    return str(lab.sql("SELECT current_setting(:'name') AS value", name=name)[0]["value"])


def test_what_needs_a_reload_only_reloads(lab: Lab) -> None:
    before = server_start(lab)

    lab.site("--limit=database", postgres17_settings={"log_min_duration_statement": "2s"})

    assert setting(lab, "log_min_duration_statement") == "2s"
    assert server_start(lab) == before


def test_what_needs_a_restart_restarts_and_the_drain_finds_its_way_back(lab: Lab, client: httpx.Client) -> None:
    before = server_start(lab)

    lab.site("--limit=database", postgres17_max_connections=120)

    assert (setting(lab, "max_connections"), setting(lab, "log_min_duration_statement")) == ("120", "1s")
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
    assert setting(lab, "max_connections") == "120"
