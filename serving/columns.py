"""Many lines at once, a column at a time: what is done for each line is done inside one call for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


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
