"""A provider that refuses: the client is told so, and the ledger has it."""

import httpx
import pytest

from tests.hosts.day2.second_day import ask
from tests.hosts.lab import Lab

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("second_day")]


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("unreachable", 500, "Connection error"),
        ("unauthorized", 401, "scripted refusal 401"),
        ("throttled", 429, "scripted refusal 429"),
        ("broken", 500, "scripted refusal 500"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusal(lab: Lab, changed_client: httpx.Client, name: str, status: int, reason: str, stream: bool) -> None:
    answer = ask(changed_client, name, stream=stream)

    assert answer.status_code == status
    assert reason in answer.json()["error"]["message"]
    stored = lab.exchange(answer.headers["x-litellm-call-id"])
    assert stored["request"]["model"] == name
    response = stored["response"]
    assert (response["status"], response["outcome"]) == (status, "error")
    assert reason in response["error"]
