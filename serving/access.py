"""A log line for each request, or for each that is refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from serving import columns, context, log
from serving.routes import PREDICTIONS, PROBES

if TYPE_CHECKING:
    from serving.models import Entry
    from serving.observe import Answers, Observed, Observer

_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500
# Of refusals with 4xx, and of those with 5xx, when only refusals are logged: a client that
# repeats its mistake a thousand times a second is told of at once, and does not fill the log.
_MOST_A_SECOND: Final = 10
_LONGEST_PATH: Final = 200
_MOST_ENDS: Final = 4096
_BEGIN: Final = b'{"time":"%b","level":"info","event":"request","request_id":"%b'


class RequestLog:
    """Writes the lines; `every`: of all requests, not only of refused ones.

    Probes and scrapes are never logged: that the server is not ready it logs itself, once.
    """

    def __init__(self, writer: log.Writer, *, every: bool) -> None:
        self.suppressed = 0
        self._writer = writer
        self._every = every
        self._second = 0
        self._told: dict[int, int] = {}
        self._untold = 0

    def watch(self, entry: Entry) -> Observer:
        """Return what logs a model's predictions."""
        return _ModelLog(entry, self._writer)

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
        self._writer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _may_tell(self, second: int, kind: int) -> bool:
        if second != self._second:
            self._second = second
            self._told.clear()
        told = self._told[kind] = self._told.get(kind, 0) + 1
        return told <= _MOST_A_SECOND


class _Ends(dict[tuple[int, int], bytes]):
    """The ends of lines by the bytes of request and answer; of either there are few different ones."""

    def __missing__(self, sizes: tuple[int, int]) -> bytes:
        if len(self) >= _MOST_ENDS:
            self.clear()
        end = self[sizes] = b',"request_bytes":%d,"answer_bytes":%d}\n' % sizes
        return end


class _ModelLog:
    """Logs what one model predicted, a batch at a time."""

    def __init__(self, entry: Entry, writer: log.Writer) -> None:
        names = {"model": entry.name, "version": entry.model.version}
        model = orjson.dumps(names)[1:-1].replace(b"%", b"%%")
        self._form = b'","route":"%%b","status":200,%b,"rows":%%d,"seconds":' % model
        self._ends = _Ends()
        self._writer = writer

    def observe(self, answers: Answers) -> None:
        """Write a line for each, a column at a time: line by line it takes three times as long."""
        if answers.shadow:
            return
        prefix, numbers = context.new_ids(len(answers))
        ids, (begins, middles) = list(numbers), self._of_turns(answers, prefix)
        for number, own in answers.contexts.items():
            begins[number] = begins[number].removesuffix(prefix)
            ids[number] = _named(own)
        lengths = zip(map(len, answers.asked), answers.sent, strict=True)
        ends = list(map(self._ends.__getitem__, lengths))
        self._writer.write(columns.joined(len(answers), begins, ids, middles, ends), len(answers))

    def _of_turns(self, answers: Answers, prefix: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return what stands before the ids' ends, and what between the ids and the sizes."""
        begins: list[bytes] = []
        middles: list[bytes] = []
        epoch = time.time() - time.perf_counter()
        names = {head.route: head.route.encode() for head in answers.kinds}
        for count, turn in answers.turns():
            start, stop = len(begins), len(begins) + count
            begins += [_BEGIN % (log.timestamp(epoch + turn.done), prefix)] * count
            took = b"%.6f" % turn.seconds
            sizes = answers.sizes[start:stop]
            if len(names) == 1 and sizes.count(sizes[0]) == count:
                middles += [self._form % (*names.values(), sizes[0]) + took] * count
            else:
                heads = answers.heads[start:stop]
                pairs = zip(heads, sizes, strict=True)
                middles += [self._form % (names[head.route], size) + took for head, size in pairs]
        return begins, middles


def _named(own: context.Context) -> bytes:
    """Return a request's id, and after it its trace's."""
    own.request_id = own.request_id or context.new_id()
    return b'%b","trace_id":"%b' % (own.request_id, own.trace_id.encode()) if own.trace_id else own.request_id


def _line(exchange: Observed, status: int, now: float) -> dict[str, Any]:
    """Return the line of an answer from no batch; a client's words only as far as they name the path."""
    own = exchange.context or context.Context({})
    path = exchange.head.target.partition(b"?")[0][:_LONGEST_PATH]
    line: dict[str, Any] = {
        "time": log.timestamp(now).decode(),
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
