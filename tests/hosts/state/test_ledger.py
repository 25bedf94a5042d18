"""What a client asks and is answered stands in the ledger, and what a client sees is what it was answered."""

import hashlib
import json

import httpx
import pytest

from tests.hosts.lab import MODEL, Lab

QUESTION = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}],
    "max_tokens": 40,
    "temperature": 0,
}


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
