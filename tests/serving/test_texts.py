"""Rows read as text, many at once, are the rows that each text says; anything else is left alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import tensors
from serving.texts import Frames, Lines, Numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.texts import Layout

NAN = math.nan
PLAIN = st.one_of(
    st.floats(-1e30, 1e30).map(repr),
    st.integers(-(10**15), 10**15).map(str),
    st.sampled_from(["-0", "1E2", "0.1", " 3", "null", "3.4028234663852886e38"]),
)
ODD = st.sampled_from(
    ["", "1e99", "2e99", "-2e99", "1e400", "true", '"1"', "{}", "[]", "[", "]", "1]", "1,2", "1null", "null1",
     "20e98", "\n", "\r", "NaN", "+1", "1 2", "\xe9", "\x00", "3.5e38", "3.40282357e38", "{", "1//", "e", "-",
     "]]}", '{"rows":[[', ']]}\x00{"rows":[[', ']]},{"rows":[[']
)  # fmt: skip


def text(cells: list[str]) -> bytes:
    return ",".join(cells).encode()


def framed(cells: list[str]) -> bytes:
    return b'{"rows":[[%b]]}' % text(cells)


def said(line: bytes, width: int) -> list[float] | None:
    """Return what the text of a row says by itself, or None if it is no row of this width."""
    try:
        values = orjson.loads(b"[%b]" % line)
    except orjson.JSONDecodeError:
        return None
    if len(values) != width or any(type(value) not in {int, float, type(None)} for value in values):
        return None
    return [NAN if value is None else float(value) for value in values]


def read(layout: Layout, bodies: Sequence[bytes], width: int = 3) -> list[list[float] | None]:
    """Return the row that was found in each body."""
    into = np.full((len(bodies), width), 7, dtype=np.float32)
    found = layout.read(bodies, Numbers(width), into)
    rows: list[list[float] | None] = [None] * len(bodies)
    for index, row in zip(found, into, strict=False):
        rows[index] = row.tolist()
    return rows


def rows_of(body: bytes) -> list[list[float]] | None:
    try:
        return orjson.loads(body)["rows"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def learnt(*bodies: bytes, width: int = 3) -> Frames:
    frames = Frames(width, rows_of)
    for body in bodies:
        frames.learn(body)
    return frames


ROWS = st.lists(st.lists(PLAIN, min_size=3, max_size=3), min_size=1, max_size=9)


@given(ROWS)
def test_rows_of_numbers_are_read_exactly(rows: list[list[str]]) -> None:
    wanted = np.array([said(text(row), 3) for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(np.array(read(Lines(), [text(row) for row in rows])), wanted)
    frames, bodies = learnt(framed(["1", "2", "3"])), [framed(row) for row in rows]
    np.testing.assert_array_equal(np.array(read(frames, bodies)), wanted)
    np.testing.assert_array_equal(np.array(read(frames, bodies)), wanted)


MANY = st.lists(st.lists(st.one_of(PLAIN, ODD), max_size=6), min_size=1, max_size=4)


@given(MANY)
def test_nothing_else_is_taken_for_lines(rows: list[list[str]]) -> None:
    lines = [text(row) for row in rows]
    for line, found in zip(lines, read(Lines(), lines), strict=True):
        if found is None:
            continue
        alone = b",".join(cell.strip() or b"null" for cell in line.rstrip(b"\r\n").split(b","))
        assert not {*b"\r\n"} & {*alone}
        wanted = said(alone, 3)
        assert wanted is not None
        np.testing.assert_array_equal(found, np.array(wanted, dtype=np.float32))


@given(MANY)
def test_nothing_else_is_taken_for_rows_in_frames(rows: list[list[str]]) -> None:
    frames = learnt(framed(["1", "2", "3"]), b'[{"rows":[[1,2,3]]}')
    bodies = [framed(row) for row in rows]
    for _ in range(2):
        for body, found in zip(bodies, read(frames, bodies), strict=True):
            if found is not None:
                alone = rows_of(body)
                assert alone is not None
                assert len(alone) == 1
                wanted = said(orjson.dumps(alone[0])[1:-1], 3)
                assert wanted is not None
                np.testing.assert_array_equal(found, np.array(wanted, dtype=np.float32))


@pytest.mark.parametrize(
    "lines",
    [
        [b"1,2,3,4", b"1,2"],
        [b"1,2,3,1e99,4,5,6"],
        [b"1,2,3,null", b"1,2"],
        [b"1,2", b"null,1,2,3"],
        [b"1,2,2e99", b"1,2,null"],
        [b"1,2],[3"],
        [b"1,2,\n3"],
        [b"1,2,\r3"],
        [b""],
    ],
    ids=repr,
)
def test_what_adds_up_to_rows_of_another_cut_is_refused(lines: list[bytes]) -> None:
    assert read(Lines(), lines) == [None] * len(lines)
    bodies = [b'{"rows":[[%b]]}' % line for line in lines if b"\n" not in line and b"\r" not in line]
    assert read(learnt(framed(["1", "2", "3"])), bodies) == [None] * len(bodies)


def test_gaps_are_missing_values_in_csv_only() -> None:
    lines = [b",2,\r\n", b"1,,\n", b",,"]
    found = read(Lines(), lines)
    np.testing.assert_array_equal(np.array(found), [[NAN, 2, NAN], [1, NAN, NAN], [NAN, NAN, NAN]])
    assert read(learnt(framed(["1", "2", "3"])), [framed(["1", "", "3"])]) == [None]


@pytest.mark.parametrize(
    "body", [b'{"rows":[[1,2]]}', b' { "rows" : [ [ 1, 2 ] ] } ', b'{"a":"]","rows":[[1,2]]}']
)
def test_a_frame_is_known_once_it_was_seen(body: bytes) -> None:
    frames = Frames(2, rows_of)
    assert read(frames, [body], 2) == [None]
    frames.learn(body)
    assert read(frames, [body, body], 2) == [[1, 2], [1, 2]]


@pytest.mark.parametrize("data", [b"[1,2]", b"[[1,2]]"])
def test_a_tensor_is_a_frame(data: bytes) -> None:
    body = b'{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":%b}]}' % data
    frames = Frames(2, lambda body: tensors.quick_rows(orjson.loads(body), 2, 10))
    frames.learn(body)
    assert read(frames, [body, body], 2) == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    "body",
    [
        b'{"rows":[[1,2]],"shape":[1,2]}',
        b'{"rows":[[1,2]],"id":"[1,2]"}',
        b'{"rows":[[3,4],[1,2]]}',
        b'{"rows":[[1,2],{"a":1}]}',
        b'{"rows":[{"a":[1,2]}]}',
        b"[[1,2]]",
        b"[1,2]",
        b"]1,2[",
        b"",
    ],
    ids=repr,
)
def test_numbers_that_are_not_the_row_are_no_frame(body: bytes) -> None:
    frames = learnt(body, width=2)
    assert read(frames, [body], 2) == [None]
    frames.learn(b'{"rows":[[1,2]]}')
    assert read(frames, [b'{"rows":[[1,2]]}', body], 2) == [[1, 2], None]
    assert read(frames, [body], 2) == [None]


def test_frames_may_be_mixed() -> None:
    frames = learnt(b'{"rows":[[1,2]]}', b'{"rows": [[1, 2]]}', width=2)
    bodies = [b'{"rows":[[3,4]]}', b'{"rows":[[3,4],[5,6]]}', b'{"rows": [[5,6]]}', b'{"rows":[[', b"]]}"]
    assert read(frames, bodies, 2) == [[3, 4], None, [5, 6], None, None]


def test_an_empty_body_is_no_row_of_one_column() -> None:
    assert read(Lines(), [b""], 1) == [None]
    assert read(Lines(), [b"", b"1"], 1) == [None, None]


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "1" + "0" * 400])
def test_whole_numbers_beyond_64_bits_are_left_to_others(number: str) -> None:
    assert read(Lines(), [b"1,2,3", text([number, "2", "3"])])[1] is None


def test_two_halves_of_a_body_are_not_two_bodies() -> None:
    frames = learnt(b'{"rows":[[1,2]]}', width=2)
    halves = [b'{"rows":[[1,2]]},{"rows":[[3', b"4]]}"]
    assert read(frames, [b'{"rows":[[1,2]]}'], 2) == [[1, 2]]
    assert read(frames, halves, 2) == [None, None]
    assert read(frames, [halves[0].replace(b"},", b"}\0"), halves[1]], 2) == [None, None]


@pytest.mark.parametrize("cut", range(-12, 16))
def test_bodies_that_are_cut_elsewhere_are_not_taken_for_those_they_add_up_to(cut: int) -> None:
    """Before and after the numbers stands what belongs there, but not in the body that it is read from."""
    one, two = b'{"rows":[[1,2]]}', b'{"rows":[[3,4]]}'
    frames = learnt(one, width=2)
    assert read(frames, [one, two], 2) == [[1, 2], [3, 4]]
    middle = len(one) + cut
    bodies = [(one + two)[:middle], (one + two)[middle:]]
    wanted = [[1, 2], [3, 4]] if cut == 0 else [None, None]
    assert read(frames, bodies, 2) == wanted


def test_what_is_learnt_is_bounded() -> None:
    bodies = [b'{"id":%d,"rows":[[1,2]]}' % number for number in range(200)]
    known = [row for row in read(learnt(*bodies, width=2), bodies, 2) if row is not None]
    assert 0 < len(known) < 100
    long = b'{"id":"%b","rows":[[1,2]]}' % (b"x" * 1000)
    assert read(learnt(long, width=2), [long], 2) == [None]
