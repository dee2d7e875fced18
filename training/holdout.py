"""Which rows are held out: the same ones for every model, for ever.

A row's side depends on the row alone, not on its file, its place, the file's format or the order of columns:
so no champion was trained on what a later challenger and itself are judged by. The canonical form is

    row hash = mix(sum over the columns that have a value of mix(hash(name) ^ hash(value)) mod 2^64)

with `mix` the finaliser of splitmix64, `hash` of a name the first 8 bytes (little-endian) of BLAKE2b with
`digest_size=8`, and the hash of a value by what it is:

* a number, also one written as text, true (1) and false (0): mix(bits of the 32-bit float ^ 1), -0 as 0;
* an ISO 8601 time, also one written as text: mix(microseconds since 1970 in UTC ^ 2);
* another text, without the spaces around it: BLAKE2b as for names, of its UTF-8.

Missing values, and columns that a file lacks, add nothing. All columns count, also the target and those that
the model does not use.
A row is held out if the upper 53 bits of its hash, divided by 2^53, are below the fraction.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cells import Cells, mix

_STOPPING_SALT = np.uint64(0x5E70)


def row_hashes(columns: Mapping[str, Cells]) -> NDArray[np.uint64]:
    """Return the hash of every row."""
    parts = np.array([cells.hashes(name) for name, cells in columns.items()], dtype=np.uint64)
    return mix(np.add.reduce(parts, axis=0))


def held_out(hashes: NDArray[np.uint64], fraction: float) -> NDArray[np.bool_]:
    """Return which rows are judged by, not trained on."""
    return _uniform(hashes) < fraction


def stopping(hashes: NDArray[np.uint64], fraction: float) -> NDArray[np.bool_]:
    """Return which rows decide when to stop early: chosen apart from `held_out`, or judging were unfair."""
    return _uniform(mix(hashes ^ _STOPPING_SALT)) < fraction


def _uniform(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    return (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53
