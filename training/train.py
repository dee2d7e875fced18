"""Train a model and write its bundle: SageMaker's script mode, and the same everywhere else.

Reads CSV and Parquet files of the channel `train`, holds rows out, fits XGBoost, judges the new model and the
one in service (channel `champion`) by the same rows, and writes `model.ubj`, `bundle.json`, `baseline.json`
and `golden.json`. What to learn is said by hyperparameters: see `configuration`.
"""

import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from baseline import describe_baseline, golden_rows
from bundle import format as bundle_format
from bundle.format import BundleError, Champion, Column, Feature, Manifest, Metric, Metrics, Training
from bundle.preprocess import Preprocessor, features_of
from configuration import GREATER_IS_BETTER, Hyperparameters, Run, from_environment
from dataset import Data, DataSet, describe_columns, load
from errors import DataRefused, Stopped, TrainingError, shorten
from evaluation import check_champion, evaluate, judge, lenient, load_champion, predict
from failure import fail
from fitting import Job, Rows, fit, parameters
from holdout import held_out, stopping

# Of the rows trained on, those that early stopping watches instead: the held-out ones only judge.
_STOPPING_FRACTION = 0.1
_TERMINATED = 128 + signal.SIGTERM


def run(asked: Run, stop: Callable[[], bool]) -> Manifest:
    """Do one training run and return what was written to the model's directory."""
    wanted = asked.hyperparameters
    champion = load_champion(asked.champion) if asked.champion else None
    if champion:
        check_champion(champion.manifest, wanted)
        print(f"champion: {champion.manifest.version}", flush=True)
    data = load(asked.train, asked.validation, wanted, champion.manifest if champion else None)
    train, held = split(data, wanted)
    print(f"rows: {len(train)} to train on, {len(held)} held out, of {len(data.files)} files", flush=True)
    columns = describe_columns(data.types, train, wanted)
    features = choose_features(columns, wanted)
    described = _describe(asked, data, columns, features, (len(train), len(held)))
    booster = fit(_job(train, described, wanted), asked.threads, asked.checkpoints, stop)
    print(f"fitted {booster.num_boosted_rounds()} rounds", flush=True)
    asked.model.mkdir(parents=True, exist_ok=True)
    path = asked.model / bundle_format.MODEL
    booster.save_model(str(path))
    # From here on the saved model speaks, as it will in the server.
    saved = xgb.Booster({"nthread": asked.threads}, model_file=str(path))
    predictions = predict(saved, lenient(described).transform(held.raw))
    metrics = Metrics(
        challenger=evaluate(wanted.task, held.target, predictions),
        champion=judge(champion, held, "champion") if champion else None,
    )
    judged = replace(
        described,
        metrics=metrics,
        champion=Champion(version=champion.manifest.version, digest=champion.digest) if champion else None,
    )
    histograms = describe_baseline(columns, train, predictions, data.classes or ())
    (asked.model / bundle_format.BASELINE).write_bytes(bundle_format.canonical(histograms))
    _write_golden(asked.model, judged, saved, held)
    written = bundle_format.write(asked.model, judged)
    bundle_format.verify(asked.model)
    _report(asked, written, data)
    return written


def split(data: DataSet, asked: Hyperparameters) -> tuple[Data, Data]:
    """Return the rows to train on and those to judge by."""
    if data.validation is not None:
        return data.train, data.validation
    held = held_out(data.train.hashes, asked.holdout_fraction)
    train, judged = data.train.take(~held), data.train.take(held)
    if not len(train) or not len(judged):
        raise TrainingError(f"{len(data.train)} rows: too few to hold some out and train on the others")
    if data.classes and len(np.unique(train.target)) < 2:
        raise TrainingError("the rows to train on hold one class only: more rows are needed")
    return train, judged


def choose_features(columns: list[Column], asked: Hyperparameters) -> tuple[Feature, ...]:
    """Return what the model takes: all that is there after the steps, or what the settings name."""
    there = {feature.name: feature for feature in features_of(columns, asked.steps)}
    if asked.target in there:
        raise TrainingError(f"a step makes a column {asked.target!r}, the name of the target")
    if asked.features is None:
        return tuple(there.values())
    for name in asked.features:
        if name not in there:
            raise TrainingError(
                f"hyperparameter features: no column {name!r} after the steps: {', '.join(there)}"
            )
    return tuple(there[name] for name in asked.features)


def _describe(
    asked: Run, data: DataSet, columns: list[Column], features: tuple[Feature, ...], rows: tuple[int, int]
) -> Manifest:
    """Return the manifest of a model that is still to be fitted and judged."""
    wanted = asked.hyperparameters
    return Manifest(
        name=wanted.model,
        version=asked.job,
        task=wanted.task,
        objective=wanted.objective,
        target=wanted.target,
        classes=data.classes,
        columns=tuple(columns),
        steps=wanted.steps,
        features=features,
        primary_metric=Metric(name=wanted.metric, greater_is_better=wanted.metric in GREATER_IS_BETTER),
        metrics=Metrics(challenger={}),
        champion=None,
        training=Training(
            job=asked.job,
            dataset_hash=asked.dataset_hash,
            manifest_uri=asked.manifest_uri,
            rows=rows[0],
            holdout_rows=rows[1],
        ),
        libraries={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "xgboost": xgb.__version__,
        },
    )


def _job(train: Data, described: Manifest, wanted: Hyperparameters) -> Job:
    rows = Rows(matrix=lenient(described).transform(train.raw), target=train.target)
    watched = None
    if wanted.early_stopping_rounds:
        kept = stopping(train.hashes, _STOPPING_FRACTION)
        watched, rows = _rows(rows, kept), _rows(rows, ~kept)
        for part in (watched, rows):
            if not len(part.target) or (described.classes and len(np.unique(part.target)) < 2):
                raise TrainingError("early_stopping_rounds: too few rows to set some apart for stopping")
    return Job(
        train=rows,
        stopping=watched,
        types=tuple("c" if feature.type == "categorical" else "q" for feature in described.features),
        parameters=parameters(wanted, len(described.classes or ())),
        metric=wanted.metric,
        rounds=wanted.num_round,
        patience=wanted.early_stopping_rounds,
    )


def _rows(rows: Rows, chosen: NDArray[np.bool_]) -> Rows:
    return Rows(matrix=rows.matrix[chosen], target=rows.target[chosen])


def _write_golden(directory: Path, manifest: Manifest, saved: xgb.Booster, held: Data) -> None:
    rows = golden_rows(manifest.columns, held)
    predictions = predict(saved, Preprocessor.of(manifest).transform_rows(rows)).tolist()
    names = [column.name for column in manifest.columns]
    document = {"columns": names, "rows": rows, "predictions": predictions}
    (directory / bundle_format.GOLDEN).write_bytes(bundle_format.canonical(document))


def _report(asked: Run, written: Manifest, data: DataSet) -> None:
    """Print the metrics as SageMaker's metric definitions read them, one a line."""
    for who, metrics in (("challenger", written.metrics.challenger), ("champion", written.metrics.champion)):
        for name, value in (metrics or {}).items():
            print(f"{who}_{name}={value!r};", flush=True)
    if asked.output_data:
        asked.output_data.mkdir(parents=True, exist_ok=True)
        report = {"files": dict(data.files), "metrics": vars(written.metrics)}
        (asked.output_data / "evaluation.json").write_bytes(bundle_format.canonical(report))


def main() -> int:
    """Return the process's exit code: 0, 1 for a failure, 143 if told to stop."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    try:
        run(from_environment(os.environ, sys.argv[1:]), lambda: bool(told))
    except DataRefused as refused:
        return fail(os.environ, f"DataRefused: {refused}")
    except (TrainingError, BundleError) as error:
        return fail(os.environ, f"TrainingError: {shorten(str(error), 900)}")
    except Stopped as stopped:
        print(stopped, flush=True)
        return _TERMINATED
    except Exception as error:  # noqa: BLE001 - whatever it is, SageMaker must hear of it
        traceback.print_exc()
        return fail(os.environ, f"TrainingError: {type(error).__name__}: {shorten(str(error), 850)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
