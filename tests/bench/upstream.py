"""A scripted model that answers every request after 20 ms, and costs little: `python -m tests.bench.upstream PORT`."""

import asyncio
import json
import sys
from typing import Any, cast

import httptools
import uvloop

THINKS_SECONDS = 0.020
WORDS = "The capital of France is Paris, which lies on the Seine; it has been the capital since the year 987. "


def answer_body(size: int) -> bytes:
    """Write a chat completion of about so many bytes."""
    message = {"role": "assistant", "content": (WORDS * (size // len(WORDS) + 1))[: size - 300]}
    return json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_795_486_879,
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 200, "completion_tokens": 180, "total_tokens": 380},
        }
    ).encode()


BODY = answer_body(1_000)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Upstream(asyncio.Protocol):
    """One connection of the gateway's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        asyncio.get_running_loop().call_later(THINKS_SECONDS, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


async def serve(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=1_024)
    await server.serve_forever()


def main(arguments: list[str]) -> Any:
    return uvloop.run(serve(int(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
