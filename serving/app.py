"""What the server answers: finds who answers a request, and answers itself for health and metrics."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import httptools
import orjson

from serving import log
from serving.encodings import inflating
from serving.errors import RequestError
from serving.responses import JSON, METRICS, RETRY
from serving.routes import GET, Plan, Route, at_once
from serving.texts import Queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.exchange import Exchange, Head
    from serving.models import Models
    from serving.routes import Routes
    from serving.server import Server
    from serving.team import Team

_PONG: Final = orjson.dumps({"status": "ready"})


class App:
    """Routes requests to the protocols, and answers for itself: health and metrics."""

    def __init__(self, server: Server, models: Models, protocols: Sequence[Routes]) -> None:
        self._server = server
        self._models = models
        self._protocols = protocols
        self._team: Team | None = None
        models.changed = server.forget_heads

    def join(self, team: Team) -> None:
        """Be one of several workers: ready together, counted together."""
        self._team = team
        self._models.told = team.set_ready
        self._models.others_unready = team.unready

    def handle(self, exchange: Exchange) -> None:
        """Answer a request, now or with its batch."""
        try:
            plan = exchange.head.plan
            if plan is None:
                plan = self._plan(exchange.head)
                exchange.identity = exchange.head.identity
            plan(exchange)
        except Exception as error:  # noqa: BLE001  a defect must cost one request, not the process
            exchange.identity = exchange.head.identity or exchange.identity
            self.failed(exchange, error)

    def prepare(self, head: Head) -> None:
        """Find out how such requests are counted, and how refusals of them are worded."""
        with contextlib.suppress(Exception):  # whoever is answered next will hear of it
            self._plan(head)

    @staticmethod
    def failed(exchange: Exchange, error: Exception) -> None:
        """Answer a request that is refused, or met a defect."""
        if not isinstance(error, RequestError):
            log.error("internal error", error, route=exchange.head.route)
            error = RequestError(500, "internal error")
        exchange.fail(error)

    def _plan(self, head: Head) -> Plan:
        """Find what answers requests with this head, and keep it with the head; raises `RequestError`."""
        route = self._route(head.target)
        head.route = route.name
        method = GET if head.method == b"HEAD" else head.method
        planner = route.methods.get(method)
        if planner is None:
            allowed = [*route.methods, b"HEAD"] if GET in route.methods else [*route.methods]
            names = b", ".join(sorted(allowed))
            reason = f"the methods of this path: {names.decode()}"
            raise RequestError(405, reason, headers=b"Allow: %b\r\n" % names)
        head.plan = plan = inflating(head, planner(head), self._server.settings.max_body_bytes)
        if isinstance(plan, Queue):
            head.queue = plan.requests
        return plan

    def _route(self, target: bytes) -> Route:
        """Find the route of a target, which may have a query or be in absolute form."""
        try:
            path: bytes = (
                target
                if target.startswith(b"/") and b"?" not in target
                else (httptools.parse_url(target).path or b"")
            )
        except httptools.HttpParserInvalidURLError:
            path = b""
        text = path.decode("latin-1")
        if text == "/ping":
            return Route("ping", {GET: self._plan_ping})
        if text == "/metrics":
            return Route("metrics", {GET: at_once(self._show_metrics)})
        for protocol in self._protocols:
            route = protocol.route(text)
            if route is not None:
                return route
        raise RequestError(
            404, "no such path; there are /ping, /invocations, /models, /endpoints, /v2 and /metrics"
        )

    def _plan_ping(self, head: Head) -> Plan:
        with contextlib.suppress(RequestError):
            entry = self._models.default()
            head.identity = b"" if entry is None else entry.identity
        return self._ping

    def _ping(self, exchange: Exchange) -> None:
        if self._server.draining:
            raise RequestError(503, "draining", headers=RETRY)
        self._models.check_everywhere()
        exchange.respond(200, JSON, _PONG)

    def render_metrics(self, own: int) -> bytes:
        """Return what this worker counts; `own` of the requests in flight are those that ask for it."""
        server = self._server
        ready = self._models.unready is None and not server.draining
        return server.metrics.render(
            in_flight=server.in_flight - own, connections=len(server.connections), ready=ready
        )

    def _show_metrics(self, exchange: Exchange) -> None:
        if self._team is None:
            exchange.respond(200, METRICS, self.render_metrics(1))
        else:
            self._team.collect(lambda text: exchange.respond(200, METRICS, text))
