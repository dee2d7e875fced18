"""Files that must not be trained on, and what the rest is read as."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dataset
from bundle import format as bundle_format
from bundle.format import Column, Manifest
from configuration import Hyperparameters, from_environment
from dataset import DataSet
from errors import DataRefused, TrainingError, refusal

GOOD = "x,c,y\n" + "".join(f"{i / 7},{'ab'[i % 2]},{(i * 7 % 10) // 5}\n" for i in range(60))
Files = dict[str, str | bytes]


def asked(channel: Path, **hyperparameters: Any) -> Hyperparameters:
    wanted = {"target": "y", "task": "binary", **hyperparameters}
    return from_environment(
        {"SM_CHANNEL_TRAIN": str(channel), "SM_HPS": json.dumps(wanted)}, []
    ).hyperparameters


def load(channel: Path, files: Files, champion: Manifest | None = None, **hyperparameters: Any) -> DataSet:
    for name, content in files.items():
        path = channel / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return dataset.load(channel, None, asked(channel, **hyperparameters), champion)


def refused(
    channel: Path, files: Files, champion: Manifest | None = None, **hyperparameters: Any
) -> dict[str, str]:
    with pytest.raises(DataRefused) as caught:
        load(channel, files, champion, **hyperparameters)
    return caught.value.files


BAD: dict[str, tuple[str | bytes, str]] = {
    "empty.csv": ("", "empty"),
    "blank.csv": ("\n  \n", "empty"),
    "header.csv": ("x,c,y\n", "a header only, no rows"),
    "latin.csv": (b"x,c,y\n1,a,0\n1,\xe9,0\n", "line 3: not UTF-8"),
    "cut.csv": (b"x,c,y\n1,a,0\n1,\xc3", "line 3: not UTF-8"),
    "utf16.csv": (GOOD.encode("utf-16"), "line 1: not UTF-8"),
    "nul.csv": (b"x,c,y\n1,\0,0\n", "line 2: a NUL byte: not a text file"),
    "huge.csv": ("x,c,y\n1,a,0\n2," + "z" * 70_000 + ",1\n", "line 3: column 'c': a field of 70000 bytes"),
    "bytes.csv": ("x,c,y\n1,a,0\n2," + "é" * 40_000 + ",1\n", "line 3: column 'c': a field of 80000 bytes"),
    "long.csv": ("x,c,y\n1," + "z" * (33 << 20) + ",0\n", "a field or line of more than"),
    "less.csv": ("x,y\n1,0\n", "missing column 'c'"),
    "more.csv": ("x,c,y,z\n1,a,0,1\n", "unexpected column 'z'"),
    "other.csv": ("a;b\n1;2\n", "missing columns 'c', 'x', 'y'; unexpected column 'a;b'"),
    "blind.csv": ("x,c\n1,a\n", "missing column 'y'"),
    "twice.csv": ("x,c,x,y\n1,a,1,0\n", "column 'x' stands there twice"),
    "nameless.csv": ("x,,y\n1,a,0\n", "column 2 has no name"),
    "ragged.csv": ("x,c,y\n1,a,0\n1,a\n", "line 3: want 3 values, got 2"),
    "text.csv": ('x,c,y\n1,"a\nb",0\n\n12 miles,a,0\n', "line 5: column 'x': '12 miles' is not a number"),
    "inf.csv": (
        "x,c,y\n1,a,0\ninf,a,0\n",
        "line 3: column 'x': 'inf' is not a number that the model can hold",
    ),
    "blank_target.csv": ("x,c,y\n1,a,0\n1,a,\n", "line 3: column 'y': the target is missing"),
    "unknown.csv": (
        "x,c,y\n1,a,0\n1,a,maybe\n",
        "line 3: column 'y': the target is 'maybe', want one of 0, 1",
    ),
    "one.csv": ("x,c,y\n" + "1,a,1\n" * 40, "target 'y' has one class only, '1', in 40 rows"),
    "notes.txt": ("hello", "neither .csv nor .parquet"),
    "empty.parquet": (b"", "empty"),
    "not.parquet": (b"PAR1 this is not one PAR1", "cannot be read: "),
    "sub/deep.csv": ("", "empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_the_reason_and_only_that_file(tmp_path: Path, name: str) -> None:
    content, reason = BAD[name]
    files = refused(tmp_path, {"good1.csv": GOOD, "good2.csv": GOOD, name: content})
    assert list(files) == [name]
    assert reason in files[name]


def test_all_bad_files_are_refused_in_one_go(tmp_path: Path) -> None:
    bad = {name: content for name, (content, _) in BAD.items()}
    files = refused(tmp_path, {"good1.csv": GOOD, "good2.csv": GOOD, **bad})
    assert set(files) == set(BAD)


def test_bad_parquet_files_are_refused(tmp_path: Path) -> None:
    good = {"x": [1.0, 2.0], "c": ["a", "b"], "y": [0, 1]}
    for name, columns in {
        "none.parquet": {key: pa.array(values).slice(0, 0) for key, values in good.items()},
        "list.parquet": {**good, "c": [["a"], ["b"]]},
        "text.parquet": {**good, "x": ["1", "many"]},
        "inf.parquet": {**good, "x": [1.0, float("inf")]},
        "bytes.parquet": {**good, "c": [b"a", b"b"]},
    }.items():
        pq.write_table(pa.table(columns), tmp_path / name)
    files = refused(tmp_path, {"good.csv": GOOD})
    assert files["none.parquet"] == "no rows"
    assert "has the type list<" in files["list.parquet"]
    assert files["text.parquet"] == "row 2: column 'x': 'many' is not a number"
    assert files["inf.parquet"].startswith("row 2: column 'x': inf is not a number")
    assert "has the type binary" in files["bytes.parquet"]


def test_the_only_file_is_refused_for_what_it_is(tmp_path: Path) -> None:
    assert refused(tmp_path, {"a.csv": "x,y\n1,1\n2,1\n"}) == {"a.csv": "target 'y' has one value only: 1"}
    assert refused(tmp_path, {"a.csv": "x,z\n1,1\n"}) == {"a.csv": "missing column 'y'"}
    assert refused(tmp_path, {"a.csv": ""}) == {"a.csv": "empty"}


def test_few_rows_of_one_class_are_plausible_and_files_by_class_are_a_layout(tmp_path: Path) -> None:
    few = load(tmp_path / "a", {"good.csv": GOOD, "few.csv": "x,c,y\n" + "1,a,1\n" * 10})
    assert few.files == {"few.csv": 10, "good.csv": 60}
    split = load(tmp_path / "b", {"no.csv": "x,y\n" + "1,0\n" * 90, "yes.csv": "x,y\n" + "2,1\n" * 90})
    assert split.classes == ("0", "1")


def test_a_constant_value_cannot_be_learnt(tmp_path: Path) -> None:
    files = refused(tmp_path, {"a.csv": "x,y\n1,5\n2,5.0\n"}, task="regression")
    assert "has one value only" in files["a.csv"]


def test_the_champion_settles_columns_types_and_classes(tmp_path: Path) -> None:
    columns = [Column(name="y2"), Column(name="x")]
    champion = bundle_format.describe(
        "m", "v", "binary", columns, {"auc": 1}, target="y", classes=("no", "yes")
    )
    old = "x,y2,y\n" + "".join(f"{i},1,{('no', 'yes')[i % 2]}\n" for i in range(9))
    new = "x,y\n" + "".join(f"{i},{('no', 'yes')[i % 2]}\n" for i in range(90))
    files = refused(tmp_path, {"old.csv": old, "new1.csv": new, "new2.csv": new}, champion)
    assert files == dict.fromkeys(("new1.csv", "new2.csv"), "missing column 'y2'")
    data = load(tmp_path / "alone", {"old.csv": old}, champion)
    assert list(data.types) == ["y2", "x"]
    text = old.replace(",1,", ",text,")
    assert (
        "column 'y2': 'text' is not a number"
        in refused(tmp_path / "text", {"a.csv": text}, champion)["a.csv"]
    )
    other = old.replace("yes", "perhaps")
    assert "want one of no, yes" in refused(tmp_path / "other", {"a.csv": other}, champion)["a.csv"]


def test_types_are_inferred_or_as_asked(tmp_path: Path) -> None:
    text = "n,c,b,code,at,gone,y\n1,x,True,7,2024-01-01,,0\nNA,y,false,8,2024-01-02T10:00Z,,1\n,,,,,,1\n"
    parts = [{"op": "timestamp_parts", "column": "at", "parts": ["hour"]}]
    data = load(tmp_path, {"a.csv": text}, steps=parts)
    others = {"c": "categorical", "at": "timestamp"}
    assert data.types == dict.fromkeys(("n", "b", "code", "gone"), "numeric") | others
    assert sorted(data.train.raw["b"].tolist(), key=str) == [0.0, 1.0, pytest.approx(np.nan, nan_ok=True)]
    data = load(tmp_path, {}, steps=json.dumps(parts), categorical='["c","code"]')
    assert data.types["code"] == "categorical"
    assert {text for text in data.train.raw["code"] if text} == {"7", "8"}
    data = load(tmp_path, {}, drop=["at", "n"])
    assert list(data.types) == ["c", "b", "code", "gone"]
    with pytest.raises(TrainingError, match="column 'at' holds timestamps"):
        load(tmp_path, {})


def test_more_categories_than_make_sense_are_an_error(tmp_path: Path) -> None:
    text = "name,y\n" + "".join(f"n{i},{i % 2}\n" for i in range(1100))
    data = load(tmp_path, {"a.csv": text})
    with pytest.raises(TrainingError, match="column 'name' has 1100 categories, at most 1000"):
        dataset.describe_columns(data.types, data.train, asked(tmp_path))


def test_classes_are_sorted_as_people_do(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{i},{value}\n" for i, value in enumerate(["10", "9", "2.0", "b", "2"]))
    assert load(tmp_path, {"a.csv": text}, task="multiclass").classes == ("2", "9", "10", "b")


def test_no_files_are_an_error_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no files"):
        load(tmp_path, {})


@pytest.mark.parametrize("count", [1, 3, 500])
def test_the_reason_fits_into_sagemakers_and_stays_json(count: int) -> None:
    text = refusal({f"v{i}/{'n' * 20}.csv": "line 3:\n" + "very " * 1000 for i in range(count)})
    files = json.loads(text.removeprefix("REFUSED="))
    assert len(text) <= 900
    assert 1 <= len(files) <= count


Writer = Callable[[Path, dict[str, list[Any]]], None]


def test_csv_and_parquet_hold_the_same_rows(
    tmp_path: Path, make_table: Callable[..., dict[str, list[Any]]], write_csv: Writer, write_parquet: Writer
) -> None:
    table = make_table(200)
    write_csv(tmp_path / "csv" / "a.csv", table)
    write_parquet(tmp_path / "parquet" / "a.parquet", dict(reversed(table.items())))
    parts = [{"op": "timestamp_parts", "column": "at", "parts": ["hour"]}]
    read = [load(tmp_path / name, {}, steps=parts).train for name in ("csv", "parquet")]
    np.testing.assert_array_equal(read[0].hashes, read[1].hashes)
    for name in ("size", "kind", "at"):
        np.testing.assert_array_equal(read[0].raw[name], read[1].raw[name])
