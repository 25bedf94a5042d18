"""The ledger around an application that begins every answer and ends none, to be served by uvicorn as a process."""

import asyncio

from litellm_sqlalchemy.ledger.asgi import Receive, Scope, Send
from litellm_sqlalchemy.ledger.capture import Ledger
from litellm_sqlalchemy.settings import CaptureSettings


async def wait(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    try:
        await asyncio.sleep(1_000)
    finally:
        await asyncio.sleep(0.3)  # as LiteLLM closes its stream to the model


app = Ledger(wait, CaptureSettings())
