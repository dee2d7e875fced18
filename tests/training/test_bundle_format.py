import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundle import format as bundle_format
from bundle.format import BundleError, Champion, Column, Manifest, Metrics, Training

COLUMNS = [
    Column(name="size"),
    Column(name="kind", type="categorical", categories=("a", "b"), unknown="refuse"),
    Column(name="at", type="timestamp"),
]


def example(**changes: Any) -> Manifest:
    return replace(bundle_format.describe("flights", "job-1", "binary", COLUMNS, {"auc": 0.9}), **changes)


def write_bundle(directory: Path, manifest: Manifest | None = None, **golden: Any) -> Manifest:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.ubj").write_bytes(b"trees")
    (directory / "baseline.json").write_text('{"format":1}')
    rows = [[1.5, "a", None]] * 5
    document = {"columns": ["size", "kind", "at"], "rows": rows, "predictions": [0.5] * 5, **golden}
    (directory / "golden.json").write_text(json.dumps(document))
    return bundle_format.write(directory, manifest or example())


def test_json_and_back_gives_the_same_manifest() -> None:
    manifest = example(
        metrics=Metrics(challenger={"auc": 0.9, "logloss": 1.0}, champion={"auc": 0.8}),
        champion=Champion(version="job-0", digest="sha256:0"),
        steps=({"op": "map", "column": "kind", "values": {"a": 1, "é": None}},),
        training=Training(job="job-1", dataset_hash="ff", manifest_uri="s3://b/k", rows=10, holdout_rows=2),
    )
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


def test_the_layout_is_the_documented_one() -> None:
    document = json.loads(example().to_json())
    assert document["format"] == 1
    assert document["columns"] == [
        {"name": "size", "type": "numeric"},
        {"name": "kind", "type": "categorical", "categories": ["a", "b"], "unknown": "refuse"},
        {"name": "at", "type": "timestamp"},
    ]
    assert document["features"][1] == {"name": "kind", "type": "categorical", "categories": ["a", "b"]}
    assert document["metrics"] == {"challenger": {"auc": 0.9}, "champion": None}
    assert document["classes"] == ["0", "1"]


Change = Callable[[dict[str, Any]], object]


CHANGES: list[tuple[Change, str]] = [
    (lambda d: d.pop("target"), "target: missing"),
    (lambda d: d.update(format=2), "format: want 1, got 2"),
    (lambda d: d.update(extra=1), "extra: unknown field"),
    (lambda d: d.update(task="ranking"), "task: want one of binary, multiclass, regression"),
    (lambda d: d.update(name="Not A Name"), "name: 'Not A Name'"),
    (lambda d: d.update(version="x\r\nSet-Cookie: y"), "version:"),
    (lambda d: d.update(classes=["0"]), "classes: 1 do not suit a binary model"),
    (lambda d: d.update(classes=["0", "0"]), "classes: a text is empty or stands there twice"),
    (lambda d: d["columns"][0].update(type="number"), "columns[0]: type: want one of"),
    (lambda d: d["columns"].append(d["columns"][0]), "columns: a text is empty or stands there twice"),
    (lambda d: d["columns"][1].update(categories=["a", 1]), "columns[1]: categories[1]: want a text"),
    (lambda d: d.update(features=[]), "features: empty"),
    (lambda d: d.update(steps=[{}]), "steps: a step lacks its op"),
    (lambda d: d.update(steps=[1]), "steps[0]: want an object"),
    (
        lambda d: d["metrics"]["challenger"].update(auc=True),
        "metrics: challenger: auc: want a finite number",
    ),
    (lambda d: d["metrics"].update(challenger={}), "metrics: challenger: lacks the primary metric auc"),
    (
        lambda d: d.update(champion={"version": "v", "digest": "d"}),
        "champion: a champion and its metrics",
    ),
    (lambda d: d["training"].update(rows=1.5), "training: rows: want a whole number"),
    (
        lambda d: d.update(files={"model.ubj": {"sha256": "no", "bytes": 1}}),
        "files: model.ubj: want a SHA-256",
    ),
]


@pytest.mark.parametrize(("change", "names"), CHANGES)
def test_a_wrong_field_is_named(change: Change, names: str) -> None:
    document = json.loads(example().to_json())
    change(document)
    with pytest.raises(BundleError, match=r"bundle\.json") as caught:
        Manifest.from_json(json.dumps(document))
    assert names in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"a":1,"a":2}', '{"a":NaN}', b"\xff", "[" * 100_000]
)
def test_what_is_not_a_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Manifest.from_json(text)


def test_a_number_out_of_range_is_refused() -> None:
    text = example().to_json().decode()
    with pytest.raises(BundleError, match="auc"):
        Manifest.from_json(text.replace("0.9", "1e999"))
    with pytest.raises(BundleError, match="auc"):
        Manifest.from_json(text.replace("0.9", "9" * 400))


def test_a_written_bundle_verifies_and_has_a_digest(tmp_path: Path) -> None:
    written = write_bundle(tmp_path)
    assert bundle_format.verify(tmp_path) == written == bundle_format.read(tmp_path)
    assert bundle_format.digest(tmp_path).startswith("sha256:")
    assert bundle_format.read_golden(tmp_path, written).rows[0] == (1.5, "a", None)


def test_every_change_of_a_file_is_noticed(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    for name, content, reason in [
        ("model.ubj", b"other", "model.ubj: sha256"),
        ("model.ubj", b"longer one", "model.ubj: 10 bytes"),
        ("baseline.json", b"{}", "baseline.json"),
    ]:
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BundleError) as caught:
            bundle_format.verify(tmp_path)
        assert str(caught.value).startswith(reason)
        (tmp_path / name).write_bytes(before)
    (tmp_path / "golden.json").unlink()
    with pytest.raises(BundleError, match=r"golden\.json: missing"):
        bundle_format.verify(tmp_path)


def test_a_bundle_that_is_not_there_or_has_more_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json: missing"):
        bundle_format.verify(tmp_path / "nowhere")
    write_bundle(tmp_path)
    (tmp_path / "run.py").write_text("")
    with pytest.raises(BundleError, match=r"run\.py: not a file of a bundle"):
        bundle_format.verify(tmp_path)


@pytest.mark.parametrize(
    ("golden", "reason"),
    [
        ({"columns": ["size"]}, "columns: differ"),
        ({"rows": [[1, "a", None]]}, "rows: want at least 5"),
        ({"rows": [[1, "a"]] * 5}, r"rows\[0\]: want 3 values, got 2"),
        ({"rows": [[{}, "a", None]] * 5}, r"rows\[0\]: .* is not a value"),
        ({"predictions": [[0.5]] * 5}, r"predictions\[0\]: want a finite number"),
        ({"predictions": [None] * 5}, r"predictions\[0\]: want a finite number"),
    ],
)
def test_golden_rows_that_do_not_fit_are_refused(tmp_path: Path, golden: dict[str, Any], reason: str) -> None:
    write_bundle(tmp_path, **golden)
    with pytest.raises(BundleError, match=reason):
        bundle_format.verify(tmp_path)


def test_multiclass_golden_predictions_are_one_number_a_class(tmp_path: Path) -> None:
    manifest = example(task="multiclass", classes=("a", "b", "c"), objective="multi:softprob")
    write_bundle(tmp_path, manifest, predictions=[[0.2, 0.3, 0.5]] * 5)
    bundle_format.verify(tmp_path)
    write_bundle(tmp_path, manifest, predictions=[[0.2, 0.8]] * 5)
    with pytest.raises(BundleError, match="want 3 probabilities, got 2"):
        bundle_format.verify(tmp_path)


def test_packing_is_repeatable_and_unpacks_to_the_same_bundle(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path / "a")
    for name in ("1.tar.gz", "2.tar.gz"):
        bundle_format.pack(tmp_path / "a", tmp_path / name)
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()
    assert bundle_format.unpack(tmp_path / "1.tar.gz", tmp_path / "b") == manifest
    with (tmp_path / "1.tar.gz").open("rb") as stream:
        assert bundle_format.unpack(stream, tmp_path / "c") == manifest
    assert bundle_format.digest(tmp_path / "b") == bundle_format.digest(tmp_path / "a")


def archive_of(*members: tarfile.TarInfo) -> io.BytesIO:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    content.seek(0)
    return content


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 1, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size if kind == tarfile.REGTYPE else 0, link
    return info


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (archive_of(member("../evil")), "'../evil' does not belong"),
        (archive_of(member("/etc/passwd")), "'/etc/passwd' does not belong"),
        (archive_of(member("code/run.py")), "does not belong"),
        (archive_of(member("model.ubj", tarfile.SYMTYPE, link="/etc/passwd")), "does not belong"),
        (archive_of(member("model.ubj", tarfile.LNKTYPE, link="/etc/passwd")), "does not belong"),
        (archive_of(member("golden.json", size=(16 << 20) + 1)), "golden.json: 16777217 bytes, more than"),
        (archive_of(member("model.ubj"), member("./model.ubj")), "cannot be unpacked"),
        (archive_of(member("model.ubj")), r"bundle.json: missing"),
        (io.BytesIO(b""), "cannot be unpacked"),
        (io.BytesIO(b"not a tar"), "cannot be unpacked"),
        (io.BytesIO(archive_of(member("model.ubj", size=1000)).getvalue()[:60]), "cannot be unpacked"),
    ],
)
def test_a_hostile_or_broken_archive_is_refused(tmp_path: Path, archive: io.BytesIO, reason: str) -> None:
    archive.seek(0)
    with pytest.raises(BundleError, match=reason):
        bundle_format.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_another_minor_version_of_xgboost_is_refused() -> None:
    bundle_format.check_xgboost(example(), "3.2.5")
    for version in ("3.3.0", "2.2.0", ""):
        with pytest.raises(BundleError, match=r"libraries\.xgboost"):
            bundle_format.check_xgboost(example(), version)
