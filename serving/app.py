"""What the server answers: routes, readiness, predictions."""

from collections.abc import Callable
from typing import Final, NamedTuple

import httptools
import orjson

from serving import log
from serving.batch import Batcher
from serving.connection import Exchange
from serving.errors import RequestError
from serving.formats import choose_answer, request_type
from serving.model import Model
from serving.responses import CSV, JSON, METRICS
from serving.server import Server

_GET: Final = frozenset((b"GET", b"HEAD"))
_POST: Final = frozenset((b"POST",))
_RETRY: Final = b"Retry-After: 1\r\n"


class _Route(NamedTuple):
    name: str
    methods: frozenset[bytes]
    run: Callable[[Exchange], None]


def _wrong_method(route: _Route) -> RequestError:
    allowed = b", ".join(sorted(route.methods))
    reason = f"the methods of this path: {allowed.decode()}"
    return RequestError(405, reason, headers=b"Allow: %b\r\n" % allowed)


class App:
    """SageMaker's protocol for one model, and its metrics."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._metrics = server.metrics
        self._batcher: Batcher | None = None
        self._unready = "the model is being loaded"
        self._pong = b""
        self._routes = {
            b"/ping": _Route("ping", _GET, self._ping),
            b"/invocations": _Route("invocations", _POST, self._invocations),
            b"/metrics": _Route("metrics", _GET, self._render_metrics),
        }

    def serve(self, model: Model) -> None:
        """Be ready, with this model."""
        identity = {"name": model.name, "version": model.version, "digest": model.digest}
        self._server.heads.identify(**identity)
        self._metrics.model = identity
        self._pong = orjson.dumps({"status": "ready"})
        self._batcher = Batcher(model, self._metrics)

    def refuse(self, reason: str) -> None:
        """Stay unready, for this reason."""
        self._unready = reason

    def handle(self, exchange: Exchange) -> None:
        """Answer a request, now or with its batch."""
        try:
            route = self._routes.get(exchange.target) or self._find(exchange.target)
            exchange.route = route.name
            if exchange.method in route.methods:
                route.run(exchange)
            else:
                exchange.fail(_wrong_method(route))
        except RequestError as error:
            exchange.fail(error)
        except Exception as error:  # noqa: BLE001  a defect must cost one request, not the process
            log.error("internal error", error, route=exchange.route)
            exchange.fail(RequestError(500, "internal error"))

    def _find(self, target: bytes) -> _Route:
        """Find the route of a target with a query, or in absolute form."""
        try:
            path: bytes = httptools.parse_url(target).path or b""
        except httptools.HttpParserInvalidURLError:
            path = b""
        route = self._routes.get(path)
        if route is None:
            raise RequestError(404, "no such path; there are /ping, /invocations and /metrics")
        return route

    def _ping(self, exchange: Exchange) -> None:
        if self._server.draining:
            raise RequestError(503, "draining", headers=_RETRY)
        if self._batcher is None:
            raise RequestError(503, self._unready, headers=_RETRY)
        exchange.respond(200, JSON, self._pong)

    def _invocations(self, exchange: Exchange) -> None:
        batcher = self._batcher
        if batcher is None:
            raise RequestError(503, self._unready, headers=_RETRY)
        headers = exchange.headers
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise RequestError(415, "Content-Encoding: only identity is understood")
        content_type = request_type(headers.get(b"content-type", b""))
        accept = headers.get(b"accept", b"")
        wanted = choose_answer(content_type, accept) if accept else content_type
        if content_type is CSV:
            batcher.csv(exchange, wanted)
        else:
            batcher.json(exchange, wanted)

    def _render_metrics(self, exchange: Exchange) -> None:
        server = self._server
        ready = self._batcher is not None and not server.draining
        # This request is itself in flight.
        text = self._metrics.render(
            in_flight=server.in_flight - 1, connections=len(server.connections), ready=ready
        )
        exchange.respond(200, METRICS, text)
