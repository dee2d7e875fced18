"""The script as SageMaker runs it: environment in, bundle and metrics out."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xgboost as xgb

from bundle import format as bundle_format
from bundle.preprocess import Preprocessor

if TYPE_CHECKING:
    from conftest import Outcome, Table, Workplace

STEPS = [
    {"op": "timestamp_parts", "column": "at", "parts": ["weekday", "hour"]},
    {"op": "clip", "column": "size", "min": -5, "max": 5},
    {"op": "map", "column": "kind", "values": {"a": 0, "b": 1, "e": 2}, "default": -1, "output": "rank"},
]
ASKED = {"target": "y", "steps": json.dumps(STEPS), "categorical": '["kind"]'}
METRICS = {
    "binary": {"auc", "logloss", "accuracy", "brier"},
    "multiclass": {"mlogloss", "accuracy"},
    "regression": {"rmse", "mae", "r2"},
}
Writer = Callable[[Path, "Table"], None]
Maker = Callable[..., "Table"]


@pytest.fixture
def fill(make_table: Maker, write_csv: Writer, write_parquet: Writer) -> Callable[..., None]:
    """Put a CSV and a Parquet file into a channel."""

    def write(
        channel: Path, task: str = "binary", rows: int = 400, seed: int = 0, shift: float = 0.0
    ) -> None:
        write_csv(channel / "a" / "first.csv", make_table(rows, seed=seed, task=task, shift=shift))
        write_parquet(channel / "second.parquet", make_table(rows, seed=seed + 1, task=task, shift=shift))

    return write


def printed(outcome: "Outcome", who: str) -> dict[str, float]:
    found = re.findall(rf"^{who}_([a-z0-9]+)=([-+0-9.eE]+);$", outcome.stdout, re.MULTILINE)
    return {name: float(value) for name, value in found}


def golden_differences(directory: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    manifest = bundle_format.verify(directory)
    golden = bundle_format.read_golden(directory, manifest)
    booster = xgb.Booster({"nthread": 1}, model_file=str(directory / "model.ubj"))
    predictions = booster.inplace_predict(Preprocessor.of(manifest).transform_rows(golden.rows))
    return np.abs(predictions - np.array(golden.predictions))


@pytest.mark.parametrize("task", METRICS)
def test_a_bundle_comes_out_that_reproduces_itself(
    workplace: "Workplace", fill: Callable[..., None], task: str
) -> None:
    fill(workplace.channel, task)
    outcome = workplace.train({**ASKED, "task": task}, SM_OUTPUT_DATA_DIR=str(workplace.root / "data"))
    assert outcome.code == 0, outcome.stderr
    manifest = bundle_format.verify(outcome.model)
    assert manifest.version == manifest.training.job == "ts-test--test-1"
    assert manifest.training.rows + manifest.training.holdout_rows == 800
    assert printed(outcome, "challenger") == manifest.metrics.challenger
    assert set(manifest.metrics.challenger) == METRICS[task]
    assert printed(outcome, "champion") == {}
    assert [column.name for column in manifest.columns] == ["size", "kind", "at"]
    assert manifest.columns[1].categories == ("a", "b", "c", "d", "e")
    assert [feature.name for feature in manifest.features] == [
        "size",
        "kind",
        "at_weekday",
        "at_hour",
        "rank",
    ]
    assert manifest.libraries["xgboost"] == bundle_format.XGBOOST_VERSION
    golden = bundle_format.read_golden(outcome.model, manifest)
    assert any(row == (None, None, None) for row in golden.rows)
    assert any(row[1] not in {*manifest.columns[1].categories, None} for row in golden.rows)
    assert golden_differences(outcome.model).max() <= bundle_format.GOLDEN_TOLERANCE
    assert (
        json.loads((workplace.root / "data" / "evaluation.json").read_text())["files"]["a/first.csv"] == 400
    )
    assert "read a/first.csv: 400 rows" in outcome.stdout


def test_what_was_learnt_is_worth_something(workplace: "Workplace", fill: Callable[..., None]) -> None:
    fill(workplace.channel, rows=1000)
    outcome = workplace.train(
        {**ASKED, "task": "binary", "early_stopping_rounds": 5, "num_round": 500, "eta": 0.5}
    )
    assert printed(outcome, "challenger")["auc"] > 0.9
    booster = xgb.Booster(model_file=str(outcome.model / "model.ubj"))
    assert booster.num_boosted_rounds() < 400
    assert f"fitted {booster.num_boosted_rounds()} rounds" in outcome.stdout


def test_the_baseline_counts_every_row(workplace: "Workplace", fill: Callable[..., None]) -> None:
    fill(workplace.channel, "multiclass")
    outcome = workplace.train({**ASKED, "task": "multiclass"})
    manifest = bundle_format.verify(outcome.model)
    baseline = bundle_format.read_baseline(outcome.model)
    assert [column["name"] for column in baseline["columns"]] == ["size", "kind"]
    for column in baseline["columns"]:
        assert sum(column["counts"]) + column["missing"] + column.get("other", 0) == manifest.training.rows
    size = baseline["columns"][0]
    assert size["edges"] == sorted(size["edges"])
    assert len(size["counts"]) == len(size["edges"]) + 1 == 10
    assert [scores["class"] for scores in baseline["scores"]["histograms"]] == ["low", "middle", "top"]
    for scores in baseline["scores"]["histograms"]:
        assert sum(scores["counts"]) == baseline["scores"]["rows"] == manifest.training.holdout_rows


def test_the_same_rows_give_the_same_bytes_however_they_arrive(
    make_workplace: Callable[[str], "Workplace"], make_table: Maker, write_csv: Writer, write_parquet: Writer
) -> None:
    table = make_table(600)
    one, two = make_workplace("one"), make_workplace("two")
    write_csv(one.channel / "all.csv", table)
    write_csv(two.channel / "z.csv", {name: values[400:] for name, values in table.items()})
    write_parquet(two.channel / "b.parquet", {name: values[:400] for name, values in table.items()})
    outcomes = [
        place.train({**ASKED, "task": "binary"}, SM_NUM_CPUS=str(threads))
        for place, threads in ((one, 1), (two, 2))
    ]
    for name in ("model.ubj", "golden.json", "baseline.json", "bundle.json"):
        assert (outcomes[0].model / name).read_bytes() == (outcomes[1].model / name).read_bytes(), name


def test_the_champion_is_judged_by_the_same_rows_with_its_own_preprocessing(
    make_workplace: Callable[[str], "Workplace"], fill: Callable[..., None], tmp_path: Path
) -> None:
    first, second = make_workplace("first"), make_workplace("second")
    fill(first.channel, shift=1)
    old = first.train({**ASKED, "task": "binary", "unknown_category": "refuse"})
    fill(second.channel, seed=50)
    channel = tmp_path / "champion"
    channel.mkdir()
    bundle_format.pack(old.model, channel / "model.tar.gz")
    champion = {"SM_CHANNEL_CHAMPION": str(channel)}
    dropped = second.train({"target": "y", "task": "binary", "drop": '["at"]'}, **champion)
    assert dropped.code == 0, dropped.stderr
    new = second.train({**ASKED, "task": "binary", "steps": json.dumps(STEPS[:1])}, **champion)
    assert new.code == 0, new.stderr
    manifest = bundle_format.verify(new.model)
    assert manifest.champion is not None
    assert manifest.champion.version == "ts-test--test-1"
    assert manifest.champion.digest == bundle_format.digest(old.model)
    assert printed(new, "champion") == printed(dropped, "champion") == manifest.metrics.champion
    assert set(manifest.metrics.champion or {}) == METRICS["binary"]
    # The very same bundle as challenger's judge: judged by the same rows it gets the same marks.
    same = second.train({**ASKED, "task": "binary"}, SM_CHANNEL_CHAMPION=str(new.model))
    again = second.train({**ASKED, "task": "binary"}, SM_CHANNEL_CHAMPION=str(same.model))
    assert printed(again, "champion") == printed(again, "challenger") == printed(same, "challenger")


def test_a_champion_that_needs_more_columns_cannot_be_judged(
    workplace: "Workplace", make_table: Maker, write_csv: Writer
) -> None:
    table = make_table(400)
    write_csv(workplace.channel / "a.csv", table)
    old = workplace.train({**ASKED, "task": "binary"}).model.rename(workplace.root / "champion")
    write_csv(workplace.channel / "a.csv", {name: table[name] for name in ("size", "kind", "y")})
    outcome = workplace.train({"target": "y", "task": "binary"}, SM_CHANNEL_CHAMPION=str(old))
    assert (
        outcome.failure == "TrainingError: the champion cannot read the held-out rows: column 'at': missing"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "neither model.tar.gz nor bundle.json"), (b"junk", "model.tar.gz: cannot be unpacked")],
)
def test_a_champion_that_cannot_be_read_is_an_error(
    workplace: "Workplace", fill: Callable[..., None], content: bytes | None, reason: str
) -> None:
    fill(workplace.channel)
    channel = workplace.root / "champion"
    channel.mkdir()
    if content is not None:
        (channel / "model.tar.gz").write_bytes(content)
    outcome = workplace.train({**ASKED, "task": "binary"}, SM_CHANNEL_CHAMPION=str(channel))
    assert outcome.code == 1
    assert outcome.failure is not None
    assert outcome.failure.startswith("TrainingError: the champion cannot be read: ")
    assert reason in outcome.failure


def test_a_validation_channel_judges_instead_of_held_out_rows(
    workplace: "Workplace", fill: Callable[..., None]
) -> None:
    fill(workplace.channel)
    validation = workplace.root / "validation"
    fill(validation, rows=100, seed=9)
    outcome = workplace.train({**ASKED, "task": "binary"}, SM_CHANNEL_VALIDATION=str(validation))
    manifest = bundle_format.verify(outcome.model)
    assert (manifest.training.rows, manifest.training.holdout_rows) == (800, 200)
    (validation / "bad.csv").write_text("")
    assert workplace.train({**ASKED, "task": "binary"}, SM_CHANNEL_VALIDATION=str(validation)).refused == {
        "validation/bad.csv": "empty"
    }


def test_bad_files_are_told_on_the_last_line_and_in_the_failure_file(
    workplace: "Workplace", fill: Callable[..., None]
) -> None:
    fill(workplace.channel)
    (workplace.channel / "v1").mkdir()
    (workplace.channel / "v1" / "empty.csv").write_text("")
    (workplace.channel / "text.csv").write_text("size,kind,at,y\nbig,a,2024-01-01,1\n")
    outcome = workplace.train({**ASKED, "task": "binary"})
    assert outcome.code == 1
    assert outcome.stderr.splitlines()[-1] == outcome.failure
    assert outcome.refused == {
        "text.csv": "line 2: column 'size': 'big' is not a number",
        "v1/empty.csv": "empty",
    }
    assert not outcome.model.exists()


def test_what_no_file_is_to_blame_for_is_a_training_error(
    workplace: "Workplace", fill: Callable[..., None]
) -> None:
    fill(workplace.channel)
    wrong = [{"op": "clip", "column": "width", "min": 0}]
    outcome = workplace.train({**ASKED, "task": "binary", "steps": json.dumps([*STEPS, *wrong])})
    assert outcome.code == 1
    assert outcome.failure is not None
    assert outcome.failure.startswith(
        "TrainingError: steps[3]: clip: unknown column 'width'; there are size, kind"
    )
    assert outcome.stderr.splitlines()[-1] == outcome.failure


def test_a_stopped_run_saves_a_checkpoint_and_goes_on_from_it(
    workplace: "Workplace", fill: Callable[..., None]
) -> None:
    fill(workplace.channel)
    asked = {**ASKED, "task": "binary", "num_round": 3000}
    checkpoints = {"SM_CHECKPOINT_DIR": str(workplace.root / "checkpoints")}
    command = [sys.executable, str(Path(__file__).parents[2] / "training" / "train.py")]
    with subprocess.Popen(
        command, env=workplace.environment(asked, **checkpoints), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round 20 "):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert "checkpoint after" in rest
    assert not (workplace.root / "output" / "failure").exists()
    started = time.monotonic()
    outcome = workplace.train(asked, **checkpoints)
    assert time.monotonic() - started < 50
    assert outcome.code == 0, outcome.stderr
    assert int(re.findall(r"resumed after (\d+) rounds", outcome.stdout)[0]) >= 20
    assert golden_differences(outcome.model).max() <= bundle_format.GOLDEN_TOLERANCE


def test_the_reason_is_kept_on_s3_where_a_toolkit_overwrites_the_failure_file(
    workplace: "Workplace", fill: Callable[..., None]
) -> None:
    """Stand-ins for the toolkit and boto3, which are part of SageMaker's image."""
    fill(workplace.channel)
    (workplace.channel / "empty.csv").write_text("")
    modules = workplace.root / "modules"
    modules.mkdir()
    (modules / "sagemaker_containers.py").touch()
    (modules / "boto3.py").write_text(
        "from pathlib import Path\n"
        "class client:\n"
        "    def __init__(self, service): pass\n"
        "    def put_object(self, Bucket, Key, Body):\n"
        "        Path('kept').write_bytes(f'{Bucket}/{Key}: '.encode() + Body)\n"
    )
    asked = {**ASKED, "task": "binary", "output_uri": "s3://artifacts/training/test"}
    outcome = workplace.train(asked, PYTHONPATH=str(modules))
    assert outcome.refused == {"empty.csv": "empty"}
    kept = (workplace.root / "kept").read_text()
    assert kept == f"artifacts/training/test/ts-test--test-1/output/failure: {outcome.failure}"
    (modules / "boto3.py").write_text("")
    outcome = workplace.train(asked, PYTHONPATH=str(modules))
    assert "could not be kept" in outcome.stderr
    assert outcome.stderr.splitlines()[-1] == outcome.failure
