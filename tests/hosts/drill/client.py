"""Load on a gateway, and a record of what it answered. Standard library only; knows nothing of the gateway's code.

usage: client.py URL CA MODEL LABEL PATIENCE < KEY > JOURNAL   PATIENCE: seconds, with a gateway that says nothing

The first line of standard input is the key; when standard input ends, calls in flight come to their end, and so does
the client. Each call asks for a text of its own, every other one as a stream, and is one line of the journal, written
at the moment of the answer's last byte, or when it is clear that there will be none.
"""

import base64
import hashlib
import http.client
import json
import random
import ssl
import sys
import threading
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

CONCURRENCY = 8
CALLS_PER_SECOND = 40
MOST_CALLS = 20_000
LONGEST_SECONDS = 900
PATIENCE_SECONDS = 20
PAUSE_SECONDS = 0.2  # after a call without an answer: to knock at a closed door a thousand times proves nothing
STREAM_END = b"data: [DONE]\n\n"  # here, clients stop reading
PIECES = ("plain words ", "Grüße ", "日本語 ", "🜁🙂 ", '"quoted" ', "back\\slash ", "tab\t", "line\nline ", "</html> ")
STRANGE = "\u0000"  # jsonb can't hold it


def question(model: str, name: str, *, stream: bool) -> bytes:
    """Write a request's body, no two alike: in their texts, sizes, escapes and white space."""
    size = random.choices([200, 2_000, 20_000], weights=[60, 37, 3])[0]
    pieces = [name, " "]
    while sum(map(len, pieces)) < size:
        pieces.append(random.choice(PIECES))
    if random.random() < 0.02:
        pieces.append(STRANGE)
    body = {"model": model, "messages": [{"role": "user", "content": "".join(pieces)}], "stream": stream}
    return json.dumps(body, ensure_ascii=random.random() < 0.5, indent=random.choice([None, 1])).encode()


class Call:
    """One call, and what became of it.

    Attributes:
        status: The answer's status; None if there was no answer.
        received: The answer's body, as far as it came.
        complete: Whether its end came.
        error: Why it did not.
    """

    def __init__(self, sent: bytes) -> None:
        self.sent = sent
        self.status: int | None = None
        self.received = b""
        self.complete = False
        self.error: str | None = None

    def make(self, connection: http.client.HTTPConnection, headers: dict[str, str]) -> None:
        """Post the request on a connection of its own, and read the answer to its end."""
        try:
            connection.request("POST", "/v1/chat/completions", self.sent, headers)
            answer = connection.getresponse()
            self.status = answer.status
            while piece := answer.read1(1 << 16):
                self.received += piece
            # Of one that is sent in chunks, http.client misses the last; of one with a length, it does not say so.
            self.complete = answer.chunked is True or answer.length == 0
            self.error = None if self.complete else "the connection ended before the answer"
            if self.status in {502, 504} and b'"refused_at_the_door"' in self.received:
                self.complete, self.error = False, "nginx had no answer of the gateway's"
        except (OSError, http.client.HTTPException) as error:
            self.error = f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        self.complete = self.complete or self.received.endswith(STREAM_END)

    @property
    def verdict(self) -> str:
        """What it counts as. A refusal says itself that it stands for no answer, and that nothing is recorded."""
        if not self.complete:
            return "unanswered"
        return "refused" if self.status == 503 and b'"ledger_unavailable"' in self.received else "answered"


def main() -> None:
    url, ca, model, label, patience = sys.argv[1:]
    host, port = urlsplit(url).hostname, urlsplit(url).port
    tls = ssl.create_default_context(cafile=ca)
    key = sys.stdin.readline().strip()
    stop = threading.Event()
    writing = threading.Lock()
    left = iter(range(MOST_CALLS))
    end = time.monotonic() + LONGEST_SECONDS

    def write(entry: dict[str, Any]) -> None:
        with writing:
            print(json.dumps(entry), flush=True)  # noqa: T201 - the journal

    def call_on() -> None:
        while not stop.is_set() and time.monotonic() < end:
            with writing:
                number = next(left, None)
            if number is None:
                return
            call_id = f"{label}.{uuid.uuid4()}"
            call = Call(question(model, call_id, stream=number % 2 == 0))
            began, clock = time.time(), time.monotonic()
            call.make(
                http.client.HTTPSConnection(host or "", port, timeout=float(patience), context=tls),
                {"authorization": f"Bearer {key}", "content-type": "application/json", "x-litellm-call-id": call_id},
            )
            write(
                {
                    "label": label,
                    "call_id": call_id,
                    "began": began,
                    "ended": time.time(),
                    "verdict": call.verdict,
                    "status": call.status,
                    "error": call.error,
                    "sent_size": len(call.sent),
                    "sent_sha256": hashlib.sha256(call.sent).hexdigest(),
                    "sent": base64.b64encode(call.sent).decode(),
                    "received_size": len(call.received),
                    "received_sha256": hashlib.sha256(call.received).hexdigest(),
                    "received": base64.b64encode(call.received).decode(),
                }
            )
            pause = CONCURRENCY / CALLS_PER_SECOND - (time.monotonic() - clock)
            stop.wait(max(pause, PAUSE_SECONDS if not call.complete else 0))

    callers = [threading.Thread(target=call_on) for _ in range(CONCURRENCY)]
    for caller in callers:
        caller.start()
    sys.stdin.read()
    stop.set()
    for caller in callers:
        caller.join()


if __name__ == "__main__":
    main()
