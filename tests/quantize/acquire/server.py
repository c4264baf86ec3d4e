"""A web server on this machine that can be told to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does; requests are noted down.

    Attributes:
        content: of the one file, under any path but /redirect.
        etag: its version; empty for a server that does not say.
        ranges: whether it can resume.
        cut_after: for each request in turn, after how many bytes of the answer the connection breaks.
        errors: for each request in turn, the status to answer instead; 0 for none.
        location: where /redirect leads.
        says_length: whether it tells the length.
    """

    content: bytes
    etag: str = '"one"'
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    location: str = ""
    says_length: bool = True
    requests: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/net.onnx"


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[Behaviour]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that the base class calls
            behaviour.requests.append({"path": self.path, **dict(self.headers.items())})
            status = behaviour.errors.pop(0) if behaviour.errors else 0
            if status:
                self.send_error(status)
            elif self.path == "/redirect":
                self.send_response(302)
                self.send_header("Location", behaviour.location)
                self.end_headers()
            else:
                self._send()

        def _send(self) -> None:
            start = self._start()
            if start > len(behaviour.content):
                self.send_error(416)
                return
            body = behaviour.content[start:]
            self.send_response(206 if start else 200)
            if start:
                total = len(behaviour.content)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            if behaviour.etag:
                self.send_header("ETag", behaviour.etag)
            if behaviour.says_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = behaviour.cut_after.pop(0) if behaviour.cut_after else len(body)
            self.wfile.write(body[:cut])
            self.close_connection = True

        def _start(self) -> int:
            wanted = self.headers.get("Range", "")
            same = self.headers.get("If-Range", behaviour.etag) == behaviour.etag
            if not (behaviour.ranges and same and wanted.startswith("bytes=")):
                return 0
            return int(wanted.removeprefix("bytes=").rstrip("-"))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    behaviour.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
