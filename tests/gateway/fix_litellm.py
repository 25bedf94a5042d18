"""The real LiteLLM behind the ledger, as the gateway's unit runs it, with a scripted upstream."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fix_server import serving
from tests.ports import free_port

MASTER_KEY = "sk-the-master-key-of-the-tests"
PROVIDER_KEY = "sk-the-providers-key-of-the-tests"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
CONFIG = """
model_list:
  - model_name: talks
    litellm_params:
      model: openai/talks-upstream
      api_base: {upstream}
      api_key: os.environ/PROVIDER_KEY
      input_cost_per_token: 0.001
      output_cost_per_token: 0.01
  - model_name: writes
    litellm_params:
      model: text-completion-openai/writes-upstream
      api_base: {upstream}
      api_key: os.environ/PROVIDER_KEY
  - model_name: embeds
    litellm_params: {{model: openai/embeds-upstream, api_base: {upstream}, api_key: os.environ/PROVIDER_KEY}}
litellm_settings:
  num_retries: 0
  use_chat_completions_url_for_anthropic_messages: true
"""
go_on = threading.Event()
"""Set by a test that has a stream wait in its middle."""


async def _chat(request: Request) -> Response:
    assert request.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    asked = await request.json()
    said = asked["messages"][-1]["content"]
    if said == "fail":
        return JSONResponse({"error": {"message": "the upstream refuses", "type": "invalid_request_error"}}, 400)
    head = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "Pa\u00df \U0001f600\n"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": USAGE})

    def chunk(delta: dict[str, str], finish: str | None = None, **more: Any) -> str:
        choices = [] if more else [{"index": 0, "delta": delta, "finish_reason": finish}]
        return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': choices, **more})}\n\n"

    async def stream() -> AsyncIterator[str]:
        yield chunk({"role": "assistant", "content": "Pa"})
        if said == "wait":
            await asyncio.to_thread(go_on.wait, 60)
        yield chunk({"content": "\u00df \U0001f600\n"})
        yield chunk({}, "stop")
        yield chunk({}, usage=USAGE)
        yield "data: [DONE]\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def _completions(request: Request) -> Response:
    asked = await request.json()
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": asked["model"]}
    if not asked.get("stream"):
        choice = {"index": 0, "text": "Paris", "finish_reason": "stop"}
        return JSONResponse({**head, "choices": [choice], "usage": USAGE})
    pieces = [("Pa", None), ("ris", "stop")]
    events = [{**head, "choices": [{"index": 0, "text": text, "finish_reason": end}]} for text, end in pieces]
    return Response("".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n",
                    media_type="text/event-stream")  # fmt: skip


async def _responses(request: Request) -> Response:
    asked = await request.json()
    text = {"type": "output_text", "text": "Paris", "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": asked["model"], "output": []}
    done = {**head, "status": "completed", "output": [message], "usage": usage}
    if not asked.get("stream"):
        return JSONResponse(done)
    delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "Paris"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**head, "status": "in_progress"}},
        {"type": "response.output_text.delta", **delta},
        {"type": "response.completed", "response": done},
    ]
    return Response("".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events),
                    media_type="text/event-stream")  # fmt: skip


async def _embeddings(request: Request) -> Response:
    asked = await request.json()
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5e-07]}]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return JSONResponse({"object": "list", "model": asked["model"], "data": data, "usage": usage})


UPSTREAM = Starlette(
    routes=[
        Route("/v1/chat/completions", _chat, methods=["POST"]),
        Route("/v1/completions", _completions, methods=["POST"]),
        Route("/v1/responses", _responses, methods=["POST"]),
        Route("/v1/embeddings", _embeddings, methods=["POST"]),
    ]
)


@dataclass(frozen=True)
class LiteLLM:
    """The running gateway."""

    port: int
    spool: Path
    told_systemd: list[bytes]

    def post(self, path: str, body: object, key: str = MASTER_KEY) -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{self.port}{path}", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60
        )


@contextlib.contextmanager
def running(directory: Path) -> Iterator[LiteLLM]:
    """Start LiteLLM with two workers; it has two minutes to become ready."""
    credentials = directory / "credentials"
    credentials.mkdir()
    for name, secret in (("LITELLM_MASTER_KEY", MASTER_KEY), ("PROVIDER_KEY", PROVIDER_KEY)):
        (credentials / name).write_text(f"{secret}\n")
    with (
        serving(UPSTREAM) as upstream,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        (directory / "log").open("w") as log,
    ):
        (directory / "config.yaml").write_text(CONFIG.format(upstream=f"http://127.0.0.1:{upstream}/v1"))
        systemd.bind(str(directory / "notify"))
        systemd.settimeout(120)
        port, spool = free_port(), directory / "spool" / "spool.sqlite3"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "litellm_sqlalchemy.gateway:app", "--lifespan", "on"),
                *("--workers", "2", "--port", str(port)),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "CONFIG_FILE_PATH": str(directory / "config.yaml"),
                "CREDENTIALS_DIRECTORY": str(credentials),
                "LEDGER_SPOOL_PATH": str(spool),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_MODE": "PRODUCTION",
                "NOTIFY_SOCKET": str(directory / "notify"),
            },
            stdout=log,
            stderr=log,
        )
        try:
            told = [systemd.recv(100), systemd.recv(100)]  # one for each worker
            yield LiteLLM(port, spool, told)
        except TimeoutError:
            raise AssertionError((directory / "log").read_text()) from None
        finally:
            go_on.set()
            process.terminate()
            process.wait(60)
