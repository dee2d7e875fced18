"""Large requests, a little at a time: between two pieces of work the event loop serves the others.

Not in a thread: it would hold the interpreter's lock against the loop, which asks for it for every event.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import numpy as np

from bundle.preprocess import PreprocessError
from serving import log
from serving.batch import Batch, refusal
from serving.errors import RequestError, TurnedAwayError
from serving.formats import lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from serving.batch import Batcher, Reply, Request
    from serving.formats import Row

    Chunk = tuple[Sequence[Row], NDArray[np.float32]]

LARGE: Final = 64 * 1024
"""From this many bytes on, a body is read in pieces. About a millisecond's work, as a piece is."""

_PIECE: Final = 48 * 1024
_ROWS: Final = 256
_MOST_WAITING: Final = 32
_SPACE: Final = b" \t\r\n"  # JSON's; Python's own has more
# What a JSON array of arrays of numbers and nulls is made of.
_NUMBERS: Final = b"0123456789+-.eE, \t\r\nnul[]"


class Large:
    """Answers large requests, one after the other."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Request, Reply, Batcher, Iterator[Chunk]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def take(self, request: Request, reply: Reply, batcher: Batcher, chunks: Iterator[Chunk]) -> None:
        """Take a request whose rows, and the model's input for them, come from an iterator.

        The iterator may raise `RequestError`. Raises `RequestError` when too many are waiting.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise TurnedAwayError("large", "too many large requests are waiting")
        self._waiting.append((request, reply, batcher, chunks))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            request, reply, batcher, chunks = self._waiting.popleft()
            try:
                await self._predict(request, reply, batcher, chunks)
            except RequestError as error:
                request.fail(error)
            except Exception as error:  # noqa: BLE001  whatever it is, the request gets an answer
                log.error("prediction failed", error)
                request.fail(RequestError(500, "internal error"))
        self._task = None

    @staticmethod
    async def _predict(request: Request, reply: Reply, batcher: Batcher, chunks: Iterator[Chunk]) -> None:
        begun = time.perf_counter()
        predictions: list[NDArray[np.float32]] = []
        seen: list[Row] = []
        for rows, matrix in chunks:
            predictions.append(batcher.model.predict(matrix))
            if batcher.shadow is not None:
                seen.extend(rows)
            await asyncio.sleep(0)
        if batcher.shadow is not None:
            batcher.shadow.take(request, seen)
        batch = Batch(np.concatenate(predictions), begun)
        batcher.answer(((request, reply, 0, batch.rows),), batch)


def read_csv(batcher: Batcher, body: bytes) -> Iterator[Chunk]:
    """Read a CSV body in pieces; raises `RequestError`."""
    reader, pieces = batcher.model.reader, csv_pieces(body)
    reader.check_rows(lines(body))
    quick = reader.quick_csv if reader.may_be_numbers(body) else _nothing
    return _chunks(batcher, quick, reader.csv, pieces)


def read_json(batcher: Batcher, body: bytes) -> Iterator[Chunk]:
    """Read a JSON body in pieces; raises `RequestError`."""
    reader, pieces = batcher.model.reader, json_pieces(body)
    if len(pieces) > 1:
        reader.check_rows(body.count(b"[") - 1)
    reader.check_nesting(body)
    return _chunks(batcher, reader.quick_json, reader.json, pieces)


def _chunks(
    batcher: Batcher,
    quick: Callable[[bytes], list[Row] | None],
    careful: Callable[[bytes], list[Row]],
    pieces: Sequence[bytes],
) -> Iterator[Chunk]:
    done = 0
    for piece in pieces:
        rows = quick(piece)
        packed = None if rows is None else batcher.packed(rows)
        if rows is None or packed is None:
            try:
                rows = careful(piece)
            except RequestError as error:
                # Not `from error`: it may be the same, and would be kept, with the body, by a cycle.
                raise _moved(error, done) from None
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            if packed is not None:
                yield part, packed[start : start + _ROWS]
                continue
            try:
                yield part, batcher.model.prepare(part)
            except PreprocessError as error:
                raise refusal(error, done + start) from error
        done += len(rows)
        batcher.model.reader.check_rows(done)


def _nothing(_: bytes) -> None:
    return None


def _moved(error: RequestError, rows: int) -> RequestError:
    """Return a refusal whose row is counted from the beginning of the body."""
    if error.row is None or not rows:
        return error
    return RequestError(error.status, error.reason, row=error.row + rows, column=error.column)


def csv_pieces(body: bytes) -> Sequence[bytes]:
    """Cut a CSV body at ends of lines; what cannot be cut without a careful look stays whole."""
    if b'"' in body or b"\n\n" in body or b"\n\r" in body or not body.isascii():
        return [body]
    pieces: list[bytes] = []
    start = 0
    while len(body) - start > _PIECE:
        end = body.find(b"\n", start + _PIECE) + 1
        if not end or end == len(body):
            break
        pieces.append(body[start:end])
        start = end
    return [*pieces, body[start:]]


def json_pieces(body: bytes) -> Sequence[bytes]:
    """Cut a JSON body of arrays of numbers between two of them; any other stays whole."""
    inner = body.strip(_SPACE)
    if inner.startswith(b"{"):
        name, _, inner = inner[1:-1].partition(b":")
        if name.strip(_SPACE) != b'"instances"' or not body.rstrip(_SPACE).endswith(b"}"):
            return [body]
        inner = inner.strip(_SPACE)
    # No text and no object inside: a bracket is nothing but the beginning or the end of an array.
    if not (inner.startswith(b"[") and inner.endswith(b"]")) or inner.translate(None, _NUMBERS):
        return [body]
    inner = inner[1:-1]
    pieces: list[bytes] = []
    start = 0
    while len(inner) - start > _PIECE:
        end = inner.find(b"]", start + _PIECE) + 1
        comma = inner.find(b",", end)
        if not end or comma < 0 or inner[end:comma].strip():
            break
        pieces.append(b"[%b]" % inner[start:end])
        start = comma + 1
    return [*pieces, b"[%b]" % inner[start:]]
