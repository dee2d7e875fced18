"""The quick readers and the careful ones agree; predictions survive being written."""

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bundle import values
from bundle.format import Column
from serving import formats
from serving.batch import Batch
from serving.errors import RequestError
from serving.responses import CSV, JSON

READER = formats.Reader([Column(name="a"), Column(name="b")], max_rows=100)
NUMBERS = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False))


@settings(deadline=None)
@given(rows=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_quick_csv_reads_what_csv_reads(rows: list[tuple[float, float]]) -> None:
    body = "\n".join(f"{a!r},{b!r}" for a, b in rows).encode()
    quick = READER.quick_csv(body)
    careful = [[float(field) for field in row] for row in READER.csv(body)]
    assert quick is not None
    assert (
        [[float(value) for value in row] for row in quick]
        == careful
        == [[float(a), float(b)] for a, b in rows]
    )


@settings(deadline=None)
@given(text=st.text(alphabet='0123456789+-.eE, \t\r\n"[]nul', max_size=20))
def test_quick_csv_never_reads_what_csv_refuses(text: str) -> None:
    body = text.encode()
    quick = READER.quick_csv(body)
    if quick is None or any(len(row) != 2 for row in quick):
        return
    try:  # what float32 cannot hold is refused when the row is packed
        struct.pack(
            f"={2 * len(quick)}f", *(math.nan if value is None else value for row in quick for value in row)
        )
    except OverflowError:
        return
    careful = [[values.number(field) for field in row] for row in READER.csv(body)]
    assert np.array_equal(careful, [[values.number(value) for value in row] for row in quick], equal_nan=True)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b",2\n1,", [[None, 2], [1, None]]),
        (b",\r\n,\r\n", [[None, None], [None, None]]),
        (b"1,,,2", [[1, None, None, 2]]),
        (b",,,", [[None, None, None, None]]),
        (b"\n1,2", [[], [1, 2]]),  # packing finds that the first has no values
        (b"1,2\n\n1,2", [[1, 2], [], [1, 2]]),
    ],
)
def test_quick_csv_reads_missing_values(body: bytes, rows: list[list[Any]]) -> None:
    assert READER.quick_csv(body) == rows


@pytest.mark.parametrize(
    "body", [b'{"instances":[[1,2]],"x":1}', b"[]", b"{}", b"7", b"[{}]", b"[[1,2],3", b"[7]"]
)
def test_quick_json_leaves_what_is_odd(body: bytes) -> None:
    rows = READER.quick_json(body)
    assert rows is None or rows == [7]  # packing a bare number fails, and then the careful reader is asked


def test_quick_json_reads_both_shapes_of_rows() -> None:
    for document in ([[1, 2]], {"instances": [[1, 2]]}, [{"b": 2, "a": 1}]):
        rows = READER.quick_json(json.dumps(document).encode())
        assert rows is not None
        assert [list(row) for row in rows] == [[1, 2]]
    one = formats.Reader([Column(name="only")], max_rows=1)
    assert one.quick_json(b'[{"only":5}]') == [(5,)]


def checked_tokens(predictions: NDArray[np.float32]) -> list[bytes]:
    """The rows' predictions as text; written at once or not, for all or for some, they are the same."""
    batch = Batch(predictions, 0.0)
    at_once = batch.between(b"[[", b"],", 0, batch.rows)
    tokens = batch.tokens
    assert at_once == [b"[[" + token + b"]," for token in tokens]
    for start in range(batch.rows):
        some = batch.between(b"<", b"\n", start, batch.rows - start)
        assert some == [b"<" + token + b"\n" for token in tokens[start:]]
    return tokens


@settings(deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_predictions_read_back_as_the_same_floats(values: list[float]) -> None:
    tokens = checked_tokens(np.array(values, dtype=np.float32))
    lines = formats.csv_answer(tokens).decode().splitlines()
    assert [np.float32(line) for line in lines] == values
    assert [np.float32(value) for value in json.loads(formats.json_answer(tokens))["predictions"]] == values


@pytest.mark.parametrize("rows", [1, 3])
def test_predictions_of_several_classes(rows: int) -> None:
    predictions = (np.arange(rows * 3).reshape(rows, 3) / 8).astype(np.float32)
    tokens = checked_tokens(predictions)
    assert json.loads(formats.json_answer(tokens)) == {"predictions": predictions.tolist()}
    lines = formats.csv_answer(tokens).decode().splitlines()
    assert [[float(part) for part in line.split(",")] for line in lines] == predictions.tolist()


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (b"", JSON),
        (b"*/*", JSON),
        (b"text/csv", CSV),
        (b"Text/CSV;q=1", CSV),
        (b"text/csv, application/json", JSON),
        (b"application/json;q=0, text/csv", CSV),
        (b"text/csv; q=0.0, */*", JSON),
        (b"text/csv; header=absent ; q=0.5", CSV),
        (b"text/csvx, x-text/csv", JSON),
        (b",;q=0,", JSON),
    ],
)
def test_accept(accept: bytes, wanted: bytes) -> None:
    assert formats.choose_answer(JSON, accept) == wanted


def test_reasons_quote_little_of_a_long_value() -> None:
    with pytest.raises(RequestError) as caught:
        formats.request_type(b"x" * 5000)
    assert len(caught.value.reason) < 200
    error: dict[str, Any] = json.loads(RequestError(400, "is odd", row=2, column='"q"').body())
    assert error == {"error": "row 2, column '\"q\"': is odd", "row": 2, "column": '"q"'}
