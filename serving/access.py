"""A log line for each request, or for each that is refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from serving import context, log
from serving.observe import ShadowRequest
from serving.routes import PREDICTIONS, PROBES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.batch import Batch, Waiting
    from serving.models import Entry
    from serving.observe import Observed, Observer

_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500
# Of refusals with 4xx, and of those with 5xx, when only refusals are logged: a client that
# repeats its mistake a thousand times a second is told of at once, and does not fill the log.
_MOST_A_SECOND: Final = 10
_LONGEST_PATH: Final = 200


class RequestLog:
    """Writes the lines; `every`: of all requests, not only of refused ones. `shadow` predicts for others too.

    Probes and scrapes are never logged: that the server is not ready it logs itself, once.
    """

    def __init__(self, writer: log.Writer, *, every: bool, shadow: str = "") -> None:
        self.suppressed = 0
        self._writer = writer
        self._every = every
        self._shadow = shadow
        self._second = 0
        self._told: dict[int, int] = {}
        self._untold = 0

    def watch(self, entry: Entry) -> Observer:
        """Return what logs a model's predictions."""
        return _ModelLog(entry, self._writer, shadows=entry.name == self._shadow)

    def answered(self, exchange: Observed, status: int) -> None:
        """Log an answer that came from no batch."""
        route = exchange.head.route
        if status < _CLIENT_ERROR and (not self._every or route in PREDICTIONS):
            return
        if route in PROBES:
            return
        now = time.time()
        if not self._every and not self._may_tell(int(now), status // 100):
            self.suppressed += 1
            self._untold += 1
            return
        line = _line(exchange, status, now)
        if self._untold:
            line["suppressed"], self._untold = self._untold, 0
        self._writer.write(orjson.dumps(line).decode() + "\n")

    def _may_tell(self, second: int, kind: int) -> bool:
        if second != self._second:
            self._second = second
            self._told.clear()
        told = self._told[kind] = self._told.get(kind, 0) + 1
        return told <= _MOST_A_SECOND


class _ModelLog:
    """Logs what one model predicted, a batch at a time."""

    def __init__(self, entry: Entry, writer: log.Writer, *, shadows: bool) -> None:
        self._shadows = shadows
        loaded = entry.model
        names = {"model": entry.name, "version": loaded.version}
        self._model = '","status":200,' + orjson.dumps(names).decode()[1:-1] + ',"rows":'
        self._prefix, self._numbers = context.new_ids()
        self._writer = writer

    def observe(self, waiting: Sequence[Waiting], batch: Batch, begun: float, done: float) -> None:  # noqa: ARG002
        """Write a line for each."""
        if self._shadows:
            waiting = [item for item in waiting if not isinstance(item[0], ShadowRequest)]
        stamp = log.timestamp(time.time())
        ours = f'{{"time":"{stamp}","level":"info","event":"request","request_id":"'
        prefix, model = self._prefix, self._model
        asked = cast("Sequence[tuple[Observed, object, int, int]]", waiting)
        # One expression for a line: this is done for every request.
        lines = [
            f'{ours}{prefix + str(number) if request.context is None else _named(request.context)}","route":"'
            f'{request.head.route}{model}{stop - first},"seconds":{done - request.started:.6f}'
            f',"request_bytes":{len(request.body)},"answer_bytes":{len(request.answer or b"")}}}\n'
            for (request, _, first, stop), number in zip(asked, self._numbers, strict=False)
        ]
        if lines:
            self._writer.write("".join(lines), len(lines))


def _named(own: context.Context) -> str:
    """Return a request's id, and after it its trace's."""
    own.request_id = own.request_id or context.new_id()
    name = own.request_id.decode()
    return f'{name}","trace_id":"{own.trace_id}' if own.trace_id else name


def _line(exchange: Observed, status: int, now: float) -> dict[str, Any]:
    """Return the line of an answer from no batch; a client's words only as far as they name the path."""
    own = exchange.context or context.Context({})
    path = exchange.head.target.partition(b"?")[0][:_LONGEST_PATH]
    line: dict[str, Any] = {
        "time": log.timestamp(now),
        "level": "warning" if status >= _SERVER_ERROR else "info",
        "event": "request",
        "request_id": (own.request_id or context.new_id()).decode(),
        "route": exchange.head.route,
        "status": status,
        "method": exchange.head.method.decode("latin-1"),
        "path": path.decode("latin-1"),
        "seconds": round(time.perf_counter() - exchange.started, 6),
        "request_bytes": len(exchange.body),
        "answer_bytes": len(exchange.answer or b""),
    }
    if own.trace_id:
        line["trace_id"] = own.trace_id
    return line
