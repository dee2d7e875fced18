"""All rows that arrived in one turn of the event loop are predicted by one call of the model.

A call costs XGBoost about 0.3 ms for one row and hardly more for a hundred. No timer waits for company:
whatever the turn brought goes, so an idle server adds nothing to a request and a busy one batches by itself.

The batch knows no protocol: it takes rows, whose request and reply are whatever offers `Request` and `Reply`.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from bundle.preprocess import PreprocessError
from serving import formats, log
from serving.errors import RequestError
from serving.observe import Turn
from serving.texts import Layout, Numbers, Otherwise, Queue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from serving.context import Context
    from serving.metrics import Histogram, ModelMetrics
    from serving.model import Model
    from serving.observe import Audience, Shadow

# A turn may bring more rows than this: then the call is made before the turn ends.
FULL: Final = 1024
_NAN: Final = float("nan")


class Request(Protocol):
    """Whoever waits for predictions."""

    started: float  # time.perf_counter()
    context: Context | None  # its id, and the trace that it belongs to, if it says so

    def fail(self, error: RequestError) -> None:
        """Answer with the reason why there are no predictions."""
        ...


class Reply(Protocol):
    """Turns predictions into answers, for one model, protocol and format."""

    seconds: Histogram
    content_type: bytes

    def send(self, request: Any, batch: Batch, start: int, stop: int) -> bytes:  # noqa: ANN401
        """Answer a request, whose rows are those from `start` to `stop` of the batch; return the body."""
        ...


class RowReply(Reply, Protocol):
    """A reply that also answers many requests of one row each."""

    def send_rows(self, requests: Sequence[Any], batch: Batch, start: int) -> Sequence[bytes]:
        """Answer the requests, whose rows follow one another in the batch from `start` on.

        Returns the bodies of the answers.
        """
        ...


class Batch:
    """The predictions of one call: (rows,), or (rows, classes).

    `begun` is when the rows' wait ended, `done` when those had been answered that are about to be told of.
    """

    __slots__ = ("_text", "_tokens", "begun", "done", "predictions")

    def __init__(self, predictions: NDArray[np.float32], begun: float) -> None:
        self.predictions = predictions
        self.begun = self.done = begun
        self._text: tuple[bytes, bytes] | None = None
        self._tokens: list[bytes] | None = None

    @property
    def rows(self) -> int:
        """How many were predicted."""
        return len(self.predictions)

    @property
    def tokens(self) -> list[bytes]:
        """Each row's prediction as text; made for the whole batch at the first use."""
        if self._tokens is None:
            text, separator = self._written()
            self._tokens = text.split(separator)
        return self._tokens

    def between(self, before: bytes, after: bytes, start: int, count: int) -> list[bytes]:
        """Return the predictions of so many rows as text, each between these; they hold no zero byte."""
        if count < self.rows:
            return [before + token + after for token in self.tokens[start : start + count]]
        # Of all rows at once, which is the rule, it takes half the time.
        text, separator = self._written()
        return (b"%b%b%b" % (before, text.replace(separator, after + b"\0" + before), after)).split(b"\0")

    def _written(self) -> tuple[bytes, bytes]:
        if self._text is None:
            self._text = formats.written(self.predictions)
        return self._text


Waiting = tuple[Request, Reply, int, int]
"""A request in a batch, who answers it, its first row and the one after its last."""


_Group = tuple[RowReply, Sequence[Any], int]
"""Requests of one row each, and where in the batch these rows begin."""


_Answered = tuple[Request, int, bytes]
"""A request that has been answered, its rows and the answer's body."""


class Batcher:
    """Collects the rows of one turn for one model, predicts them and answers."""

    def __init__(self, model: Model, metrics: ModelMetrics) -> None:
        self.model = model
        self.audience: Audience | None = None
        self.shadow: Shadow | None = None
        self._metrics = metrics
        self._waiting: list[Waiting] = []
        self._rows: list[formats.Row] = []  # of a model with pre-processing
        self._count = 0
        self._queues: dict[tuple[RowReply, type[Layout], str], Queue] = {}
        self._groups: list[_Group] = []
        self._begin = partial(asyncio.get_running_loop().call_soon, self.flush)
        self._numbers = Numbers(model.width)
        packer = struct.Struct(f"={model.width}f")
        self._pack, self._size = packer.pack_into, packer.size
        self._make_room(FULL)

    def take_numbers(self, request: Request, reply: Reply, rows: Sequence[formats.Row]) -> bool:
        """Take rows of a plain model; return False, and take nothing, if one is not all numbers."""
        count = len(rows)
        start = self._count
        if start + count > self._room:
            start = self._reserve(count)
        pack, size, buffer = self._pack, self._size, self._buffer
        offset = start * size
        try:
            for row in rows:
                try:
                    pack(buffer, offset, *row)
                except struct.error:
                    pack(buffer, offset, *with_nan(row))
                offset += size
        except (struct.error, TypeError, OverflowError):
            return False
        # As `_wait` does: here a call counts.
        if not self._waiting:
            self._begin()
        self._count = stop = start + count
        self._waiting.append((request, reply, start, stop))
        if self.shadow is not None:
            self.shadow.take(request, rows)
        if stop >= FULL:
            self.flush()
        return True

    def queue(self, reply: RowReply, layout: Layout, route: str, otherwise: Otherwise) -> Queue:
        """Return the queue of a reply, a layout and a route, for requests that may bring plain numbers."""
        key = reply, type(layout), route
        if key not in self._queues:
            self._queues[key] = Queue(reply, layout, self._begin, otherwise)
        return self._queues[key]

    def take(self, request: Request, reply: Reply, rows: Sequence[formats.Row]) -> None:
        """Take rows that have the right width; raises `RequestError`."""
        if self.model.plain:
            try:
                matrix = self.model.prepare(rows)
            except PreprocessError as error:
                raise refusal(error) from error
            start = self._reserve(len(rows))
            self._matrix[start : start + len(rows)] = matrix
        else:
            self._rows.extend(rows)
        self._wait(request, reply, len(rows))
        if self.shadow is not None:
            self.shadow.take(request, rows)

    def packed(self, rows: Sequence[formats.Row]) -> NDArray[np.float32] | None:
        """Return a matrix of rows of a plain model, or None if one is not all numbers."""
        matrix = np.empty((len(rows), self.model.width), dtype=np.float32)
        buffer, size, pack = matrix.data, self._size, self._pack
        try:
            for number, row in enumerate(rows):
                try:
                    pack(buffer, number * size, *row)
                except struct.error:
                    pack(buffer, number * size, *with_nan(row))
        except (struct.error, TypeError, OverflowError):
            return None
        return matrix

    def take_matrix(self, request: Request, reply: Reply, matrix: NDArray[np.float32]) -> None:
        """Take rows as a matrix of numbers, of the right width; raises `RequestError`."""
        infinite = np.argwhere(np.isinf(matrix))
        if len(infinite):
            row, column = infinite[0].tolist()
            name = self.model.columns[column].name
            raise RequestError(400, "is infinite", row=row + 1, column=name)
        if not self.model.plain or self.shadow is not None:
            self.take(request, reply, matrix.tolist())
            return
        start = self._reserve(len(matrix))
        self._matrix[start : start + len(matrix)] = matrix
        self._wait(request, reply, len(matrix))

    def flush(self) -> None:
        """Predict what waits and answer it."""
        for queue in self._queues.values():
            if queue.requests:
                self._read(queue)
        waiting, groups, count, rows = self._waiting, self._groups, self._count, self._rows
        if not count:
            return
        self._waiting, self._groups, self._count, self._rows = [], [], 0, []
        begun = time.perf_counter()
        try:
            matrix = self._matrix[:count] if self.model.plain else self.model.prepare(rows)
            batch = Batch(self.model.predict(matrix), begun)
        except PreprocessError as error:
            self._flush_one_by_one(waiting, rows, error)
            return
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait get an answer
            log.error("prediction failed", error, rows=count)
            for request in chain((item[0] for item in waiting), *(group[1] for group in groups)):
                request.fail(RequestError(500, "internal error"))
            return
        finally:
            if self._room > FULL:
                self._make_room(FULL)
        for group in groups:
            self._answer_group(*group, batch)
        if waiting:
            self._answer(waiting, batch)
        self._count_rows(count)

    def answer(self, waiting: Sequence[Waiting], batch: Batch) -> None:
        """Answer those whose predictions are in the batch, and count."""
        self._answer(waiting, batch)
        self._count_rows(batch.rows)

    def _answer(self, waiting: Sequence[Waiting], batch: Batch) -> None:
        groups: dict[object, tuple[Reply, list[_Answered]]] = {}
        for request, reply, start, stop in waiting:
            body = reply.send(request, batch, start, stop)
            # What is counted and observed alike.
            key = reply.seconds, reply.content_type, request.started
            groups.setdefault(key, (reply, []))[1].append((request, stop - start, body))
        batch.done = time.perf_counter()
        for reply, answered in groups.values():
            self._tell(reply, *zip(*answered, strict=True), batch=batch)

    def _answer_group(self, reply: RowReply, requests: Sequence[Any], start: int, batch: Batch) -> None:
        """Do what `_answer` does, for many requests of one row each."""
        bodies = reply.send_rows(requests, batch, start)
        batch.done = time.perf_counter()
        started = [request.started for request in requests]
        # As a rule one turn of the event loop has read them all, and to find that costs next to nothing.
        if started.count(started[0]) == len(started):
            self._tell(reply, requests, [1] * len(requests), bodies, batch=batch)
            return
        for moment in set(started):
            chosen = [place for place, other in enumerate(started) if other == moment]
            some = [requests[place] for place in chosen]
            self._tell(reply, some, [1] * len(some), [bodies[place] for place in chosen], batch=batch)

    def _tell(
        self,
        reply: Reply,
        requests: Sequence[Any],
        sizes: Sequence[int],
        bodies: Sequence[bytes],
        *,
        batch: Batch,
    ) -> None:
        """Count requests that one turn has read and that were answered alike, and tell who observes them."""
        count, turn = len(requests), Turn(requests[0].started, batch.begun, batch.done, batch.rows)
        self._metrics.queue_seconds.observe(turn.begun - turn.started, count)
        reply.seconds.observe(turn.seconds, count)
        if self.audience is not None:
            self.audience.take(requests, sizes, bodies, turn, reply.content_type)

    def _count_rows(self, rows: int) -> None:
        self._metrics.rows += rows
        self._metrics.batch_rows.observe(rows)

    def _read(self, queue: Queue) -> None:
        """Take the requests of a queue."""
        requests = queue.empty()
        start = self._reserve(len(requests))
        found = queue.read(requests, self._numbers, self._matrix[start : start + len(requests)])
        if found:
            self._groups.append((queue.reply, found, start))
            self._count = start + len(found)
        if found is not requests:
            taken = set(found)
            for request in requests:
                if request not in taken:
                    queue.take_otherwise(request)

    def _flush_one_by_one(
        self, waiting: Sequence[Waiting], rows: Sequence[formats.Row], error: PreprocessError
    ) -> None:
        """Find whose rows cannot be prepared, and answer the others."""
        if len(waiting) == 1:
            waiting[0][0].fail(refusal(error))
            return
        for request, reply, start, stop in waiting:
            self._rows.extend(rows[start:stop])
            self._wait(request, reply, stop - start)
            self.flush()

    def _reserve(self, rows: int) -> int:
        """Make room in the matrix and return the first free row."""
        if self._count + rows > self._room:
            self.flush()
            if rows > self._room:
                self._make_room(rows)
        return self._count

    def _make_room(self, rows: int) -> None:
        # XGBoost computes in 32 bits. Packing into them refuses, at no cost, what they cannot hold.
        self._matrix = np.empty((rows, self.model.width), dtype=np.float32)
        self._buffer = self._matrix.data
        self._room = rows

    def _wait(self, request: Request, reply: Reply, rows: int) -> None:
        start = self._count
        self._count += rows
        if not self._waiting:
            self._begin()
        self._waiting.append((request, reply, start, self._count))
        if self._count >= FULL:
            self.flush()


def with_nan(row: formats.Row) -> formats.Row:
    """Return a row with NaN for None."""
    return [_NAN if value is None else value for value in row]


def refusal(error: PreprocessError, before: int = 0) -> RequestError:
    """Return the answer to a value that is refused, in rows of which `before` others came first."""
    row = None if error.row is None else before + error.row + 1
    return RequestError(400, error.reason, row=row, column=error.column)
