"""Reading one CSV or Parquet file: all that can be wrong with the file itself is found here."""

import codecs
import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from cells import Cells
from errors import Refusal, shorten

LONGEST_FIELD: Final = 64 * 1024
"""The longest text of one field in bytes; what is longer is not data but an accident."""
_BLOCK: Final = 16 << 20
_READERS: Final = (".csv", ".parquet")


@dataclass(frozen=True)
class DataFile:
    """A file as read: columns by name, each of `rows` cells."""

    name: str
    path: Path
    columns: Mapping[str, Cells]
    rows: int

    def place(self, row: int) -> str:
        """Return where a row (from 0) stands in the file, as a person finds it."""
        if self.path.suffix.lower() != ".csv":
            return f"row {row + 1}"
        return f"line {_line_of(self.path, row)}"


def is_data(path: Path) -> bool:
    """Whether the name is that of a file to train on."""
    return path.suffix.lower() in _READERS


def read(path: Path, name: str) -> DataFile:
    """Return a file's columns; raises `Refusal` with the reason."""
    try:
        if not is_data(path):
            raise Refusal("neither .csv nor .parquet")
        if path.stat().st_size == 0:
            raise Refusal("empty")
        table = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
        columns = {
            column.strip(): _cells(table.column(index), index)
            for index, column in enumerate(table.column_names)
        }
    except (OSError, pa.ArrowException) as error:
        raise Refusal(_arrow_reason(error)) from error
    file = DataFile(name, path, columns, table.num_rows)
    for column, cells in columns.items():
        _check_length(file, column, cells)
    return file


def _read_csv(path: Path) -> Any:  # noqa: ANN401 - PyArrow has no types
    _check_text(path)
    names = _header(path)
    table = pacsv.read_csv(
        path,
        read_options=pacsv.ReadOptions(use_threads=False, block_size=_BLOCK),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )
    if table.num_rows == 0:
        raise Refusal("a header only, no rows")
    return table


def _read_parquet(path: Path) -> Any:  # noqa: ANN401 - PyArrow has no types
    table = pq.ParquetFile(path).read()
    _check_names(table.column_names)
    if table.num_rows == 0:
        raise Refusal("no rows")
    return table


def _check_text(path: Path) -> None:
    """Refuse what is not UTF-8, naming the line."""
    decoder, line, blank = codecs.getincrementaldecoder("utf-8")(), 1, True
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                # The decoder may have kept the start of a character from the block before.
                where = max(0, error.start - (len(error.object) - len(block)))
                raise Refusal(f"line {line + _lines(block[:where])}: not UTF-8") from error
            if (nul := block.find(b"\0")) >= 0:
                raise Refusal(f"line {line + _lines(block[:nul])}: a NUL byte: not a text file")
            line += _lines(block)
            blank = blank and not block.strip()
    if decoder.getstate()[0]:
        raise Refusal(f"line {line}: not UTF-8")
    if blank:
        raise Refusal("empty")


def _lines(block: bytes) -> int:
    return block.count(b"\n")


def _header(path: Path) -> list[str]:
    csv.field_size_limit(_BLOCK)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            names = next((row for row in csv.reader(file) if row), [])
        except csv.Error as error:
            raise Refusal(f"line 1: {error}") from error
    _check_names(names)
    return names


def _check_names(names: list[str]) -> None:
    stripped = [name.strip() for name in names]
    for number, name in enumerate(stripped, start=1):
        if not name:
            raise Refusal(f"column {number} has no name")
        if len(name) > LONGEST_FIELD:
            raise Refusal(f"column {number} has a name of {len(name)} characters")
        if stripped.count(name) > 1:
            raise Refusal(f"column {shorten(name, 60)!r} stands there twice")


def _cells(column: Any, index: int) -> Cells:  # noqa: ANN401 - a ChunkedArray
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        # Times with a zone are UTC in Arrow, as they are here.
        moments = column.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False)
        return Cells.of_moments(moments.to_numpy().astype("datetime64[us]"))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return Cells.of_numbers(column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64))
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    ):
        raise Refusal(f"column {index + 1} has the type {kind}: want numbers, texts, booleans or times")
    encoded = column.cast(pa.large_string()).dictionary_encode().unify_dictionaries().combine_chunks()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Cells.of_texts(codes, encoded.dictionary.to_pylist())


def _check_length(file: DataFile, column: str, cells: Cells) -> None:
    if cells.distinct.dtype.kind != "O":
        return
    for index, text in enumerate(cells.distinct):
        if len(text) * 4 > LONGEST_FIELD and (size := len(text.encode())) > LONGEST_FIELD:
            place = file.place(int(np.flatnonzero(cells.codes == index)[0]))
            raise Refusal(
                f"{place}: column {shorten(column, 60)!r}: a field of {size} bytes, more than {LONGEST_FIELD}"
            )


def _line_of(path: Path, row: int) -> int:
    """Return the line (from 1) on which a record starts; fields may hold line breaks, and lines be blank."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        start, found = 1, -1
        try:
            for record in reader:
                if record:
                    found += 1
                    if found == row + 1:
                        return start
                start = reader.line_num + 1
        except csv.Error:
            pass
    return row + 2


def _arrow_reason(error: Exception) -> str:
    text = shorten(str(error), 200)
    if "straddling object" in text:
        return f"a field or line of more than {_BLOCK} bytes"
    if match := re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", text):
        where = f"line {match[1]}: " if match[1] else ""
        return f"{where}want {match[2]} values, got {match[3]}"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read: {text}"
