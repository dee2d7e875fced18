"""The model that every candidate serves, the requests, and what XGBoost itself answers to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xgboost

from bundle import format as bundle_format

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TREES: Final = 100
DEPTH: Final = 6
FEATURES: Final = 30
NAME: Final = "bench"
TOLERANCE: Final = 1e-6
# The load goes round these rows, so that no branch of the model is always hot.
ROWS: Final = 256

Row = list[float]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A bundle on disk, rows, and XGBoost's predictions for them."""

    bundle: Path
    rows: Sequence[Row]
    expected: Sequence[float]

    @property
    def model(self) -> Path:
        """The model alone, as other servers want it."""
        return self.bundle / bundle_format.MODEL

    def batches(self, size: int) -> list[tuple[list[Row], list[float]]]:
        """Return rows in batches of `size`, each with its predictions."""
        starts = range(0, len(self.rows) - size + 1, size)
        return [(list(self.rows[at : at + size]), list(self.expected[at : at + size])) for at in starts]


def make(directory: Path, *, trees: int = TREES) -> Sample:
    """Train the model on made-up rows and write its bundle into `directory`."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(30)
    data = np.round(rng.normal(0.0, 2.0, (20_000, FEATURES)), 4).astype(np.float32)
    score = data[:, :10].sum(axis=1) + data[:, 10] * data[:, 11] + rng.normal(0.0, 3.0, len(data))
    matrix = xgboost.DMatrix(data, score > 0)
    parameters = {"objective": "binary:logistic", "max_depth": DEPTH, "nthread": 1, "seed": 1}
    booster = xgboost.train(parameters, matrix, num_boost_round=trees)
    booster.save_model(directory / bundle_format.MODEL)

    rows: list[Row] = np.round(data[:ROWS].astype(np.float64), 4).tolist()
    expected: list[float] = booster.inplace_predict(np.array(rows, dtype=np.float32)).tolist()
    columns = [bundle_format.Column(name=f"feature_{index:02}") for index in range(FEATURES)]
    golden = {"columns": [column.name for column in columns], "rows": rows[:8], "predictions": expected[:8]}
    _write(directory / bundle_format.GOLDEN, golden)
    _write(directory / bundle_format.BASELINE, {})
    bundle_format.write(
        directory, bundle_format.describe(NAME, "v1", "binary", columns, {"auc": 0.9}, classes=("0", "1"))
    )
    return Sample(bundle=directory, rows=rows, expected=expected)


def largest_difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """Return how far predictions are from XGBoost's; infinite when their number is wrong."""
    if len(found) != len(expected):
        return float("inf")
    return max(abs(one - other) for one, other in zip(found, expected, strict=True))


def _write(path: Path, document: Any) -> None:  # noqa: ANN401 - JSON
    path.write_text(json.dumps(document), encoding="utf-8")
