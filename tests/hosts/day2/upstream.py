"""A provider that does as its path says, in OpenAI's form: /STATUS/… refuses, /slow/… streams until it may end."""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MAY_END = Path("/run/upstream-may-end")
LONGEST_ANSWER_SECONDS = 50  # less than the gateway waits for answers in flight when it stops


class Provider(BaseHTTPRequestHandler):
    """Answers any POST."""

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["content-length"]))
        kind = self.path.split("/")[1]
        if kind == "slow":
            self._stream()
        else:
            self._refuse(int(kind))

    def _refuse(self, status: int) -> None:
        body = json.dumps({"error": {"message": f"scripted refusal {status}", "type": "scripted", "code": str(status)}})
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        end = time.monotonic() + LONGEST_ANSWER_SECONDS
        while not MAY_END.exists() and time.monotonic() < end:
            self._send_word("word ", None)
            time.sleep(0.2)
        self._send_word("end", "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def _send_word(self, word: str, finish: str | None) -> None:
        choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": finish}
        chunk = {"id": "slow", "object": "chat.completion.chunk", "created": 1, "model": "slow", "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8090), Provider).serve_forever()  # noqa: S104 - the lab's own network
