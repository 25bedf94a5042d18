"""What an operator changes on a deployment that runs: all by one run of site.yml; a second run takes it back."""

import httpx
import pytest
from testinfra.host import Host

from tests.hosts.day2.second_day import DATABASE_PASSWORD, DATABASE_PORT, METRICS_PORT, PORT, PROVIDER_KEY_FILE, ask
from tests.hosts.lab import Lab, eventually

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("second_day")]


def test_a_model_is_added_with_its_provider_s_key(changed_client: httpx.Client, gateway: Host) -> None:
    assert ask(changed_client, "added").status_code == 200
    assert gateway.file(PROVIDER_KEY_FILE).mode == 0o600


def test_the_ledger_keeps_what_it_is_told_to_keep(lab: Lab, changed_client: httpx.Client) -> None:
    question = [{"role": "user", "content": "Say yes to the password of 'anna'."}]
    redacted = lab.exchange(ask(changed_client, messages=question).headers["x-litellm-call-id"])["request"]
    assert redacted["body"]["messages"][0]["content"] == "Say yes to the 'somebody' $x."
    assert "anna" not in redacted["body_text"]
    assert (redacted["capture"], redacted["redactions"]) == ("full", 1)
    half = lab.exchange(ask(changed_client, "unkept").headers["x-litellm-call-id"])
    for row in half.values():
        assert row["capture"] == "metadata"
        assert (row["body"], row["body_text"], row["body_bytes"]) == (None, None, None)
        assert row["body_size"] > 0


def test_the_metrics_are_at_their_new_port(gateway: Host) -> None:
    assert gateway.socket(f"tcp://127.0.0.1:{METRICS_PORT}").is_listening
    assert not gateway.socket("tcp://127.0.0.1:4001").is_listening


def test_the_old_port_is_closed(gateway: Host) -> None:
    assert gateway.socket(f"tcp://0.0.0.0:{PORT}").is_listening
    assert not gateway.socket("tcp://0.0.0.0:4000").is_listening


def test_the_old_master_key_is_refused(lab: Lab) -> None:
    with lab.client(port=PORT) as client:
        assert ask(client).status_code in {400, 401}


def test_the_drain_has_the_login_that_was_added(lab: Lab, changed_client: httpx.Client) -> None:
    lab.exchange(ask(changed_client).headers["x-litellm-call-id"])
    drains = lab.sql("SELECT usename FROM pg_stat_activity WHERE application_name = 'ledger-drain'")
    assert drains == [{"usename": "litellm_ledger_b"}]
    for login, password in (
        ("litellm_ledger_b", DATABASE_PASSWORD),
        ("litellm_ledger_a", lab.secrets["litellm_ledger_a"]),
    ):
        with lab.connection(login, password, port=DATABASE_PORT):
            pass


def test_an_answer_in_flight_is_finished_before_a_restart(
    lab: Lab, changed_client: httpx.Client, gateway: Host, model: Host
) -> None:
    question = {"model": "slow", "messages": [{"role": "user", "content": "Tell a story."}], "stream": True}
    with changed_client.stream("POST", "/v1/chat/completions", json=question) as answer:
        events = answer.iter_lines()
        first = next(line for line in events if line)
        gateway.check_output("systemctl --no-block restart litellm.service")
        eventually(lambda: gateway.service("litellm.service").systemd_properties["ActiveState"] == "deactivating")
        model.check_output("touch /run/upstream-may-end")
        last = [line for line in events if line][-1]
    assert first.startswith("data: {")
    assert last == "data: [DONE]"
    assert lab.exchange(answer.headers["x-litellm-call-id"])["response"]["outcome"] == "completed"
    eventually(lambda: gateway.service("litellm.service").systemd_properties["ActiveState"] == "active")
