"""Which columns a data set has and what each holds, from what its files agree on."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from bundle.format import ColumnType, Manifest
from configuration import Hyperparameters
from errors import TrainingError, shorten
from reading import DataFile


def expected_columns(
    files: Sequence[DataFile], asked: Hyperparameters, champion: Manifest | None
) -> tuple[str, ...]:
    """Return the columns that every file should have, without dropped ones, in the champion's order if any.

    Of the column sets that hold all that the settings name, the one that suits the champion, else the one
    that most files (then most rows) have.
    """
    required = {asked.target, *(asked.categorical or ()), *timestamps(asked)}
    served = set() if champion is None else {column.name for column in champion.columns} | {champion.target}
    count, rows = Counter[frozenset[str]](), Counter[frozenset[str]]()
    for file in files:
        names = _used(file, asked)
        count[names] += 1
        rows[names] += file.rows
    # Where no file has all that the settings name, each is told what it lacks.
    candidates = [names for names in count if required <= names] or list(count)
    best = max(candidates, key=lambda names: (served <= names, count[names], rows[names], sorted(names)))
    order = [column.name for column in champion.columns] if champion else []
    first = next(file for file in files if _used(file, asked) == best)
    return tuple(
        dict.fromkeys([*(name for name in [*order, *first.columns] if name in best), *sorted(required)])
    )


def wrong_columns(file: DataFile, expected: Iterable[str], asked: Hyperparameters) -> str | None:
    """Return how a file's columns differ from the expected ones, if they do."""
    names, wanted = _used(file, asked), set(expected)
    reasons = [
        f"{kind} column{'s' if len(found) > 1 else ''} "
        + ", ".join(repr(shorten(name, 40)) for name in found[:8])
        for kind, found in (("missing", sorted(wanted - names)), ("unexpected", sorted(names - wanted)))
        if found
    ]
    return "; ".join(reasons) or None


def timestamps(asked: Hyperparameters) -> frozenset[str]:
    """Return the columns of which a step takes parts."""
    columns = (step.get("column") for step in asked.steps if step.get("op") == "timestamp_parts")
    return frozenset(column for column in columns if isinstance(column, str))


def column_types(
    files: Sequence[DataFile], names: Iterable[str], asked: Hyperparameters, champion: Manifest | None
) -> dict[str, ColumnType]:
    """Return the type of every column but the target.

    It is what the settings say, else what the champion has, else what most of the values are.
    """
    served = {column.name: column.type for column in champion.columns} if champion else {}
    times = timestamps(asked)
    types: dict[str, ColumnType] = {}
    for name in names:
        if name == asked.target:
            continue
        if name in times:
            types[name] = "timestamp"
        elif asked.categorical is not None:
            types[name] = "categorical" if name in asked.categorical else "numeric"
        elif served.get(name, "timestamp") != "timestamp":
            types[name] = cast("Mapping[str, ColumnType]", served)[name]
        else:
            types[name] = _inferred(files, name)
    if not types:
        raise TrainingError("no columns but the target to learn from")
    return types


def _used(file: DataFile, asked: Hyperparameters) -> frozenset[str]:
    return frozenset(file.columns) - asked.drop


def _inferred(files: Sequence[DataFile], name: str) -> ColumnType:
    cells = [file.columns[name] for file in files]
    filled = sum(len(part) - int(part.missing.sum()) for part in cells)
    if sum(part.number_rows() for part in cells) * 2 >= filled:
        return "numeric"
    if sum(part.moment_rows() for part in cells) * 2 >= filled:
        raise TrainingError(
            f"column {name!r} holds timestamps: take parts of it with the step timestamp_parts, or drop it"
        )
    return "categorical"
