"""What LiteLLM has for a provider: it answers each endpoint as the test's script says."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PROVIDER_KEY = "sk-the-providers-key-of-the-tests"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
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
