"""Collectors of traces, as tests want them: one takes or refuses, the other leaves its client waiting."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Sink:
    """An OTLP/HTTP endpoint on a free port of the loopback interface."""

    def __init__(self, status: int = 200) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.resources: list[dict[str, str]] = []
        self.spans: list[Span] = []
        self.arrived = threading.Condition()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                message = ExportTraceServiceRequest.FromString(body)
                with sink.arrived:
                    sink.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                    for part in message.resource_spans:
                        sink.resources.append(attributes(part.resource))
                        sink.spans += [span for scope in part.scope_spans for span in scope.spans]
                    sink.arrived.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, number: int, seconds: float = 20) -> list[Span]:
        """Wait until so many spans have arrived; return all."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.spans) >= number, seconds), self.spans
            return list(self.spans)


class Hanging:
    """An endpoint that accepts connections, and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def attributes(item: Any) -> dict[str, Any]:
    """Return the attributes of a span or a resource."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in item.attributes}
