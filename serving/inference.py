"""The Open Inference Protocol whatever carries it: the models, their tensors, and what is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from bundle.preprocess import PreprocessError
from serving import tensors
from serving.batch import FULL, refusal
from serving.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from serving.batch import Batcher, Reply, Request
    from serving.formats import Row
    from serving.large import Large
    from serving.models import Entry, Models
    from serving.tensors import Tensor

SERVER: Final = "trainserve"
VERSION: Final = "1"

OUTPUT: Final = "predictions"
"""The only output tensor: FP32, [rows] or [rows, classes]."""

_DATATYPES: Final = {"numeric": "FP64", "categorical": "BYTES", "timestamp": "BYTES"}
_PIECE_ROWS: Final = 256


def find(models: Models, name: str, version: str | None) -> Entry:
    """Return a model, of this version if one is named; raises `RequestError`."""
    entry = models.get(name)
    if version is not None and version != entry.model.version:
        raise RequestError(404, f"the version of {name!r:.80} is {entry.model.version!r}")
    return entry


def described(entry: Entry) -> dict[str, Any]:
    """Return a model's metadata."""
    model = entry.model
    if all(column.type == "numeric" for column in model.columns):
        inputs = [{"name": "input", "datatype": "FP32", "shape": [-1, len(model.columns)]}]
    else:
        inputs = [
            {"name": column.name, "datatype": _DATATYPES[column.type], "shape": [-1]}
            for column in model.columns
        ]
    shape = [-1, model.classes] if model.classes else [-1]
    return {
        "name": entry.name,
        "versions": [model.version],
        "platform": "xgboost",
        "inputs": inputs,
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": shape}],
    }


class Inference:
    """Has one model predict the rows that tensors hold."""

    def __init__(self, entry: Entry, large: Large) -> None:
        self._model = entry.model
        self._batcher = entry.batcher
        self._large = large
        self._names = [column.name for column in entry.model.columns]

    def take(self, request: Request, reply: Reply, found: Sequence[Tensor]) -> None:
        """Take the tensors of a request; raises `RequestError`."""
        rows = tensors.assemble(found, self._names, self._model.reader.check_rows)
        matrix = None
        if isinstance(rows, np.ndarray):
            if self._model.plain:
                matrix = _narrow(rows)
            else:
                rows = cast("list[Row]", rows.tolist())
        if len(rows) > FULL:
            self._large.take(request, reply, self._batcher, _pieces(self._batcher, rows))
        elif matrix is not None:
            self._batcher.take_matrix(request, reply, matrix)
        else:
            self._batcher.take(request, reply, cast("Sequence[Row]", rows))


def _narrow(matrix: NDArray[Any]) -> NDArray[np.float32]:
    """Return numbers as 32-bit floats; one that is too large becomes an infinity, which is refused."""
    with np.errstate(over="ignore"):
        return matrix.astype(np.float64).astype(np.float32)


def _pieces(
    batcher: Batcher, rows: Sequence[Row] | NDArray[Any]
) -> Iterator[tuple[Sequence[Row], NDArray[np.float32]]]:
    """Prepare many rows, some at a time; raises `RequestError`."""
    for start in range(0, len(rows), _PIECE_ROWS):
        piece = rows[start : start + _PIECE_ROWS]
        matrix = None
        if batcher.model.plain:
            matrix = _narrow(piece) if isinstance(piece, np.ndarray) else batcher.packed(piece)
        part = cast("list[Row]", piece.tolist()) if isinstance(piece, np.ndarray) else piece
        if matrix is None or np.isinf(matrix).any():
            try:
                matrix = batcher.model.prepare(part)
            except PreprocessError as error:
                raise refusal(error, start) from error
        yield part, matrix
