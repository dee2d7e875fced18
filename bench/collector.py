"""A collector of traces that takes everything: where a server sends them when all is switched on.

`GET /` answers 200 with the bytes it has taken.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

from bench.processes import Launch, free_port

if TYPE_CHECKING:
    from pathlib import Path


class Collector(BaseHTTPRequestHandler):
    """One connection of an exporter."""

    protocol_version = "HTTP/1.1"
    taken: ClassVar[int] = 0

    def do_POST(self) -> None:
        """Take a batch of spans."""
        Collector.taken += len(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"")

    def do_GET(self) -> None:
        """Say how much was taken."""
        self._answer(b"%d" % Collector.taken)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def launch(root: Path) -> Launch:
    """Return how to start it; `root` is the project's."""
    port = free_port()
    return Launch(argv=[sys.executable, "-m", "bench.collector", str(port)], cwd=root, port=port, ready="/")


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Collector)
    server.daemon_threads = True
    server.serve_forever()
