"""What a client asks and is answered stands in the ledger, and what a client sees is what it was answered."""

import hashlib
import json
from collections import Counter

import httpx
import pytest
from testinfra.host import Host

from tests.hosts.lab import MODEL, Lab, eventually

QUESTION = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}],
    "max_tokens": 40,
    "temperature": 0,
}
TABLES = ("requests", "responses", "usages")
METRICS = {
    "ledger_exchanges_total",
    "ledger_refused_total",
    "ledger_unrecorded_total",
    "ledger_open_exchanges",
    "ledger_held_seconds_bucket",
    "ledger_spool_records",
    "ledger_spool_oldest_age_seconds",
    "ledger_spool_bytes",
    "ledger_spool_max_bytes",
    "ledger_spool_alarm",
    "ledger_stored_rows_total",
    "ledger_rejected_records",
    "ledger_drain_waiting",
}
GROWING = (
    'ledger_exchanges_total{outcome="completed"}',
    "ledger_held_seconds_count",
    'ledger_stored_rows_total{table="requests"}',
    'ledger_stored_rows_total{table="responses"}',
)


def call_id(answer: httpx.Response) -> str:
    return str(answer.headers["x-litellm-call-id"])


def test_chat_is_answered_by_the_model_and_stored(lab: Lab, client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json=QUESTION)

    assert answer.status_code == 200
    body = answer.json()
    assert "Paris" in body["choices"][0]["message"]["content"]
    stored = lab.exchange(call_id(answer))
    request, response = stored["request"], stored["response"]
    assert request["body"] == QUESTION
    assert (request["method"], request["path"], request["model"]) == ("POST", "/v1/chat/completions", "smollm2")
    assert request["client_address"] == MODEL
    assert not request["stream"]
    assert response["body"] == body
    assert json.loads(response["body_text"]) == body
    assert (response["status"], response["outcome"]) == (200, "completed")
    assert response["prompt_tokens"] == body["usage"]["prompt_tokens"]
    assert response["completion_tokens"] == body["usage"]["completion_tokens"]
    assert response["cost"] > 0
    assert response["duration_ms"] > 0


def test_streamed_chat_is_stored_as_events_and_as_one_answer(lab: Lab, client: httpx.Client) -> None:
    with client.stream("POST", "/v1/chat/completions", json=QUESTION | {"stream": True}) as answer:
        assert answer.status_code == 200
        events = answer.read().decode()

    chunks = [json.loads(line.removeprefix("data: ")) for line in events.splitlines() if line.startswith("data: {")]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert len(chunks) > 2
    assert "Paris" in text
    stored = lab.exchange(call_id(answer))
    assert stored["request"]["stream"]
    response = stored["response"]
    assert response["body_text"] == events
    assert response["body"]["choices"][0]["message"]["content"] == text
    assert (response["status"], response["outcome"]) == (200, "completed")
    assert response["time_to_first_byte_ms"] <= response["duration_ms"]


def test_embedding_is_stored(lab: Lab, client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json={"model": "smollm2-embedding", "input": "Paris"})

    assert answer.status_code == 200
    vector = answer.json()["data"][0]["embedding"]
    assert len(vector) == 576
    assert any(vector)
    response = lab.exchange(call_id(answer))["response"]
    assert response["body"]["data"][0]["embedding"] == vector
    assert response["prompt_tokens"] > 0


def test_unknown_model_is_an_error_to_the_client_and_in_the_ledger(lab: Lab, client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json=QUESTION | {"model": "no-such-model"})

    assert answer.status_code == 400
    response = lab.exchange(call_id(answer))["response"]
    assert (response["status"], response["outcome"]) == (400, "error")
    assert "no-such-model" in response["error"]


def test_a_wrong_key_is_refused_and_its_hash_stored(lab: Lab) -> None:
    key = "sk-nobody-was-given-this-key"
    with lab.client(key=key) as client:
        answer = client.post("/v1/chat/completions", json=QUESTION)

    assert answer.status_code in {400, 401}  # LiteLLM's way to say that it has no database to look the key up
    stored = lab.exchange(call_id(answer))
    assert stored["response"]["outcome"] == "refused"
    assert stored["request"]["key_hash"] == hashlib.sha256(key.encode()).hexdigest()
    assert key not in json.dumps(stored)


@pytest.mark.parametrize("path", ["/health/liveliness", "/health/readiness"])
def test_health_needs_no_key(lab: Lab, path: str) -> None:
    with lab.client(key="none") as client:
        assert client.get(path).status_code == 200


def test_every_response_has_its_request(lab: Lab) -> None:
    alone = "SELECT id FROM requests FULL JOIN responses USING (received_at, id) WHERE requests.id IS NULL"
    assert lab.sql(alone) == []
    assert lab.sql("SELECT 1 FROM requests LIMIT 1")


def test_there_are_partitions_of_today_and_of_the_days_ahead(lab: Lab) -> None:
    of_each = """
        SELECT inhparent::regclass::text AS table, day
          FROM generate_series(now(), now() + interval '5 days', interval '1 day') AS day
         CROSS JOIN pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
         CROSS JOIN LATERAL regexp_match(pg_get_expr(relpartbound, inhrelid), '\\(''(.+)''\\) TO \\(''(.+)''\\)') AS b
         WHERE day >= b[1]::timestamptz AND day < b[2]::timestamptz
    """
    days = Counter(row["table"] for row in lab.sql(of_each))
    assert {table: days[table] for table in TABLES} == dict.fromkeys(TABLES, 6)


def test_days_are_made_and_dropped_by_a_timer(database: Host) -> None:
    timer = database.service("ledger-maintenance.timer")
    assert timer.is_running
    assert timer.is_enabled
    database.check_output("systemctl start ledger-maintenance.service")


def test_the_command_says_how_the_ledger_is(gateway: Host) -> None:
    status = gateway.run("litellm-sqlalchemy ledger status --json")
    assert status.rc == 0, status.stdout + status.stderr
    found = json.loads(status.stdout)
    assert found["rejected"] == 0
    assert found["partitions"].keys() == set(TABLES)


def metrics(gateway: Host) -> dict[str, float]:
    """What Prometheus would read."""
    read = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:4001/metrics').read().decode())"
    lines = gateway.check_output("python3 -c %s", read).splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] not in {"#", ""})
    }


def test_metrics_are_there_for_this_host_only(lab: Lab, gateway: Host, client: httpx.Client) -> None:
    assert gateway.socket("tcp://127.0.0.1:4001").is_listening
    assert not gateway.socket("tcp://0.0.0.0:4001").is_listening
    before = metrics(gateway)
    names = {name.partition("{")[0] for name in before}
    assert names >= METRICS
    lab.exchange(call_id(client.post("/v1/embeddings", json={"model": "smollm2-embedding", "input": "Paris"})))

    def counted() -> bool:
        now = metrics(gateway)
        return all(now[name] > before[name] for name in GROWING)

    eventually(counted)


def test_only_the_gateway_s_user_can_read_the_spool(gateway: Host) -> None:
    found = gateway.check_output("find /var/lib/litellm/spool -printf '%u %m %y\\n'").splitlines()
    assert {"litellm 600 f", "litellm 700 d"} == set(found)
