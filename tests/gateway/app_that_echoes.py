"""The ledger around WebSockets that send back what comes, to be served by uvicorn as a process."""

import os

from litellm_sqlalchemy.ledger.asgi import Receive, Scope, Send
from litellm_sqlalchemy.ledger.capture import Ledger
from litellm_sqlalchemy.settings import CaptureSettings


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"pid", str(os.getpid()).encode())]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


app = Ledger(echo, CaptureSettings())
