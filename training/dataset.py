"""From files to one data set; every file that does not fit is refused, all of them in one go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reading
from bundle.format import Column, ColumnType, Manifest
from cells import CellError
from configuration import Hyperparameters
from errors import DataRefused, Refusal, TrainingError
from holdout import row_hashes
from reading import DataFile
from schema import column_types, expected_columns, wrong_columns
from targets import find_classes, one_class, read_target

MAX_CATEGORIES = 1000
"""More categories than this in one column are rather the names of things."""

Refused = dict[str, str]


@dataclass(frozen=True)
class Data:
    """Rows, sorted by their hash: neither files nor their order matter to what is made of them.

    `raw` has one array a column (float64, object or datetime64[us]); `target` a class's index or a value.
    """

    raw: Mapping[str, NDArray[Any]]
    target: NDArray[np.float64]
    hashes: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: NDArray[np.bool_] | slice) -> "Data":
        """Return some of the rows."""
        return Data(
            {name: values[rows] for name, values in self.raw.items()}, self.target[rows], self.hashes[rows]
        )


@dataclass(frozen=True)
class DataSet:
    """All that was read: columns' types in their order, the target's classes (None: regression), rows."""

    types: Mapping[str, ColumnType]
    classes: tuple[str, ...] | None
    train: Data
    validation: Data | None
    files: Mapping[str, int]


def load(train: Path, validation: Path | None, asked: Hyperparameters, champion: Manifest | None) -> DataSet:
    """Read a run's files; raises `DataRefused` with every file that must not be trained on."""
    refused: Refused = {}
    files = _read_all(train, "", refused)
    train_files = {file.name for file in files}
    files += _read_all(validation, "validation/", refused) if validation else []
    columns = expected_columns(_some(files, refused), asked, champion)
    files = [file for file in files if not _refuse(refused, file, wrong_columns(file, columns, asked))]
    types = column_types(_some(files, refused), columns, asked, champion)
    classes = find_classes(files, asked, champion)
    others = [c.name for c in champion.columns if c.name not in types] if champion else []
    read = {file.name: _convert(file, types, others, (asked.target, classes), refused) for file in files}
    parts = {name: part for name, part in read.items() if part is not None}
    targets = {name: part.target for name, part in parts.items()}
    refused |= one_class(targets, asked.target, classes) if targets else {}
    if refused:
        raise DataRefused(refused)
    return DataSet(
        types=types,
        classes=classes,
        train=_join([part for name, part in parts.items() if name in train_files]),
        validation=_join([part for name, part in parts.items() if name not in train_files])
        if validation
        else None,
        files={name: len(part) for name, part in parts.items()},
    )


def describe_columns(types: Mapping[str, ColumnType], trained: Data, asked: Hyperparameters) -> list[Column]:
    """Return the columns of the bundle: a category is known if it was trained on, or if a step names it."""
    columns: list[Column] = []
    for name, kind in types.items():
        if kind != "categorical":
            columns.append(Column(name=name, type=kind))
            continue
        known = {text for text in trained.raw[name] if text is not None}
        if len(known) > MAX_CATEGORIES:
            raise TrainingError(
                f"column {name!r} has {len(known)} categories, at most {MAX_CATEGORIES} are possible: drop it"
            )
        for step in asked.steps:
            if (
                step.get("op") == "map"
                and step.get("column") == name
                and isinstance(step.get("values"), dict)
            ):
                known |= set(step["values"])
        unknown = "refuse" if asked.unknown_category == "refuse" else "missing"
        columns.append(Column(name=name, type=kind, categories=tuple(sorted(known)), unknown=unknown))
    return columns


def _read_all(channel: Path, prefix: str, refused: Refused) -> list[DataFile]:
    paths = sorted(path for path in channel.rglob("*") if not path.name.startswith("."))
    paths = [path for path in paths if reading.is_data(path) or not path.is_dir()]
    if not paths:
        raise TrainingError(f"no files in {channel}")
    files: list[DataFile] = []
    for path in paths:
        name = prefix + path.relative_to(channel).as_posix()
        try:
            files.append(reading.read(path, name))
        except Refusal as refusal:
            refused[name] = str(refusal)
            print(f"refused {name}: {refusal}", flush=True)
        else:
            print(f"read {name}: {files[-1].rows} rows", flush=True)
    return files


def _some(files: list[DataFile], refused: Refused) -> list[DataFile]:
    """Without any file left there is nothing to compare the rest with."""
    if not files:
        raise DataRefused(refused)
    return files


def _refuse(refused: Refused, file: DataFile, reason: str | None) -> bool:
    if reason is not None:
        refused[file.name] = reason
    return reason is not None


def _convert(
    file: DataFile,
    types: Mapping[str, ColumnType],
    others: Sequence[str],
    target: tuple[str, Sequence[str] | None],
    refused: Refused,
) -> Data | None:
    """Return a file's rows with the columns of `types`, and `others` as far as the file has them."""
    readers: dict[ColumnType, Callable[[Any], NDArray[Any]]] = {
        "numeric": lambda cells: cells.numbers(),
        "categorical": lambda cells: cells.texts(),
        "timestamp": lambda cells: cells.moments(),
    }
    column = target[0]
    # What only the champion uses is no reason to refuse a file: it reads the texts for itself.
    raw: dict[str, NDArray[Any]] = {
        name: file.columns[name].texts() for name in others if name in file.columns
    }
    try:
        values = read_target(file, *target)
        for column, kind in types.items():
            raw[column] = readers[kind](file.columns[column])
    except CellError as error:
        _refuse(refused, file, f"{file.place(error.row)}: column {column!r:.60}: {error}")
        return None
    return Data(raw, values, row_hashes(file.columns))


def _join(parts: Sequence[Data]) -> Data:
    hashes = np.concatenate([part.hashes for part in parts])
    names = [name for name in parts[0].raw if all(name in part.raw for part in parts)]
    whole = Data(
        raw={name: np.concatenate([part.raw[name] for part in parts]) for name in names},
        target=np.concatenate([part.target for part in parts]),
        hashes=hashes,
    )
    order = np.argsort(hashes, kind="stable")
    return Data(
        {name: values[order] for name, values in whole.raw.items()}, whole.target[order], hashes[order]
    )
