"""What LiteLLM has for a provider: it answers each endpoint as the test's script says."""

import asyncio
import base64
import contextlib
import json
import threading
import uuid
from collections.abc import AsyncIterator
from typing import Any

from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

PROVIDER_KEY = "sk-the-providers-key-of-the-tests"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
CHAT = "/v1/chat/completions"
ANY_BYTES = bytes(range(256)) * 4
"""A sound, a picture, a file: no text in any encoding."""
go_on = threading.Event()
"""Set by a test that has a stream wait in its middle."""


async def _chat(request: Request) -> Response:
    assert request.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    asked = await request.json()
    said = asked["messages"][-1]["content"]
    if said == "fail":
        return JSONResponse({"error": {"message": "the upstream refuses", "type": "invalid_request_error"}}, 400)
    head = {"id": f"chatcmpl-{uuid.uuid4()}", "created": 1, "model": asked["model"]}
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


async def _get_file(request: Request, name: str) -> None:
    async with request.form() as form:
        file = form.get(name) or form[f"{name}[]"]
        assert isinstance(file, UploadFile)
        assert await file.read() == ANY_BYTES


async def _images(request: Request) -> Response:
    if request.url.path.endswith("/edits"):
        await _get_file(request, "image")
    return JSONResponse({"created": 1, "data": [{"b64_json": base64.b64encode(ANY_BYTES).decode()}]})


async def _speech(_request: Request) -> Response:
    return Response(ANY_BYTES, media_type="audio/mpeg")


async def _transcriptions(request: Request) -> Response:
    await _get_file(request, "file")
    return JSONResponse({"text": "Paris"})


async def _rerank(_request: Request) -> Response:
    results = [{"index": 1, "relevance_score": 0.75}, {"index": 0, "relevance_score": 0.25}]
    return JSONResponse({"id": "rerank-1", "results": results, "meta": {"billed_units": {"search_units": 1}}})


async def _moderations(request: Request) -> Response:
    asked = await request.json()
    result = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.0001}}
    return JSONResponse({"id": "modr-1", "model": asked["model"], "results": [result]})


BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": CHAT,
    "input_file_id": "file-1",
    "completion_window": "24h",
    "status": "in_progress",
    "created_at": 1,
}


async def _batches(request: Request) -> Response:
    if request.method == "GET" and not request.path_params:
        return JSONResponse({"object": "list", "data": [BATCH], "has_more": False})
    return JSONResponse(BATCH)


FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": len(ANY_BYTES),
    "created_at": 1,
    "filename": "any.jsonl",
    "purpose": "batch",
    "status": "processed",
}


async def _files(request: Request) -> Response:
    if request.url.path.endswith("/content"):
        return Response(ANY_BYTES, media_type="application/octet-stream")
    if request.method == "GET" and not request.path_params:
        return JSONResponse({"object": "list", "data": [FILE], "has_more": False})
    return JSONResponse(FILE)


async def _vector_stores(request: Request) -> Response:
    if request.url.path.endswith("/search"):
        found = {"file_id": "file-1", "filename": "any", "score": 0.5, "content": [{"type": "text", "text": "Paris"}]}
        page = "vector_store.search_results.page"
        return JSONResponse({"object": page, "search_query": ["Hi"], "data": [found], "has_more": False})
    counts = dict.fromkeys(("in_progress", "completed", "failed", "cancelled", "total"), 0)
    head = {"id": "vs_1", "object": "vector_store", "created_at": 1, "name": "n", "usage_bytes": 0}
    return JSONResponse({**head, "file_counts": counts, "status": "completed"})


async def _generate_content(request: Request) -> Response:
    parts = {"role": "model", "parts": [{"text": "Pa\u00df"}]}
    counted = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
    answer = {"candidates": [{"content": parts, "finishReason": "STOP", "index": 0}], "usageMetadata": counted}
    if request.url.path.endswith(":generateContent"):
        return JSONResponse(answer)
    return Response(f"data: {json.dumps(answer)}\r\n\r\n", media_type="text/event-stream")


async def _pass(request: Request) -> Response:
    """What a pass-through endpoint leads to: it gives back what it got."""
    if request.url.path.endswith("/stream"):
        return Response("data: {}\n\ndata: [DONE]\n\n", media_type="text/event-stream")
    if request.url.path.endswith("/bytes"):
        return Response(ANY_BYTES, media_type="application/octet-stream")
    return Response(await request.body(), media_type=request.headers.get("content-type"))


async def _realtime(websocket: WebSocket) -> None:
    """Greets, and answers each message with itself."""
    assert websocket.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    await websocket.accept()
    await websocket.send_json({"type": "session.created", "event_id": "event_0", "session": {"id": "sess_1"}})
    place = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    async for said in websocket.iter_text():
        await websocket.send_json({"type": "response.text.delta", "event_id": "event_1", "delta": said, **place})


OPENAI = [
    Route("/chat/completions", _chat, methods=["POST"]),
    Route("/completions", _completions, methods=["POST"]),
    Route("/responses", _responses, methods=["POST"]),
    Route("/embeddings", _embeddings, methods=["POST"]),
    Route("/images/generations", _images, methods=["POST"]),
    Route("/images/edits", _images, methods=["POST"]),
    Route("/audio/speech", _speech, methods=["POST"]),
    Route("/audio/transcriptions", _transcriptions, methods=["POST"]),
    Route("/moderations", _moderations, methods=["POST"]),
    Route("/batches", _batches, methods=["GET", "POST"]),
    Route("/batches/{batch}", _batches),
    Route("/files", _files, methods=["GET", "POST"]),
    Route("/files/{file}", _files),
    Route("/files/{file}/content", _files),
    Route("/vector_stores", _vector_stores, methods=["POST"]),
    Route("/vector_stores/{store}/search", _vector_stores, methods=["POST"]),
    WebSocketRoute("/realtime", _realtime),
]


def make_upstream() -> Starlette:
    """Make an upstream; for one start, because a session manager of MCP runs once."""
    mcp = MCPServer("upstream")

    @mcp.tool()
    def capital(country: str) -> str:
        """Tells a country's capital."""
        return f"Paris is the capital of {country}"

    routes = [
        Mount("/v1", routes=OPENAI),
        *OPENAI,  # LiteLLM asks for some without /v1, if that is not in $OPENAI_API_BASE
        Route("/v1/rerank", _rerank, methods=["POST"]),
        Route("/v2/rerank", _rerank, methods=["POST"]),
        Route("/models/{model}", _generate_content, methods=["POST"]),
        Route("/v1beta/models/{model}", _generate_content, methods=["POST"]),
        Route("/passed", _pass, methods=["POST"]),
        Route("/passed/{path:path}", _pass, methods=["POST"]),
        *mcp.streamable_http_app(stateless_http=True).routes,
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with mcp.session_manager.run():
            yield

    return Starlette(lifespan=lifespan, routes=routes)
