"""A column of a file as it was read, before anyone decides what it is.

Every row has a code, the index of its value among the distinct values (-1: missing), so that a text is
interpreted once and not once a row.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bundle import values

_T = TypeVar("_T")
_NO_TIME = np.iinfo(np.int64).min


class CellError(Exception):
    """A value that is not what its column should hold; `row` counts from 0."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


@dataclass(frozen=True)
class Cells:
    """Codes and distinct values: texts (object), numbers (float64) or times (datetime64[us])."""

    codes: NDArray[np.int64]
    distinct: NDArray[Any]

    @staticmethod
    def of_numbers(numbers: NDArray[np.float64]) -> "Cells":
        """Return a column of numbers; NaN is missing."""
        codes = np.where(np.isnan(numbers), -1, np.arange(len(numbers)))
        return Cells(codes, numbers)

    @staticmethod
    def of_moments(moments: NDArray[np.datetime64]) -> "Cells":
        """Return a column of times; NaT is missing."""
        codes = np.where(np.isnat(moments), -1, np.arange(len(moments)))
        return Cells(codes, moments)

    @staticmethod
    def of_texts(codes: NDArray[np.int64], texts: Iterable[str]) -> "Cells":
        """Return a column of texts; those that stand for no value are missing."""
        distinct = np.array([text.strip() for text in texts] or [""], dtype=object)
        gone = np.array([text in values.MISSING for text in distinct])
        return Cells(np.where((codes < 0) | gone[codes], -1, codes), distinct)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which rows have no value."""
        return self.codes < 0

    def number_rows(self) -> int:
        """How many rows hold a number (true and false are numbers, too)."""
        return self._rows(~np.isnan(self._as_numbers))

    def moment_rows(self) -> int:
        """How many rows hold a time."""
        return self._rows(self._as_moments != _NO_TIME)

    def numbers(self) -> NDArray[np.float64]:
        """Return the rows as numbers, NaN where missing; raises `CellError`."""
        return self._take(self._as_numbers, ~np.isnan(self._as_numbers), np.nan, values.number, float)

    def moments(self) -> NDArray[np.datetime64]:
        """Return the rows as times, NaT where missing; raises `CellError`."""
        found = self._as_moments
        taken = self._take(found, found != _NO_TIME, _NO_TIME, values.timestamp, str)
        return taken.view("datetime64[us]")

    def texts(self) -> NDArray[np.object_]:
        """Return the rows as categories, None where missing."""
        found = np.empty(len(self.distinct) + 1, dtype=object)
        kind = self.distinct.dtype.kind
        found[:-1] = [
            values.category(_iso(value) if kind == "M" else value) for value in self.distinct.tolist()
        ]
        return found[self.codes]

    def hashes(self, name: str) -> NDArray[np.uint64]:
        """Return each row's share of the row's hash, 0 where missing (see `holdout`)."""
        mixed = mix(self._value_hashes ^ np.uint64(_digest(name.encode())))
        return np.where(self.missing, np.uint64(0), mixed[self.codes])

    @cached_property
    def _as_numbers(self) -> NDArray[np.float64]:
        """What each distinct value is as a number, NaN where it is none."""
        if self.distinct.dtype.kind == "f":
            return np.where(np.abs(self.distinct) <= _LARGEST, self.distinct, np.nan)
        if self.distinct.dtype.kind == "M":
            return np.full(len(self.distinct), np.nan)
        filled = np.array([text not in values.MISSING for text in self.distinct])
        found = np.full(len(self.distinct), np.nan)
        plain = _plain_numbers(self.distinct[filled])
        found[filled] = (
            [_tried(values.number, text, np.nan) for text in self.distinct[filled]]
            if plain is None
            else plain
        )
        return found

    @cached_property
    def _as_moments(self) -> NDArray[np.int64]:
        """What each distinct value is in microseconds since 1970."""
        if self.distinct.dtype.kind == "M":
            return self.distinct.view(np.int64)
        if self.distinct.dtype.kind == "f":
            return np.full(len(self.distinct), _NO_TIME)
        if not np.isnan(self._as_numbers).any():
            return np.full(len(self.distinct), _NO_TIME)
        found = [_tried(values.timestamp, text, None) for text in self.distinct]
        return np.array([_NO_TIME if moment is None else moment for moment in found], dtype=np.int64)

    @cached_property
    def _value_hashes(self) -> NDArray[np.uint64]:
        numbers, moments = self._as_numbers, self._as_moments
        hashes = np.where(
            np.isnan(numbers), mix(moments.view(np.uint64) ^ np.uint64(2)), mix(_bits(numbers) ^ np.uint64(1))
        )
        for index in np.flatnonzero(np.isnan(numbers) & (moments == _NO_TIME)):
            hashes[index] = _digest(str(self.distinct[index]).encode())
        return hashes

    def _rows(self, wanted: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(wanted[self.codes] & ~self.missing))

    def _take(
        self,
        found: NDArray[Any],
        good: NDArray[np.bool_],
        missing: float,
        explain: Callable[[object], object],
        shown: Callable[[Any], object],
    ) -> NDArray[Any]:
        bad = np.flatnonzero(~good[self.codes] & ~self.missing)
        if bad.size:
            row = int(bad[0])
            value = self.distinct[self.codes[row]]
            try:
                explain(value if isinstance(value, str) else shown(value))
            except ValueError as error:
                raise CellError(row, str(error)) from error
            raise CellError(row, f"{value} is not what the column holds")
        return np.where(self.missing, missing, found[self.codes])


_LARGEST = float(np.finfo(np.float32).max)


def mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a well-mixed permutation of 64-bit numbers (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        bits = bits + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))


def _bits(numbers: NDArray[np.float64]) -> NDArray[np.uint64]:
    # As 32-bit floats: 0.1 of a CSV file, of a float column and of a double column are one value.
    narrow = np.where(np.isnan(numbers), 0.0, numbers).astype(np.float32) + np.float32(0)
    return narrow.view(np.uint32).astype(np.uint64)


def _plain_numbers(texts: NDArray[np.object_]) -> NDArray[np.float64] | None:
    """Return texts that are all numbers, at a fraction of the cost of `values.number`; None if one is not."""
    joined = "".join(texts)
    if "_" in joined or not joined.isascii():
        return None
    try:
        found = np.array([float(text) for text in texts], dtype=np.float64)
    except ValueError:
        return None
    return found if (np.abs(found) <= _LARGEST).all() else None


def _digest(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def _tried(read: Callable[[object], _T], text: object, otherwise: _T) -> _T:
    try:
        return read(text)
    except ValueError:
        return otherwise


def _iso(moment: Any) -> str | None:  # noqa: ANN401 - a datetime, or an int where NumPy has no datetime for it
    return None if moment is None else str(moment).replace(" ", "T")
