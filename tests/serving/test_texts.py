"""Rows read as text, many at once, are the rows that each text says; anything else is left alone."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.texts import Frames, Numbers

PLAIN = st.one_of(
    st.floats(-1e30, 1e30).map(repr),
    st.integers(-(10**15), 10**15).map(str),
    st.sampled_from(["-0", "1E2", "0.1", " 3", "null", "3.4028234663852886e38"]),
)
ODD = st.sampled_from(
    ["", "1e99", "2e99", "-2e99", "1e400", "true", '"1"', "{}", "[]", "[", "]", "1]", "1,2", "1null", "null1",
     "20e98", "\n", "\r", "NaN", "+1", "1 2", "\xe9", "\x00", "3.5e38", "3.40282357e38", "{", "1//", "e", "-"]
)  # fmt: skip


def text(cells: list[str]) -> bytes:
    return ",".join(cells).encode()


def said(line: bytes, width: int) -> list[float] | None:
    """Return what the text of a row says by itself, or None if it is no row of this width."""
    try:
        values = orjson.loads(b"[%b]" % line)
    except orjson.JSONDecodeError:
        return None
    if len(values) != width or any(type(value) not in {int, float, type(None)} for value in values):
        return None
    return [math.nan if value is None else float(value) for value in values]


@given(st.lists(st.lists(PLAIN, min_size=3, max_size=3), min_size=1, max_size=9))
def test_rows_of_numbers_are_read_exactly(rows: list[list[str]]) -> None:
    found = np.full((len(rows), 3), 7, dtype=np.float32)
    assert Numbers(3).read([text(row) for row in rows], found)
    wanted = [said(text(row), 3) for row in rows]
    np.testing.assert_array_equal(found, np.array(wanted, dtype=np.float32))


@given(rows=st.lists(st.lists(st.one_of(PLAIN, ODD), max_size=6), min_size=1, max_size=4), gaps=st.booleans())
def test_nothing_else_is_taken_for_rows(rows: list[list[str]], *, gaps: bool) -> None:
    texts = [text(row) for row in rows]
    found = np.empty((len(rows), 3), dtype=np.float32)
    if not Numbers(3).read(texts, found, gaps=gaps):
        return
    for line, values in zip(texts, found, strict=True):
        cells = line.rstrip(b"\r\n").split(b",") if gaps else [line]
        alone = b",".join(cell.strip() or b"null" for cell in cells)
        assert not gaps or not {*b"\r\n"} & {*alone}
        wanted = said(alone, 3)
        assert wanted is not None
        np.testing.assert_array_equal(values, np.array(wanted, dtype=np.float32))


@pytest.mark.parametrize(
    "texts",
    [
        [b"1,2,3,4", b"1,2"],
        [b"1,2,3,1e99,4,5,6"],
        [b"1,2,3,null", b"1,2"],
        [b"1,2", b"null,1,2,3"],
        [b"1,2,2e99", b"1,2,null"],
        [b"1,2],[3"],
        [b"1,2,\n3"],
    ],
    ids=repr,
)
def test_what_adds_up_to_rows_of_another_cut_is_refused(texts: list[bytes]) -> None:
    found = np.empty((len(texts), 3), dtype=np.float32)
    assert not Numbers(3).read(texts, found, gaps=True)


def test_gaps_are_missing_values_in_csv_only() -> None:
    texts = [b",2,\r\n", b"1,,\n", b",,"]
    found = np.empty((3, 3), dtype=np.float32)
    assert Numbers(3).read(texts, found, gaps=True)
    nan = math.nan
    np.testing.assert_array_equal(found, [[nan, 2, nan], [1, nan, nan], [nan, nan, nan]])
    assert not Numbers(3).read(texts, found)


def read(body: bytes) -> list[list[float]] | None:
    try:
        return orjson.loads(body)["rows"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


@pytest.mark.parametrize(
    "body", [b'{"rows":[[1,2]]}', b' { "rows" : [ [ 1, 2 ] ] } ', b'{"a":"]","rows":[[1,2]]}']
)
def test_a_frame_is_known_once_it_was_seen(body: bytes) -> None:
    frames = Frames(2, read)
    assert frames.text(body) is None
    frames.learn(body)
    numbers = frames.text(body)
    assert numbers is not None
    assert orjson.loads(b"[%b]" % numbers) == [1, 2]


@pytest.mark.parametrize(
    "body",
    [
        b'{"rows":[[1,2]],"shape":[1,2]}',
        b'{"rows":[[1,2]],"id":"[1,2]"}',
        b'{"rows":[[3,4],[1,2]]}',
        b'{"rows":[[1,2],{"a":1}]}',
        b'{"rows":[{"a":[1,2]}]}',
        b"[[1,2]]",
        b"]1,2[",
        b"",
    ],
    ids=repr,
)
def test_numbers_that_are_not_the_row_are_no_frame(body: bytes) -> None:
    frames = Frames(2, read)
    frames.learn(body)
    assert frames.text(body) is None


def test_what_is_learnt_is_bounded() -> None:
    frames = Frames(2, read)
    for number in range(200):
        frames.learn(b'{"id":%d,"rows":[[1,2]]}' % number)
    known = [frames.text(b'{"id":%d,"rows":[[1,2]]}' % number) is not None for number in range(200)]
    assert 0 < sum(known) < 100
    long = b'{"id":"%b","rows":[[1,2]]}' % (b"x" * 1000)
    frames = Frames(2, read)
    frames.learn(long)
    assert frames.text(long) is None
