"""A provider that refuses: answers any POST with the status that its path begins with, in OpenAI's form."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Refusal(BaseHTTPRequestHandler):
    """Answers /STATUS/… with that status."""

    def do_POST(self) -> None:
        """Refuse."""
        self.rfile.read(int(self.headers["content-length"]))
        status = int(self.path.split("/")[1])
        body = json.dumps({"error": {"message": f"scripted refusal {status}", "type": "scripted", "code": str(status)}})
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8090), Refusal).serve_forever()  # noqa: S104 - the lab's own network
