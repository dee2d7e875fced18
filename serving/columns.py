"""Many lines at once, a column at a time: what is done for each line is done inside one call for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def joined(count: int, *columns: bytes | Sequence[bytes]) -> bytes:
    """Return so many lines: for each its value of every column, one after the other.

    A column is a sequence of `count` values, or the value that all have.
    """
    width = len(columns)
    parts = [column if isinstance(column, bytes) else b"" for column in columns] * count
    for place, column in enumerate(columns):
        if not isinstance(column, bytes):
            parts[place::width] = column
    return b"".join(parts)


def numbers(values: Sequence[float] | NDArray[np.float64]) -> list[bytes]:
    """Return numbers as JSON has them; none of no numbers."""
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
