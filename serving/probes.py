"""Rows that tell predictors apart: at thresholds and just beside them, missing, infinite, odd categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from serving.booster import Booster

_ROWS: Final = 1024
# The thresholds of large models are taken from some of their trees: reading all would delay the start.
_MOST_NODES: Final = 200_000
_LARGEST: Final = float(np.finfo(np.float32).max)
_SPECIAL: Final = (0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, _LARGEST, -_LARGEST, np.inf, -np.inf)


def probes(booster: Booster, size: int) -> NDArray[np.float32]:
    """Return (rows, features) to compare predictors by; `size` is that of the model's file in bytes."""
    # A node takes about 40 bytes of the file.
    step = max(1, min(booster.iterations, size // 40 // _MOST_NODES))
    thresholds, categorical = _splits(booster.sliced(step), booster.width)
    rng = np.random.default_rng(20_260_131)
    matrix = np.empty((_ROWS, booster.width), dtype=np.float32)
    for feature, values in enumerate(thresholds):
        matrix[:, feature] = _column(rng, values, feature in categorical)
    # A sixth of the rows is as rows mostly are, without a missing value; one has nothing else.
    missing = rng.random(matrix.shape) < rng.choice((0.0, 0.05, 0.5), size=(_ROWS, 1))
    matrix[missing] = np.nan
    matrix[0] = np.nan
    return matrix


def _column(
    rng: np.random.Generator, thresholds: NDArray[np.float32], is_categorical: bool
) -> NDArray[np.float32]:
    """Draw one feature: near thresholds, between them, or special; a category that is there or not."""
    if is_categorical:
        most = int(thresholds.max(initial=0)) + 3
        return rng.integers(0, most, _ROWS).astype(np.float32)
    if not len(thresholds):
        thresholds = np.zeros(1, dtype=np.float32)
    at = rng.choice(thresholds, _ROWS)
    infinity = np.float32(np.inf)
    between = (at + rng.choice(thresholds, _ROWS)) / np.float32(2)
    special = rng.choice(np.array(_SPECIAL, dtype=np.float32), _ROWS)
    random = rng.normal(at, np.std(thresholds, dtype=np.float64) + 1e-3).astype(np.float32)
    kinds = np.stack((at, np.nextafter(at, -infinity), np.nextafter(at, infinity), between, special, random))
    chosen = rng.choice(len(kinds), _ROWS, p=(0.2, 0.2, 0.2, 0.15, 0.05, 0.2))
    return kinds[chosen, np.arange(_ROWS)].astype(np.float32, copy=False)


def _splits(booster: Booster, width: int) -> tuple[list[NDArray[np.float32]], set[int]]:
    """Return each feature's thresholds (or the categories that splits name), and which are categorical."""
    model = orjson.loads(booster.save("json"))["learner"]["gradient_booster"]["model"]
    found: list[list[NDArray[Any]]] = [[] for _ in range(width)]
    categorical: set[int] = set()
    for tree in model["trees"]:
        features = np.array(tree["split_indices"])
        values = np.array(tree["split_conditions"], dtype=np.float32)
        numeric = (np.array(tree["left_children"]) >= 0) & (np.array(tree["split_type"]) == 0)
        for feature in np.unique(features[numeric]).tolist():
            found[feature].append(values[numeric & (features == feature)])
        segments = zip(
            tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
        )
        for node, start, length in segments:
            feature = tree["split_indices"][node]
            categorical.add(feature)
            found[feature].append(np.array(tree["categories"][start : start + length], dtype=np.float32))
    empty = np.empty(0, dtype=np.float32)
    return [np.unique(np.concatenate([empty, *parts])) for parts in found], categorical
