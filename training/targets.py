"""The target: which classes there are, each file's target as numbers, and files with one class only."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.format import Manifest
from cells import CellError
from configuration import Hyperparameters
from errors import TrainingError, shorten
from reading import DataFile

MAX_CLASSES = 1000
# A file of one class is refused where chance would make it so once in a million.
_IMPLAUSIBLE = 1e-6

Target = NDArray[np.float64]


def find_classes(
    files: Sequence[DataFile], asked: Hyperparameters, champion: Manifest | None
) -> tuple[str, ...] | None:
    """Return the target's classes, sorted; None for regression.

    They are the champion's, or both models could not be compared; else of a binary target the two that most
    rows have, of a multiclass target all.
    """
    if asked.task == "regression":
        return None
    if champion is not None and champion.classes:
        return champion.classes
    rows = Counter[str]()
    for file in files:
        rows.update(text for text in file.columns[asked.target].texts() if text is not None)
    if asked.task == "binary":
        rows = Counter(dict(sorted(rows.items(), key=lambda item: (-item[1], item[0]))[:2]))
    if len(rows) > MAX_CLASSES:
        raise TrainingError(
            f"target {asked.target!r} has {len(rows)} classes, at most {MAX_CLASSES} are possible"
        )
    return tuple(sorted(rows, key=_class_order))


def read_target(file: DataFile, name: str, classes: Sequence[str] | None) -> Target:
    """Return a file's target as class indices (regression: values); raises `CellError` at a wrong one."""
    cells = file.columns[name]
    if cells.missing.any():
        raise CellError(int(np.argmax(cells.missing)), "the target is missing")
    if classes is None:
        return cells.numbers()
    codes = {text: float(code) for code, text in enumerate(classes)}
    texts = cells.texts()
    found = np.array([codes.get(text, -1.0) for text in texts])
    if (found < 0).any():
        row = int(np.argmax(found < 0))
        known = shorten(", ".join(classes), 80)
        raise CellError(row, f"the target is {shorten(texts[row], 40)!r}, want one of {known}")
    return found


def one_class(targets: Mapping[str, Target], name: str, classes: Sequence[str] | None) -> dict[str, str]:
    """Return the files (of their targets) that have one class only, which the other files make implausible.

    If the whole data set has one class, or a regression one value, all its files are refused.
    """
    everything = np.concatenate(list(targets.values()))
    if len(np.unique(everything)) == 1:
        found = everything[0] if classes is None else classes[int(everything[0])]
        return dict.fromkeys(targets, f"target {name!r} has one value only: {found!s:.40}")
    single = {file for file, target in targets.items() if classes and (target == target[0]).all()}
    if classes is None or len(single) == len(targets):
        # Files that hold one class each are a way to lay out data.
        return {}
    reasons: dict[str, str] = {}
    for file in sorted(single):
        value, rows = targets[file][0], len(targets[file])
        others = int((everything == value).sum()) - rows
        share = (others + 1) / (len(everything) - rows + 2)
        if share**rows < _IMPLAUSIBLE:
            reasons[file] = (
                f"target {name!r} has one class only, {classes[int(value)]!r:.40}, in {rows} rows "
                f"(of other files' rows {share:.0%} have it)"
            )
    return reasons


def _class_order(text: str) -> tuple[bool, float, str]:
    """Numbers by their size, then texts."""
    try:
        return (False, float(text), text)
    except ValueError:
        return (True, 0.0, text)
