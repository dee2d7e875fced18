"""All rows that arrived in one turn of the event loop are predicted by one call of the model.

A call costs XGBoost about 0.3 ms for one row and hardly more for a hundred. No timer waits for company:
whatever the turn brought goes, so an idle server adds nothing to a request and a busy one batches by itself.
"""

import asyncio
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.preprocess import PreprocessError
from serving import formats, log
from serving.connection import Exchange
from serving.errors import RequestError
from serving.metrics import Metrics
from serving.model import Model

# A turn may bring more rows than this: then the call is made before the turn ends.
_FULL: Final = 1024


class _Waiting(NamedTuple):
    exchange: Exchange
    content_type: bytes
    start: int
    stop: int


class Batcher:
    """Collects the rows of one turn for one model, predicts them and answers."""

    def __init__(self, model: Model, metrics: Metrics) -> None:
        self._model = model
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._rows: list[formats.Row] = []  # of a model with pre-processing
        self._count = 0
        self._matrix = _room(_FULL, model.width)  # of a plain model
        self._packer = struct.Struct(f"={model.width}f")

    def csv(self, exchange: Exchange, content_type: bytes) -> None:
        """Take a CSV request; raises `RequestError`."""
        reader = self._model.reader
        rows = reader.quick_csv(exchange.body)
        if rows is None or not self._pack(exchange, content_type, rows):
            self._take(exchange, content_type, reader.csv(exchange.body))

    def json(self, exchange: Exchange, content_type: bytes) -> None:
        """Take a JSON request; raises `RequestError`."""
        reader = self._model.reader
        rows = reader.quick_json(exchange.body)
        if rows is None or not self._pack(exchange, content_type, rows):
            self._take(exchange, content_type, reader.json(exchange.body))

    def flush(self) -> None:
        """Predict what waits and answer it."""
        waiting, count, rows = self._waiting, self._count, self._rows
        self._waiting, self._count, self._rows = [], 0, []
        if not waiting:
            return
        begun = waiting[0].exchange.connection.server.time()
        try:
            matrix = self._matrix[:count] if self._model.plain else self._model.prepare(rows)
            tokens = formats.tokens(self._model.predict(matrix))
        except PreprocessError as error:
            self._flush_one_by_one(waiting, rows, error)
            return
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait get an answer
            log.error("prediction failed", error, rows=count)
            for item in waiting:
                item.exchange.fail(RequestError(500, "internal error"))
            return
        finally:
            if len(self._matrix) > _FULL:
                self._matrix = _room(_FULL, self._model.width)
        self._answer(waiting, tokens, begun)

    def _answer(self, waiting: Sequence[_Waiting], tokens: list[bytes], begun: float) -> None:
        metrics = self._metrics
        metrics.rows += len(tokens)
        metrics.batch_rows.observe(len(tokens))
        time = waiting[0].exchange.connection.server.time
        for exchange, content_type, start, stop in waiting:
            exchange.respond(200, content_type, formats.answer(content_type, tokens[start:stop]))
        done = time()
        for item in waiting:
            metrics.queue_seconds.observe(begun - item.exchange.started)
            metrics.request_seconds.observe(done - item.exchange.started)

    def _flush_one_by_one(
        self, waiting: Sequence[_Waiting], rows: Sequence[formats.Row], error: PreprocessError
    ) -> None:
        """Find whose rows cannot be prepared, and answer the others."""
        if len(waiting) == 1:
            waiting[0].exchange.fail(_refusal(error))
            return
        for item in waiting:
            self._take(item.exchange, item.content_type, rows[item.start : item.stop])
            self.flush()

    def _pack(self, exchange: Exchange, content_type: bytes, rows: Sequence[formats.Row]) -> bool:
        """Take rows of a plain model; return False, and take nothing, if one is not all numbers."""
        start = self._reserve(len(rows))
        pack, size = self._packer.pack_into, self._packer.size
        buffer, offset = self._matrix.data, start * size
        try:
            for row in rows:
                pack(buffer, offset, *row)
                offset += size
        except (struct.error, TypeError, OverflowError):
            return False
        self._wait(exchange, content_type, len(rows))
        return True

    def _take(self, exchange: Exchange, content_type: bytes, rows: Sequence[formats.Row]) -> None:
        """Take rows that have the right width; raises `RequestError`."""
        if self._model.plain:
            try:
                matrix = self._model.prepare(rows)
            except PreprocessError as error:
                raise _refusal(error) from error
            start = self._reserve(len(rows))
            self._matrix[start : start + len(rows)] = matrix
        else:
            self._rows.extend(rows)
        self._wait(exchange, content_type, len(rows))

    def _reserve(self, rows: int) -> int:
        """Make room in the matrix and return the first free row."""
        if self._count + rows > len(self._matrix):
            self.flush()
            if rows > len(self._matrix):
                self._matrix = _room(rows, self._model.width)
        return self._count

    def _wait(self, exchange: Exchange, content_type: bytes, rows: int) -> None:
        start = self._count
        self._count += rows
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(_Waiting(exchange, content_type, start, self._count))
        if self._count >= _FULL:
            self.flush()


def _room(rows: int, width: int) -> NDArray[np.float32]:
    # XGBoost computes in 32 bits. Packing into them refuses, at no cost, what they cannot hold.
    return np.empty((rows, width), dtype=np.float32)


def _refusal(error: PreprocessError) -> RequestError:
    row = None if error.row is None else error.row + 1
    return RequestError(400, error.reason, row=row, column=error.column)
