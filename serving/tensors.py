"""Tensors of the Open Inference Protocol to rows: which there must be, and what their data may look like.

A number means what it means in JSON, a text what a field of a CSV file means (`bundle.values`); null, NaN and
a text like `NaN` are missing values.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np

from serving.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from serving.formats import Row

NUMPY: Final = {
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "BOOL": "?",
}
_FLOATS: Final = frozenset(("FP32", "FP64"))
_LENGTH_BYTES: Final = 4
_MOST_DIMENSIONS: Final = 8


class Tensor(NamedTuple):
    """A tensor of a request: its values in row-major order, as a list or, if it came in binary, an array."""

    name: str
    shape: Sequence[int]
    values: Sequence[Any] | NDArray[Any]


def quick_rows(document: Any, width: int, max_rows: int) -> Sequence[Row] | None:  # noqa: ANN401
    """Return the rows of one tensor of floats, or None if the document has anything else: then `read` it.

    Neither the width of nested rows nor the values are checked; whoever packs the rows does that.
    """
    try:
        (tensor,) = document["inputs"]
        rows, columns = tensor["shape"]
        values: Any = tensor["data"]
        if (
            columns != width
            or tensor["datatype"] not in _FLOATS
            or type(tensor["name"]) is not str
            or len(tensor) != 4
            or type(values) is not list
            or type(rows) is not int
            or type(columns) is not int
            or not 0 < rows <= max_rows
        ):
            return None
        nested = type(values[0]) is list
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    found = cast("list[Any]", values)
    if len(found) != (rows if nested else rows * width):
        return None
    if nested:
        return found
    return (found,) if rows == 1 else [found[start : start + width] for start in range(0, len(found), width)]


def read(document: object, binary: bytes | None) -> list[Tensor]:
    """Return the tensors of an inference request; raises `RequestError`.

    Args:
        document: the JSON part.
        binary: what follows it, if the request says that something does.
    """
    if not isinstance(document, dict):
        raise RequestError(400, "want an object with 'inputs'")
    inputs = cast("dict[str, object]", document).get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise RequestError(400, "inputs: want an array of at least one tensor")
    found: list[Tensor] = []
    offset = 0
    for index, item in enumerate(cast("list[object]", inputs)):
        where = f"inputs[{index}]"
        if not isinstance(item, dict):
            raise RequestError(400, f"{where}: want an object")
        members = cast("dict[str, object]", item)
        size = _binary_size(members, where)
        if size is None:
            found.append(_tensor(members, where, None))
            continue
        if binary is None:
            raise RequestError(400, f"{where}: binary data need the header Inference-Header-Content-Length")
        if size > len(binary) - offset:
            raise RequestError(400, f"{where}: binary_data_size is larger than what the body has left")
        found.append(_tensor(members, where, binary[offset : offset + size]))
        offset += size
    if binary is not None and offset != len(binary):
        raise RequestError(400, f"{len(binary) - offset} bytes of the body belong to no tensor")
    return found


def assemble(
    tensors: Sequence[Tensor], names: Sequence[str], check_rows: Callable[[int], None]
) -> Sequence[Row] | NDArray[Any]:
    """Return the rows of one tensor (rows, columns), or of one tensor for each column.

    An array when all the data are numbers and came in binary. Raises `RequestError`.
    """
    first, width = tensors[0], len(names)
    if len(tensors) == 1 and (len(first.shape) == 2 or width > 1):
        if len(first.shape) != 2 or first.shape[1] != width:
            shape = list(first.shape)
            raise RequestError(400, f"{first.name!r:.80}: want shape [rows, {width}], got {shape!r:.80}")
        _check_rows(first.shape[0], check_rows)
        values = first.values
        if isinstance(values, np.ndarray):
            return values.reshape(-1, width)
        return [values[start : start + width] for start in range(0, len(values), width)]
    by_name = {names[0]: first} if len(tensors) == width == 1 else _by_name(tensors, names)
    for tensor in tensors:
        if len(tensor.shape) not in {1, 2} or tensor.shape[1:] not in ([], [1]):
            reason = f"want shape [rows] or [rows, 1], got {tensor.shape!r:.80}"
            raise RequestError(400, reason, column=tensor.name[:80])
        if tensor.shape[0] != first.shape[0]:
            raise RequestError(400, "the tensors have different numbers of rows", column=tensor.name[:80])
    _check_rows(first.shape[0], check_rows)
    columns = [by_name[name].values for name in names]
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    if len(arrays) == width:
        return np.column_stack([array.astype(np.float64) for array in arrays])
    lists = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns]
    return list(zip(*lists, strict=True))


def _by_name(tensors: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensor of each column; raises `RequestError` unless there is one of each."""
    by_name = {tensor.name: tensor for tensor in tensors}
    for name in by_name:
        if name not in names:
            raise RequestError(400, f"there is no column {name!r:.80}")
    for name in names:
        if name not in by_name:
            raise RequestError(400, "there is no tensor of it", column=name)
    if len(tensors) > len(by_name):
        raise RequestError(400, "there are several tensors of one column")
    return by_name


def _check_rows(rows: int, check_rows: Callable[[int], None]) -> None:
    if not rows:
        raise RequestError(400, "there are no rows")
    check_rows(rows)


def _binary_size(members: dict[str, object], where: str) -> int | None:
    parameters = members.get("parameters")
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise RequestError(400, f"{where}: parameters: want an object")
    size = cast("dict[str, object]", parameters).get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise RequestError(400, f"{where}: binary_data_size: want a number of bytes")
    if "data" in members:
        raise RequestError(400, f"{where}: has both data and binary_data_size")
    return size


def _tensor(members: dict[str, object], where: str, binary: bytes | None) -> Tensor:
    name, datatype, shape = members.get("name"), members.get("datatype"), members.get("shape")
    if not isinstance(name, str):
        raise RequestError(400, f"{where}: name: want a text")
    kind = check_datatype(datatype, where)
    if not isinstance(shape, list) or any(type(size) is not int for size in cast("list[Any]", shape)):
        raise RequestError(400, f"{where}: shape: want an array of numbers")
    sizes = cast("list[int]", shape)
    if binary is not None:
        return from_bytes(name, kind, sizes, binary, where)
    values = _flat(members.get("data"), sizes, count(sizes, where), where)
    _check_values(values, kind, where)
    return Tensor(name, sizes, values)


def check_datatype(datatype: object, where: str) -> str:
    """Return a datatype that there is; raises `RequestError` for any other."""
    if not isinstance(datatype, str) or (datatype not in NUMPY and datatype != "BYTES"):
        raise RequestError(400, f"{where}: datatype: want one of {', '.join(NUMPY)}, BYTES")
    return datatype


def count(shape: Sequence[int], where: str) -> int:
    """Return how many values a shape wants; raises `RequestError`."""
    if not shape or min(shape) < 0:
        raise RequestError(400, f"{where}: shape: want an array of numbers")
    # The product of very many numbers would take very long; tensors of more than two are of no use here.
    if len(shape) > _MOST_DIMENSIONS:
        raise RequestError(400, f"{where}: shape: has more than {_MOST_DIMENSIONS} dimensions")
    return math.prod(shape)


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes, where: str) -> Tensor:
    """Return a tensor of binary data; raises `RequestError`."""
    wanted = count(shape, where)
    if datatype == "BYTES":
        return Tensor(name, shape, _texts(data, wanted, where))
    kind = np.dtype(NUMPY[datatype])
    if len(data) != wanted * kind.itemsize:
        raise RequestError(400, f"{where}: want {wanted * kind.itemsize} bytes, got {len(data)}")
    if datatype == "BOOL":
        # Any byte but 0 is true; as bool NumPy would keep the bytes as they are.
        return Tensor(name, shape, np.frombuffer(data, dtype=np.uint8) != 0)
    return Tensor(name, shape, np.frombuffer(data, dtype=kind))


def _flat(data: object, shape: list[int], count: int, where: str) -> list[Any]:
    """Return JSON data, flat or nested as the shape says, in row-major order."""
    if not isinstance(data, list):
        raise RequestError(400, f"{where}: data: want an array")
    values = cast("list[Any]", data)
    if values and type(values[0]) is list:
        for size in shape[1:]:
            if any(type(value) is not list or len(value) != size for value in values):
                raise RequestError(400, f"{where}: data: nested otherwise than the shape says")
            values = list(chain.from_iterable(values))
        if len(data) != shape[0]:
            raise RequestError(400, f"{where}: data: want {shape[0]} rows, got {len(data)}")
    if len(values) != count:
        raise RequestError(400, f"{where}: data: the shape wants {count} values, there are {len(values)}")
    return values


def _check_values(values: list[Any], datatype: str, where: str) -> None:
    """Raise `RequestError` unless all values are of the type, or null."""
    if datatype == "BYTES":
        allowed, wanted = {str}, "texts"
    elif datatype == "BOOL":
        allowed, wanted = {bool}, "true or false"
    elif datatype.startswith("FP"):
        allowed, wanted = {int, float, bool}, "numbers"
    else:
        allowed, wanted = {int}, "whole numbers"
    types: set[type] = set(map(type, values))
    if types - allowed - {type(None)}:
        raise RequestError(400, f"{where}: data: {datatype} wants {wanted}, or null")
    if allowed == {int} and int in types:
        limits = np.iinfo(NUMPY[datatype])
        found = [value for value in values if value is not None]
        if min(found) < limits.min or max(found) > limits.max:
            raise RequestError(400, f"{where}: data: a number is out of the range of {datatype}")


def _texts(binary: bytes, count: int, where: str) -> list[str]:
    """Return the texts of a binary tensor: each with its length in four bytes before it."""
    texts: list[str] = []
    offset = 0
    while offset < len(binary):
        start = offset + _LENGTH_BYTES
        offset = start + int.from_bytes(binary[offset:start], "little")
        if offset > len(binary) or start > len(binary):
            raise RequestError(400, f"{where}: a text is longer than the tensor")
        try:
            texts.append(binary[start:offset].decode())
        except UnicodeDecodeError as error:
            raise RequestError(400, f"{where}: a text is not UTF-8") from error
    if len(texts) != count:
        raise RequestError(400, f"{where}: the shape wants {count} texts, there are {len(texts)}")
    return texts
