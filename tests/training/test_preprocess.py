import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle import values
from bundle.format import BundleError, Column, Feature
from bundle.preprocess import OPERATIONS, PreprocessError, Preprocessor, StepError, features_of

COLUMNS = (
    Column(name="size"),
    Column(name="weight"),
    Column(name="kind", type="categorical", categories=("a", "b", "7", "true")),
    Column(name="at", type="timestamp"),
)
STEPS: tuple[dict[str, Any], ...] = (
    {
        "op": "timestamp_parts",
        "column": "at",
        "parts": ["year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"],
    },
    {"op": "log1p", "column": "size", "output": "log_size"},
    {"op": "ratio", "column": "size", "by": "weight", "output": "density"},
    {"op": "difference", "column": "size", "minus": "weight", "output": "excess"},
    {"op": "clip", "column": "excess", "min": -3, "max": 3},
    {"op": "map", "column": "kind", "values": {"a": 1, "b": 2.5}, "default": 0, "output": "rank"},
    {"op": "map", "column": "kind", "values": {"a": "first", "7": "last"}, "output": "group"},
    {"op": "default", "column": "kind", "value": "none"},
    {"op": "default", "column": "weight", "value": 1},
)

numbers = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(-1e30, 1e30).map(repr),
    st.sampled_from(["", "NA", " 5 ", "-0", "1e3", "true"]),
)
kinds = st.one_of(
    st.none(), st.booleans(), st.integers(0, 9), st.text(max_size=5), st.sampled_from(["a", "b", "7.0"])
)
times = st.one_of(
    st.none(),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.datetimes().map(lambda moment: f"{moment:%Y-%m-%d %H:%M}Z".rjust(17, "0")),
    st.dates().map(str),
)
rows = st.lists(st.tuples(numbers, numbers, kinds, times), min_size=1, max_size=8)


def one(column: Column, value: Any, *steps: dict[str, Any]) -> list[float]:
    return Preprocessor([column], steps).transform_rows([[value]])[0].tolist()


@given(rows)
def test_a_batch_gives_what_its_rows_give_one_by_one(batch: list[tuple[Any, ...]]) -> None:
    preprocessor = Preprocessor(COLUMNS, STEPS)
    whole = preprocessor.transform_rows(batch)
    assert whole.dtype == np.float32
    assert whole.shape == (len(batch), len(preprocessor.features))
    for index, row in enumerate(batch):
        np.testing.assert_array_equal(preprocessor.transform_rows([row])[0], whole[index])
    by_column = dict(zip((column.name for column in COLUMNS), zip(*batch, strict=True), strict=True))
    np.testing.assert_array_equal(preprocessor.transform(by_column), whole)


@given(rows)
def test_no_row_gives_an_infinity(batch: list[tuple[Any, ...]]) -> None:
    assert not np.isinf(Preprocessor(COLUMNS, STEPS).transform_rows(batch)).any()


@given(rows)
def test_rows_mean_the_same_after_json(batch: list[tuple[Any, ...]]) -> None:
    preprocessor = Preprocessor(COLUMNS, json.loads(json.dumps(STEPS)))
    again = json.loads(json.dumps(batch))
    np.testing.assert_array_equal(preprocessor.transform_rows(again), preprocessor.transform_rows(batch))


@given(st.lists(st.one_of(st.just(math.nan), st.floats(-1e30, 1e30)), min_size=1, max_size=9))
def test_arrays_of_numbers_mean_what_lists_mean(column: list[float]) -> None:
    preprocessor = Preprocessor([Column(name="x")])
    expected = np.array(column, dtype=np.float32)[:, np.newaxis]
    np.testing.assert_array_equal(preprocessor.transform({"x": np.array(column)}), expected)
    np.testing.assert_array_equal(preprocessor.transform({"x": column}), expected)
    np.testing.assert_array_equal(preprocessor.transform({"x": [str(value) for value in column]}), expected)


def test_every_operation_is_tried_here() -> None:
    assert {step["op"] for step in STEPS} == set(OPERATIONS)


def test_the_steps_compute_what_they_say() -> None:
    preprocessor = Preprocessor(COLUMNS, STEPS)
    names = [feature.name for feature in preprocessor.features]
    row = dict(
        zip(names, preprocessor.transform_rows([[6, None, "b", "2024-03-10T05:06:07+01:00"]])[0], strict=True)
    )
    assert [row[f"at_{part}"] for part in ("year", "month", "day", "dayofyear")] == [2024, 3, 10, 70]
    assert [row[f"at_{part}"] for part in ("weekday", "hour", "minute", "second")] == [6, 4, 6, 7]
    assert row["log_size"] == pytest.approx(math.log(7))
    assert math.isnan(row["density"])
    assert row["weight"] == 1
    assert row["rank"] == 2.5
    assert math.isnan(row["group"])
    assert preprocessor.transform_rows([[6, 2, "a", None]])[0].tolist()[names.index("density")] == 3
    assert preprocessor.transform_rows([[6, 2, "a", None]])[0].tolist()[names.index("excess")] == 3


def test_undefined_results_are_missing() -> None:
    size, weight = Column(name="size"), Column(name="weight")
    assert math.isnan(one(size, -1, {"op": "log1p", "column": "size"})[0])
    ratio = Preprocessor([size, weight], [{"op": "ratio", "column": "size", "by": "weight", "output": "r"}])
    found = ratio.transform_rows([[1, 0], [0, 0], [3e38, 1e-300], [None, 1]])[:, 2]
    assert np.isnan(found[[0, 1, 3]]).all()
    assert not np.isinf(found).any()


def test_categories_become_their_index_and_unknown_ones_missing() -> None:
    kind = COLUMNS[2]
    assert [one(kind, value)[0] for value in ("a", " b ", 7, 7.0, "7.0", True, "TRUE")] == [
        0,
        1,
        2,
        2,
        2,
        3,
        3,
    ]
    assert all(math.isnan(one(kind, value)[0]) for value in (None, "", "NA", "zz", "07", 8, math.nan))


def test_an_unknown_category_is_refused_where_declared() -> None:
    kind = Column(name="kind", type="categorical", categories=("a",), unknown="refuse")
    preprocessor = Preprocessor([Column(name="x"), kind])
    assert np.isnan(preprocessor.transform_rows([[1, None]])[0, 1])
    with pytest.raises(PreprocessError, match="row 2, column 'kind': 'b' is not a known category") as caught:
        preprocessor.transform_rows([[1, "a"], [1, "b"]])
    assert (caught.value.column, caught.value.row) == ("kind", 1)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (COLUMNS[0], "abc"),
        (COLUMNS[0], "1_000"),
        (COLUMNS[0], "٣"),
        (COLUMNS[0], "inf"),
        (COLUMNS[0], math.inf),
        (COLUMNS[0], 1e39),
        (COLUMNS[0], 10**400),
        (COLUMNS[0], [1]),
        (COLUMNS[0], {}),
        (COLUMNS[2], [1]),
        (COLUMNS[2], {}),
        (COLUMNS[3], "yesterday"),
        (COLUMNS[3], "2024-02-30"),
        (COLUMNS[3], "2024-01-01T25:00"),
        (COLUMNS[3], 1700000000),
        (COLUMNS[3], True),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_column_and_row(column: Column, value: Any) -> None:
    preprocessor = Preprocessor([Column(name="x"), column] if column.name != "x" else [column])
    with pytest.raises(PreprocessError) as caught:
        preprocessor.transform_rows([[1, None], [1, value]])
    assert (caught.value.column, caught.value.row) == (column.name, 1)


def test_a_row_of_another_length_and_a_column_that_lacks_are_refused() -> None:
    preprocessor = Preprocessor(COLUMNS)
    with pytest.raises(PreprocessError, match="row 1: want 4 values, got 2"):
        preprocessor.transform_rows([[1, 2]])
    with pytest.raises(PreprocessError, match="column 'weight': missing"):
        preprocessor.transform({"size": [1]})


def test_arrays_out_of_range_are_refused() -> None:
    with pytest.raises(PreprocessError) as caught:
        Preprocessor([Column(name="x")]).transform({"x": np.array([1.0, math.nan, 1e39])})
    assert caught.value.row == 2


def test_no_rows_give_an_empty_matrix() -> None:
    assert Preprocessor(COLUMNS, STEPS).transform_rows([]).shape == (0, 16)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({}, "op: want one of timestamp_parts"),
        ({"op": "eval", "code": "1"}, "op: want one of timestamp_parts"),
        ({"op": ["clip"]}, "op: want one of timestamp_parts"),
        ({"op": "log1p"}, "column: missing"),
        ({"op": "log1p", "column": "nope"}, "unknown column 'nope'"),
        ({"op": "log1p", "column": "kind"}, "column 'kind' is categorical, want numeric"),
        ({"op": "log1p", "column": "size", "base": 2}, "base: unknown field"),
        ({"op": "log1p", "column": "size", "output": ""}, "output: empty"),
        ({"op": "ratio", "column": "size", "output": "r"}, "by: missing"),
        (
            {"op": "ratio", "column": "size", "by": "at", "output": "r"},
            "column 'at' is timestamp, want numeric",
        ),
        ({"op": "clip", "column": "size"}, "want min, max or both"),
        ({"op": "clip", "column": "size", "min": 2, "max": 1}, "min not above max"),
        ({"op": "clip", "column": "size", "min": "1"}, "min: want a finite number"),
        ({"op": "map", "column": "kind", "values": {}}, "want numbers only, or texts only"),
        ({"op": "map", "column": "kind", "values": {"a": 1, "b": "x"}}, "want numbers only, or texts only"),
        (
            {"op": "map", "column": "kind", "values": {"a": 1}, "default": "x"},
            "want numbers only, or texts only",
        ),
        ({"op": "map", "column": "kind", "values": {"a": [1]}}, "want numbers only, or texts only"),
        ({"op": "map", "column": "size", "values": {"1": 2}}, "column 'size' is numeric, want categorical"),
        ({"op": "default", "column": "size", "value": "x"}, "is not a value of the numeric column"),
        ({"op": "default", "column": "kind", "value": 1}, "is not a value of the categorical column"),
        ({"op": "timestamp_parts", "column": "at", "parts": []}, "parts: want some, each once"),
        ({"op": "timestamp_parts", "column": "at", "parts": ["hour", "hour"]}, "parts: want some, each once"),
        ({"op": "timestamp_parts", "column": "at", "parts": ["era"]}, r"parts\[0\]: want one of year"),
        ({"op": "timestamp_parts", "column": "size", "parts": ["hour"]}, "is numeric, want timestamp"),
    ],
)
def test_a_wrong_step_is_refused_before_any_row(step: dict[str, Any], reason: str) -> None:
    with pytest.raises(StepError, match=reason) as caught:
        Preprocessor(COLUMNS, [step])
    assert str(caught.value).startswith("steps[0]: ")
    assert isinstance(caught.value, BundleError)


def test_features_must_be_what_the_steps_make() -> None:
    made = features_of(COLUMNS, STEPS)
    assert Preprocessor(COLUMNS, STEPS, made[::-1]).features == made[::-1]
    with pytest.raises(StepError, match="features: nope: neither a column nor made by a step"):
        Preprocessor(COLUMNS, STEPS, [Feature(name="nope")])
    with pytest.raises(StepError, match="features: kind: its type or categories"):
        Preprocessor(COLUMNS, STEPS, [Feature(name="kind")])


def test_only_plain_numbers_are_an_identity() -> None:
    plain = [Column(name="x"), Column(name="y")]
    assert Preprocessor(plain).is_identity
    assert not Preprocessor(plain, (), [Feature(name="y"), Feature(name="x")]).is_identity
    assert not Preprocessor(plain, (), [Feature(name="x")]).is_identity
    assert not Preprocessor(plain, [{"op": "clip", "column": "x", "min": 0}]).is_identity
    assert not Preprocessor([COLUMNS[2]]).is_identity
    assert Preprocessor(plain).transform_rows([[1, "2"], [None, ""]]).tolist()[0] == [1, 2]


@given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
def test_times_are_read_in_utc(moment: Any, offset: int) -> None:
    sign = "+" if offset >= 0 else "-"
    text = f"{moment.isoformat()}{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    plain, zoned = values.timestamp(moment.isoformat()), values.timestamp(text)
    assert plain is not None
    assert zoned == plain - offset * 60_000_000


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()))
def test_a_category_is_its_own_category(value: Any) -> None:
    text = values.category(value)
    assert text is None or values.category(text) == text
