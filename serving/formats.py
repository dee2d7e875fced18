"""Requests to rows and predictions to answers, in CSV and JSON.

What a value means, and which are refused, is said once for training and serving, in `bundle.values`: in CSV
an empty field, `NaN` or `NA` is a missing value, and an infinity is refused. JSON is stricter here: `null` is
the missing value, and a text is no number.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from bundle.format import Column
from serving import mlflow
from serving.errors import RequestError
from serving.responses import CSV, JSON

Row = Sequence[Any]
"""The values of one row as the request has them, in the order of the bundle's columns."""

_LONGEST_QUOTE: Final = 40
# In a line of CSV beyond those between its fields: quoted texts may have some.
_MOST_COMMAS: Final = 10_000


class Reader:
    """Reads the requests of one model; `quick`: which takes the numbers of a request as they are."""

    def __init__(self, columns: Sequence[Column], max_rows: int, *, quick: bool = True) -> None:
        self._columns = columns
        self._names = [column.name for column in columns]
        self._known = frozenset(self._names)
        # itemgetter of a single name returns the value itself, not a tuple of it.
        self._pick: Callable[[Any], Row] = (
            itemgetter(*self._names) if len(columns) > 1 else lambda instance: (instance[self._names[0]],)
        )
        self._max_rows = max_rows
        self.numeric = quick and all(column.type == "numeric" for column in columns)
        self._numbers = [
            (index, column.name) for index, column in enumerate(columns) if column.type == "numeric"
        ]

    def quick_csv(self, body: bytes) -> list[Row] | None:
        """Return the rows of a CSV body if it may be numbers and nothing else, or None: then ask `csv`.

        Neither the number of values in a row nor their types are checked; whoever packs the rows does that.
        """
        if not self.numeric:
            return None
        # Lines of plain numbers are JSON but for the brackets, and orjson reads them ten times faster.
        text = body.rstrip(b"\r\n")
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n")
            if b"\r" in text:
                return None
        count = 1
        if b"\n" in text:
            count += text.count(b"\n")
            self.check_rows(count)
            text = text.replace(b"\n", b"],[")
        rows: list[Row]
        try:
            rows = orjson.loads(b"[[%b]]" % text)
        except orjson.JSONDecodeError:
            try:
                rows = orjson.loads(with_nulls(b"[[%b]]" % text))
            except orjson.JSONDecodeError:
                return None
        # Brackets that were in the lines make other rows of them, or values that nobody packs.
        return rows if len(rows) == count else None

    def csv(self, body: bytes) -> list[Row]:
        """Return the rows of a CSV body; raises `RequestError`. The values themselves are not checked."""
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RequestError(400, f"the body is not UTF-8 at byte {error.start}") from error
        self.check_rows(lines(body))
        # Line ends at the end only end the line before.
        source = io.StringIO(text.rstrip("\r\n"), newline="")
        rows: list[Row] = []
        try:
            # Row by row, so that a line that goes on and on is refused before all of it has become fields.
            for fields in csv.reader(map(self._check_line, source), strict=True):
                rows.append(fields)
                if len(rows) == 1 and [field.strip() for field in fields] == self._names:
                    reason = "is a header; send the rows only, in the order of the columns"
                    raise RequestError(400, reason, row=1)
                self._check_width(len(fields), len(rows))
        except csv.Error as error:
            raise RequestError(400, f"malformed CSV: {error}") from error
        if not rows:
            raise RequestError(400, "the body has no rows")
        self.check_rows(len(rows))
        return rows

    def _check_line(self, line: str) -> str:
        if line.count(",") > len(self._names) + _MOST_COMMAS:
            raise RequestError(400, f"a line of {line.count(',') + 1} fields, want {len(self._names)}")
        return line

    def quick_json(self, body: bytes) -> list[Row] | None:
        """Return the rows of a JSON body as they stand in it, or None: then ask `json`.

        Neither the width of arrays nor any type is checked; whoever packs the rows does that.
        """
        if not self.numeric:
            return None
        try:
            document: Any = orjson.loads(body)
            if type(document) is dict:
                # Any other member makes the length wrong and is left to `json`, which names it.
                document = document["instances"] if len(document) == 1 else None
            if not document or len(document) > self._max_rows:
                return None
            if type(document[0]) is not dict:
                rows: list[Row] = document
                return rows
            width = len(self._names)
            if any(len(instance) != width for instance in document):
                return None
            return [self._pick(instance) for instance in document]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            return None

    def json(self, body: bytes) -> list[Row]:
        """Return the rows of a JSON body; raises `RequestError`. Of the values, only texts are checked."""
        try:
            document: object = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestError(400, f"malformed JSON: {error}") from error
        instances = self._instances(mlflow.instances(document))
        self.check_rows(len(instances))
        rows = [self._values(instance, number) for number, instance in enumerate(instances, start=1)]
        for number, row in enumerate(rows, start=1):
            for index, name in self._numbers:
                if isinstance(row[index], str):
                    reason = f"the text {_quote(row[index])} where a number is wanted"
                    raise RequestError(400, reason, row=number, column=name)
        return rows

    def _instances(self, document: object) -> list[object]:
        if isinstance(document, dict):
            members = cast("dict[str, object]", document)
            for name in members:
                if name != "instances":
                    raise RequestError(400, f"unknown field {_quote(name)}; want 'instances'")
            document = members.get("instances")
        if not isinstance(document, list):
            raise RequestError(400, "want an object with an array 'instances', or an array of rows")
        if not document:
            raise RequestError(400, "there are no instances")
        return cast("list[object]", document)

    def _values(self, instance: object, number: int) -> Row:
        if isinstance(instance, Mapping):
            members = cast("Mapping[str, object]", instance)
            for name in members:
                if name not in self._known:
                    raise RequestError(400, f"unknown field {_quote(name)}", row=number)
            for name in self._names:
                if name not in members:
                    raise RequestError(400, "is absent (null means missing)", row=number, column=name)
            return [members[name] for name in self._names]
        if isinstance(instance, list):
            values = cast("list[Any]", instance)
            self._check_width(len(values), number)
            return values
        raise RequestError(400, f"want an object or an array, got {_kind(instance)}", row=number)

    def check_rows(self, rows: int) -> None:
        """Raise `RequestError` if a request may not have so many rows."""
        if rows > self._max_rows:
            raise RequestError(413, f"{rows} rows are more than the {self._max_rows} allowed")

    def check_nesting(self, body: bytes) -> None:
        """Raise `RequestError` if a large JSON body has far more arrays and objects than its rows may need.

        An empty array takes two bytes of a body and eighty of memory.
        """
        most = (self._max_rows + 100) * (len(self._names) + 2)
        if body.count(b"[") + body.count(b"{") > most:
            raise RequestError(413, f"more arrays and objects than the {self._max_rows} rows allowed need")

    def may_be_numbers(self, body: bytes) -> bool:
        """Return whether a large CSV body can be what `quick_csv` takes: it has not far too many fields."""
        return body.count(b",") <= lines(body) * len(self._names) + _MOST_COMMAS

    def _check_width(self, width: int, number: int) -> None:
        if width != len(self._names):
            raise RequestError(400, f"want {len(self._names)} values, got {width}", row=number)


def lines(body: bytes) -> int:
    """Return how many lines a CSV body has, whichever way they end."""
    text = body.rstrip(b"\r\n")
    return max(text.count(b"\n"), text.count(b"\r")) + 1


def with_nulls(text: bytes) -> bytes:
    """Return JSON with null wherever an array has nothing between commas."""
    # Twice, for of three commas in a row the second belongs to two pairs.
    text = text.replace(b",,", b",null,").replace(b",,", b",null,")
    return text.replace(b"[,", b"[null,").replace(b",]", b",null]")


def csv_answer(tokens: Sequence[bytes]) -> bytes:
    """Return a line for each row's prediction."""
    return tokens[0] + b"\n" if len(tokens) == 1 else b"\n".join(tokens) + b"\n"


def json_answer(tokens: Sequence[bytes]) -> bytes:
    """Return `{"predictions": […]}` of each row's prediction, as `tokens` made it."""
    if tokens and b"," in tokens[0]:
        return b'{"predictions":[[' + b"],[".join(tokens) + b"]]}"
    return b'{"predictions":[' + b",".join(tokens) + b"]}"


def written(predictions: NDArray[np.float32]) -> tuple[bytes, bytes]:
    """Return all predictions as text that reads back as the same float32, and what separates rows in it.

    The probabilities of several classes are separated by commas. One call for a whole batch: formatting
    a number in Python costs more than predicting it.
    """
    text = orjson.dumps(predictions, option=orjson.OPT_SERIALIZE_NUMPY)
    return (text[1:-1], b",") if predictions.ndim == 1 else (text[2:-2], b"],[")


def choose_answer(content_type: bytes, accept: bytes) -> bytes:
    """Return the content type of the answer: what `accept` asks for, or that of the request."""
    wanted = {media.strip() for media, q in map(_weighed, accept.lower().split(b",")) if q.strip(b"0.")}
    if (CSV in wanted) == (JSON in wanted):
        return content_type
    return CSV if CSV in wanted else JSON


def _weighed(item: bytes) -> tuple[bytes, bytes]:
    """Return the media type of an item of `Accept`, and its `q`: of zeros only, it is not wanted."""
    media, *parameters = item.split(b";")
    found = [
        value.strip() for name, _, value in (p.partition(b"=") for p in parameters) if name.strip() == b"q"
    ]
    return media, found[0] if found else b"1"


def request_type(header: bytes) -> bytes:
    """Return CSV or JSON for a Content-Type; raises `RequestError` for any other."""
    media, *parameters = header.lower().split(b";")
    for parameter in parameters:
        name, _, value = parameter.strip().partition(b"=")
        if name == b"charset" and value.strip(b'"') not in {b"utf-8", b"us-ascii"}:
            raise RequestError(415, "the only charset is utf-8")
    found = {CSV: CSV, JSON: JSON}.get(media.strip())
    if found is None:
        got = _quote(header.decode("latin-1")) if header else "none"
        raise RequestError(415, f"Content-Type: want text/csv or application/json, got {got}")
    return found


def _kind(value: object) -> str:
    kinds: dict[type, str] = {bool: "a boolean", int: "a number", float: "a number", str: "a text"}
    return "null" if value is None else kinds.get(type(value), "something else")


def _quote(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…")
