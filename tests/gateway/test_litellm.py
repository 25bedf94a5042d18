"""The real LiteLLM: what a client saw is what the tables have."""

import asyncio
import inspect
import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from litellm.proxy._types import hash_token

from litellm_sqlalchemy.ledger.http_exchange import STREAM_END
from tests.fix_server import Client
from tests.gateway.fix_litellm import MASTER_KEY, PINNED, WRONG_KEY, LiteLLM, Rows, running
from tests.gateway.fix_upstream import CHAT, PROVIDER_KEY, USAGE, go_on

PACKAGED_UI = Path(inspect.getfile(hash_token)).parent / "_experimental/out"
TEXT = "Pa\u00df \U0001f600\n"


def assert_same(row: dict[str, Any], answer: httpx.Response, key: str = MASTER_KEY) -> None:
    """What every exchange has, whatever it was about."""
    assert row["request_body_text"] == answer.request.content.decode()
    assert row["request_body"] == json.loads(answer.request.content)
    assert row["request_body_size"] == len(answer.request.content)
    assert row["request_body_complete"] is True
    assert row["request_key_hash"] == hash_token(key)
    assert row["request_client_address"] == "127.0.0.1"
    assert row["request_user_agent"] == answer.request.headers["user-agent"]
    assert row["request_call_id"] == row["call_id"] == answer.headers["x-litellm-call-id"] == str(row["id"])
    assert (row["status"], row["body_text"], row["body_bytes"]) == (answer.status_code, answer.text, None)
    assert row["body_size"] == answer.num_bytes_downloaded  # LiteLLM compresses larger answers
    assert row["content_type"] == answer.headers["content-type"]
    assert 0 < row["time_to_first_byte_ms"] <= row["duration_ms"]


def test_it_tells_systemd_that_it_is_ready(litellm: LiteLLM) -> None:
    assert litellm.told_systemd == [b"READY=1", b"READY=1"]


def test_chat(litellm: LiteLLM, rows: Rows) -> None:
    answer = litellm.post(CHAT, {"model": "talks", "messages": [{"role": "user", "content": "Hi"}], "user": "anna"})
    assert answer.status_code == 200
    (row,) = rows(1)
    assert_same(row, answer)
    assert row["body"] == answer.json()
    assert row["body"]["choices"][0]["message"]["content"] == TEXT
    assert (row["request_model"], row["request_stream"], row["request_end_user"]) == ("talks", False, "anna")
    assert (row["outcome"], row["error"]) == ("completed", None)
    assert (row["model"], row["provider"]) == ("talks", litellm.provider)
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (5, 2, 7)
    assert row["cost"] == Decimal("0.025") == Decimal(answer.headers["x-litellm-response-cost"])


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_streamed_chat(litellm: LiteLLM, rows: Rows, options: dict[str, Any]) -> None:
    question = {"model": "talks", "stream": True, "messages": [{"role": "user", "content": "Hi"}], **options}
    answer = litellm.post(CHAT, question)
    assert answer.text.endswith("data: [DONE]\n\n")
    (row,) = rows(1)
    assert_same(row, answer)
    assert (row["request_stream"], row["outcome"], row["provider"]) == (True, "completed", litellm.provider)
    assert row["body"]["object"] == "chat.completion"
    assert row["body"]["choices"][0]["message"] == {"role": "assistant", "content": TEXT}
    assert row["body"]["choices"][0]["finish_reason"] == "stop"
    assert row["total_tokens"] == (7 if options else None)
    if options:
        assert {name: row["body"]["usage"][name] for name in USAGE} == USAGE


def test_streamed_messages(litellm: LiteLLM, rows: Rows) -> None:
    question = {"model": "talks", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    answer = litellm.post("/v1/messages", question)
    assert "event: message_stop" in answer.text
    (row,) = rows(1)
    assert_same(row, answer)
    assert row["outcome"] == "completed"
    assert row["body"]["content"][0] == {"type": "text", "text": TEXT}
    assert row["body"]["stop_reason"] == "end_turn"
    assert (row["prompt_tokens"], row["completion_tokens"]) == (5, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_completions(litellm: LiteLLM, rows: Rows, stream: bool) -> None:
    answer = litellm.post("/v1/completions", {"model": "writes", "prompt": "The capital is", "stream": stream})
    assert answer.status_code == 200
    (row,) = rows(1)
    assert_same(row, answer)
    assert (row["request_stream"], row["outcome"], row["request_model"]) == (stream, "completed", "writes")
    assert row["body"]["choices"][0]["text"] == "Paris"


@pytest.mark.parametrize("stream", [False, True])
def test_responses(litellm: LiteLLM, rows: Rows, stream: bool) -> None:
    answer = litellm.post("/v1/responses", {"model": "talks", "input": "The capital?", "stream": stream})
    assert answer.status_code == 200
    (row,) = rows(1)
    assert_same(row, answer)
    assert (row["request_stream"], row["outcome"], row["request_model"]) == (stream, "completed", "talks")
    assert row["body"]["output"][0]["content"][0]["text"] == "Paris"
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (5, 2, 7)
    if stream:  # clients stop reading there, so it must be known as the end
        ends = [event for event in answer.text.split("\n\n") if STREAM_END.search(f"\n{event}".encode())]
        assert "response.completed" in ends[0]


def test_embeddings(litellm: LiteLLM, rows: Rows) -> None:
    answer = litellm.post("/v1/embeddings", {"model": "embeds", "input": "Hi"})
    assert answer.status_code == 200
    (row,) = rows(1)
    assert_same(row, answer)
    assert row["body"] == answer.json()
    assert (row["request_model"], row["model"], row["outcome"]) == ("embeds", "embeds", "completed")
    assert (row["prompt_tokens"], row["total_tokens"]) == (3, 3)


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_refuses(litellm: LiteLLM, rows: Rows, stream: bool) -> None:
    question = {"model": "talks", "stream": stream, "messages": [{"role": "user", "content": "fail"}]}
    answer = litellm.post(CHAT, question)
    assert answer.status_code == 400
    (row,) = rows(1)
    assert_same(row, answer)
    assert row["outcome"] == "error"
    assert "the upstream refuses" in row["error"]
    assert row["body"] == answer.json()
    assert (row["model"], row["total_tokens"]) == (None, None)


def test_a_wrong_key(litellm: LiteLLM, rows: Rows) -> None:
    answer = litellm.post(CHAT, {"model": "talks", "messages": []}, WRONG_KEY)
    assert answer.status_code == 400  # LiteLLM's answer without a database of keys
    (row,) = rows(1)
    assert_same(row, answer, WRONG_KEY)
    assert (row["outcome"], row["error"]) == ("refused", "No connected db.")


def test_an_unknown_model(litellm: LiteLLM, rows: Rows) -> None:
    answer = litellm.post(CHAT, {"model": "nobody", "messages": [{"role": "user", "content": "Hi"}]})
    assert answer.status_code == 400
    (row,) = rows(1)
    assert_same(row, answer)
    assert (row["outcome"], row["request_model"], row["model"]) == ("error", "nobody", None)
    assert "Invalid model name" in row["error"]


def test_a_body_that_is_no_json(litellm: LiteLLM, rows: Rows) -> None:
    body = b'{"model": "talks", \xff\x00'
    headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    answer = httpx.post(f"http://127.0.0.1:{litellm.port}{CHAT}", content=body, headers=headers, timeout=60)
    assert answer.status_code >= 400
    (row,) = rows(1)
    assert (bytes(row["request_body_bytes"]), row["request_body_text"], row["request_body"]) == (body, None, None)
    assert (row["status"], row["outcome"]) == (answer.status_code, "error")


def test_a_client_that_leaves(litellm: LiteLLM, rows: Rows) -> None:
    go_on.clear()
    question = {"model": "talks", "stream": True, "messages": [{"role": "user", "content": "wait"}]}
    client = Client(litellm.port)
    client.post(
        CHAT, json.dumps(question).encode(), f"Authorization: Bearer {MASTER_KEY}", "Content-Type: application/json"
    )
    client.until(b'"content":"Pa"')
    client.leave()
    (row,) = rows(1)
    go_on.set()
    assert (row["outcome"], row["status"]) == ("client_disconnected", 200)
    assert row["body"]["choices"][0]["message"]["content"] == "Pa"
    assert "[DONE]" not in row["body_text"]


def test_management_and_health(litellm: LiteLLM, rows: Rows) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{litellm.port}", timeout=60) as client:
        assert client.get("/health/liveliness").status_code == 200
    answer = litellm.post("/key/generate", {"key": "sk-a-new-key-of-somebody"})
    (row,) = rows(1)
    assert (row["request_path"], row["status"]) == ("/key/generate", answer.status_code)
    assert row["request_body_size"] == len(answer.request.content)
    kept = ("request_body", "request_body_text", "request_body_bytes", "body", "body_text", "body_bytes")
    assert [row[name] for name in kept] == [None] * 6
    assert b"sk-a-new-key-of-somebody" not in litellm.on_disk()


def test_many_at_once_in_two_workers(litellm: LiteLLM, rows: Rows) -> None:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{litellm.port}", timeout=60) as client:
            headers = {"authorization": f"Bearer {MASTER_KEY}"}
            questions = [
                {"model": "talks", "stream": n % 2 == 1, "messages": [{"role": "user", "content": str(n)}]}
                for n in range(40)
            ]
            return await asyncio.gather(*(client.post(CHAT, json=q, headers=headers) for q in questions))

    answers = {answer.headers["x-litellm-call-id"]: answer for answer in asyncio.run(ask())}
    found = {row["call_id"]: row for row in rows(40)}
    assert answers.keys() == found.keys()
    for call_id, answer in answers.items():
        assert_same(found[call_id], answer)


def test_no_key_is_on_disk(litellm: LiteLLM, rows: Rows) -> None:
    litellm.post(CHAT, {"model": "talks", "messages": [{"role": "user", "content": "Hi"}]})
    litellm.post(CHAT, {"model": "talks", "messages": []}, WRONG_KEY)
    rows(2)
    on_disk = litellm.on_disk()
    assert on_disk
    for key in (MASTER_KEY, WRONG_KEY, PROVIDER_KEY):
        assert key.encode() not in on_disk


def test_below_a_root_path(tmp_path: Path) -> None:
    question = {"model": "talks", "messages": [{"role": "user", "content": "a question"}]}
    # LiteLLM writes the path into the admin UI's files, which a virtual environment may share with all others.
    ui = shutil.copytree(PACKAGED_UI, tmp_path / "ui")
    with running(PINNED, tmp_path, SERVER_ROOT_PATH="/openai", LITELLM_UI_PATH=str(ui)) as litellm:
        assert litellm.post(f"/openai{CHAT}", question).status_code == 200
        answer = litellm.post("/openai/key/generate", {"key": "sk-a-new-key-of-somebody"})
        assert answer.status_code == litellm.post("/key/generate", {}).status_code  # both came to the endpoint
        page = httpx.get(f"http://127.0.0.1:{litellm.port}/openai/ui/", timeout=60).text
        on_disk = litellm.on_disk()
    assert "/openai/_next/" in page
    assert "/openai/_next/" not in (PACKAGED_UI / "index.html").read_text()
    assert b"a question" in on_disk
    assert b"sk-a-new-key-of-somebody" not in on_disk


@pytest.mark.parametrize("path", [None, "/nowhere/config.yaml", "/"])
def test_without_a_configuration_it_does_not_start(tmp_path: Path, path: str | None) -> None:
    environment = {"PATH": os.environ["PATH"], "LEDGER_SPOOL_PATH": str(tmp_path / "spool" / "spool.sqlite3")}
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "litellm_sqlalchemy.gateway:app"],
        env={**environment, "CONFIG_FILE_PATH": path} if path else environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"environment variable CONFIG_FILE_PATH is {path or ''!r}: it must name LiteLLM's configuration, a file that "
        "this user can read, for example /etc/litellm/config.yaml\n"
    )
