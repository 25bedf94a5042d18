"""A provider that does as its path says, in OpenAI's form, by the first part of it:

/STATUS/… refuses; /slow/… streams until it may end; /echo/… says what was asked, streamed or not, at once.
"""

import json
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MAY_END = Path("/run/upstream-may-end")
LONGEST_ANSWER_SECONDS = 50  # less than the gateway waits for answers in flight when it stops
MOST_EVENTS = 20
EVENT_SECONDS = 0.005
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class Provider(BaseHTTPRequestHandler):
    """Answers any POST."""

    def do_POST(self) -> None:
        """Answer."""
        question = self.rfile.read(int(self.headers["content-length"]))
        kind = self.path.split("/")[1]
        if kind == "slow":
            self._stream(_until_it_may_end())
        elif kind == "echo":
            self._echo(json.loads(question))
        else:
            status = int(kind)
            self._send(
                status,
                {"error": {"message": f"scripted refusal {status}", "type": "scripted", "code": str(status)}},
            )

    def log_message(self, *_: Any) -> None:
        """Say nothing: there may be thousands of calls."""

    def _echo(self, question: dict[str, Any]) -> None:
        text = question["messages"][-1]["content"]
        if question.get("stream"):
            step = max(len(text) // MOST_EVENTS, 50)
            self._stream(_slowly(text[start : start + step] for start in range(0, len(text), step)))
        else:
            message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            answer = {"id": "echo", "object": "chat.completion", "created": 1, "model": "echo", "choices": [message]}
            self._send(200, {**answer, "usage": USAGE})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, words: Iterable[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for word in words:
            self._send_event({"delta": {"role": "assistant", "content": word}, "finish_reason": None})
        self._send_event({"delta": {"content": "end"}, "finish_reason": "stop"}, usage=USAGE)
        self.wfile.write(b"data: [DONE]\n\n")

    def _send_event(self, choice: dict[str, Any], **more: Any) -> None:
        choices = [{"index": 0, **choice}]
        chunk = {"id": "word", "object": "chat.completion.chunk", "created": 1, "model": "word", "choices": choices}
        self.wfile.write(f"data: {json.dumps(chunk | more)}\n\n".encode())


def _until_it_may_end() -> Iterable[str]:
    end = time.monotonic() + LONGEST_ANSWER_SECONDS
    while not MAY_END.exists() and time.monotonic() < end:
        yield "word "
        time.sleep(0.2)


def _slowly(pieces: Iterable[str]) -> Iterable[str]:
    for piece in pieces:
        yield piece
        time.sleep(EVENT_SECONDS)


class Server(ThreadingHTTPServer):
    """Takes many calls at a time."""

    request_queue_size = 128


if __name__ == "__main__":
    Server(("0.0.0.0", 8090), Provider).serve_forever()  # noqa: S104 - the lab's own network
