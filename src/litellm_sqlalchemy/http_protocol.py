"""uvicorn's HTTP/1.1 on a socket that only nginx reaches: `--http litellm_sqlalchemy.http_protocol:HttpProtocol`.

nginx opens a connection for each request, and sends the request at once. uvicorn, when it stops, closes a connection
whose request it has not read yet, which a client would see as an error. Here it reads it, and answers.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpProtocol(HttpToolsProtocol):
    """A connection with one request."""

    def shutdown(self) -> None:
        """Let the request come to its answer: `--timeout-graceful-shutdown` ends what takes too long."""
        if self.cycle is not None:
            super().shutdown()
