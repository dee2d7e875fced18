"""What serving is compared with later: histograms of the columns and the scores, and the golden rows."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bundle.format import GOLDEN_ROWS, Column
from dataset import Data

BINS: Final = 10
_GOLDEN: Final = 8
_UNKNOWN: Final = "a category that nobody has seen"


def describe_baseline(
    columns: Sequence[Column], trained: Data, predictions: NDArray[Any], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the histograms.

    A numeric column has `edges`, inner quantiles, and one count more than edges: value v belongs to bin
    `bisect_right(edges, v)`. A categorical column has one count a category; `other` counts the rest. The
    columns are counted on the rows trained on, the scores on those held out, by class if there are several.
    """
    described = [
        _column(column, trained.raw[column.name]) for column in columns if column.type != "timestamp"
    ]
    scores = predictions if predictions.ndim == 2 else predictions[:, np.newaxis]
    names = classes if predictions.ndim == 2 else [None]
    return {
        "format": 1,
        "rows": len(trained),
        "columns": described,
        "scores": {
            "rows": len(predictions),
            "histograms": [{"class": name, **_numeric(scores[:, index])} for index, name in enumerate(names)],
        },
    }


def golden_rows(columns: Sequence[Column], held: Data) -> list[list[Any]]:
    """Return raw rows as JSON values: held-out ones, one without any value, one with unknown categories."""
    count = min(_GOLDEN, len(held))
    some = held.take(slice(0, count))
    listed = [_json_values(column, some.raw[column.name]) for column in columns]
    rows = [list(row) for row in zip(*listed, strict=True)]
    rows.append([None for _ in columns])
    unknown = list(rows[0])
    for index, column in enumerate(columns):
        if column.type == "categorical" and column.unknown == "missing":
            unknown[index] = _UNKNOWN
        elif column.type == "categorical":
            # A text that nobody was trained on would be refused.
            rows = [_known(row, index, column) for row in rows]
            unknown = _known(unknown, index, column)
    rows.append(unknown)
    while len(rows) < GOLDEN_ROWS:
        rows.append(
            [None if index == len(rows) % len(columns) else value for index, value in enumerate(rows[0])]
        )
    return rows


def _known(row: list[Any], index: int, column: Column) -> list[Any]:
    return [None if at == index and value not in column.categories else value for at, value in enumerate(row)]


def _json_values(column: Column, values: NDArray[Any]) -> list[Any]:
    if column.type == "numeric":
        return [None if np.isnan(value) else float(value) for value in values]
    if column.type == "timestamp":
        return [None if np.isnat(value) else str(value).removesuffix(".000000") + "Z" for value in values]
    return list(values)


def _column(column: Column, values: NDArray[Any]) -> dict[str, Any]:
    described: Mapping[str, Any]
    if column.type == "numeric":
        described = _numeric(values)
    else:
        known = dict.fromkeys(column.categories, 0)
        missing = other = 0
        for text in values:
            if text is None:
                missing += 1
            elif text in known:
                known[text] += 1
            else:
                other += 1
        described = {
            "categories": list(known),
            "counts": list(known.values()),
            "other": other,
            "missing": missing,
        }
    return {"name": column.name, "type": column.type, **described}


def _numeric(values: NDArray[np.float64]) -> dict[str, Any]:
    present = values[~np.isnan(values)]
    edges = np.unique(np.quantile(present, np.arange(1, BINS) / BINS)) if present.size else np.array([])
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "missing": int(len(values) - len(present))}
