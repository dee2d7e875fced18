"""What MLflow's clients send to /invocations: data frames, brought into the form of `instances`."""

from __future__ import annotations

from typing import Any, Final, cast

from serving.errors import RequestError

_RECORDS: Final = "dataframe_records"
_SPLIT: Final = "dataframe_split"
_INPUTS: Final = "inputs"
_SPLIT_MEMBERS: Final = frozenset(("index", "columns", "data"))


def instances(document: object) -> object:
    """Return the rows of a data frame or of `inputs`, or the document itself; raises `RequestError`.

    Rows with column names become objects, so that columns may come in any order.
    """
    if not isinstance(document, dict):
        return document
    members = cast("dict[str, object]", document)
    name = next((name for name in (_SPLIT, _RECORDS, _INPUTS) if name in members), "")
    if not name:
        return cast("object", document)
    for other in members:
        # Parameters of the prediction: MLflow's clients may send them empty, and these models have none.
        if other != name and not (other == "params" and not members[other]):
            raise RequestError(400, f"unknown field {other!r:.80} beside {name!r}")
    rows = members[name]
    if name == _SPLIT:
        rows = _split(rows)
    elif name == _INPUTS and isinstance(rows, dict):
        rows = _columns(cast("dict[str, object]", rows))
    if not isinstance(rows, list):
        raise RequestError(400, f"{name}: want an array of rows")
    if not rows:
        raise RequestError(400, f"{name}: there are no rows")
    return cast("list[object]", rows)


def _split(frame: object) -> object:
    if not isinstance(frame, dict):
        raise RequestError(400, f"{_SPLIT}: want an object with 'columns' and 'data'")
    members = cast("dict[str, object]", frame)
    for name in members:
        if name not in _SPLIT_MEMBERS:
            raise RequestError(400, f"{_SPLIT}: unknown field {name!r:.80}")
    data, columns = members.get("data"), members.get("columns")
    if columns is None or not isinstance(data, list):
        return data
    names: list[Any] = cast("list[Any]", columns) if isinstance(columns, list) else [None]
    if not all(isinstance(name, str) for name in names):
        raise RequestError(400, f"{_SPLIT}: columns: want an array of names")
    if len(set(names)) < len(names):
        raise RequestError(400, f"{_SPLIT}: columns: a name comes twice")
    rows: list[object] = []
    for number, row in enumerate(cast("list[Any]", data), start=1):
        if type(row) is not list:
            raise RequestError(400, "want an array", row=number)
        values = cast("list[Any]", row)
        if len(values) != len(names):
            raise RequestError(400, f"want {len(names)} values, got {len(values)}", row=number)
        rows.append(dict(zip(names, values, strict=True)))
    return rows


def _columns(columns: dict[str, object]) -> list[object]:
    """Return the rows of arrays of values, or of arrays of one value each, by the name of their column."""
    found: dict[str, list[object]] = {}
    for name, values in columns.items():
        if not isinstance(values, list):
            raise RequestError(400, f"{_INPUTS}: want an array of values", column=name[:80])
        items = cast("list[Any]", values)
        if items and all(type(value) is list and len(value) == 1 for value in items):
            items = [value[0] for value in items]
        found[name] = items
        if len(items) != len(next(iter(found.values()))):
            raise RequestError(
                400, f"{_INPUTS}: the columns have different numbers of rows", column=name[:80]
            )
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
