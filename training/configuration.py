"""What a run is asked to do: hyperparameters and SageMaker's environment, checked before any work."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from bundle import format as bundle_format
from bundle.format import Task
from errors import TrainingError

METRICS: Final[Mapping[Task, tuple[str, ...]]] = {
    "binary": ("auc", "logloss", "accuracy", "brier"),
    "multiclass": ("mlogloss", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}
"""The metrics of each task; the first is the default for comparing models."""
GREATER_IS_BETTER: Final = frozenset({"auc", "accuracy", "r2"})

OBJECTIVES: Final[Mapping[Task, tuple[str, ...]]] = {
    "binary": ("binary:logistic",),
    "multiclass": ("multi:softprob",),
    "regression": (
        "reg:squarederror",
        "reg:squaredlogerror",
        "reg:absoluteerror",
        "reg:pseudohubererror",
        "reg:gamma",
        "reg:tweedie",
        "count:poisson",
    ),
}
# fmt: off
XGBOOST_NUMBERS: Final = frozenset({
    "alpha", "colsample_bylevel", "colsample_bynode", "colsample_bytree", "eta", "gamma",
    "huber_slope", "lambda", "learning_rate", "max_bin", "max_cat_threshold", "max_cat_to_onehot",
    "max_delta_step", "max_depth", "max_leaves", "min_child_weight", "min_split_loss",
    "num_parallel_tree", "reg_alpha", "reg_lambda", "scale_pos_weight", "seed", "subsample",
    "tweedie_variance_power",
})
# fmt: on
XGBOOST_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "tree_method": ("hist", "approx"),
    "grow_policy": ("depthwise", "lossguide"),
    "sampling_method": ("uniform",),
}
# SageMaker's own (sagemaker_program …) arrive among the hyperparameters.
_FOREIGN: Final = "sagemaker_"


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What the model's owner decides; `xgboost` are parameters passed on by name."""

    model: str
    target: str
    task: Task
    objective: str
    metric: str
    steps: tuple[Mapping[str, Any], ...] = ()
    drop: frozenset[str] = frozenset()
    categorical: frozenset[str] | None = None
    features: tuple[str, ...] | None = None
    unknown_category: str = "missing"
    holdout_fraction: float = 0.2
    num_round: int = 100
    early_stopping_rounds: int | None = None
    xgboost: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where one run reads and writes, and what it is called."""

    train: Path
    validation: Path | None
    champion: Path | None
    model: Path
    output: Path
    output_data: Path | None
    checkpoints: Path | None
    threads: int
    job: str
    dataset_hash: str
    manifest_uri: str | None
    hyperparameters: Hyperparameters


def from_environment(environment: Mapping[str, str], arguments: Sequence[str]) -> Run:
    """Return what to do, from SageMaker's variables (or `--key value` where there is no SM_HPS)."""
    given = _Given(_hyperparameters(environment, arguments))
    train = environment.get("SM_CHANNEL_TRAIN")
    if not train or not Path(train).is_dir():
        raise TrainingError(f"SM_CHANNEL_TRAIN: want a directory of data, got {train!r}")
    checkpoints = Path(environment.get("SM_CHECKPOINT_DIR", "/opt/ml/checkpoints"))
    run = Run(
        train=Path(train),
        validation=_directory(environment, "SM_CHANNEL_VALIDATION"),
        champion=_directory(environment, "SM_CHANNEL_CHAMPION"),
        model=Path(environment.get("SM_MODEL_DIR", "/opt/ml/model")),
        output=output_directory(environment),
        output_data=_path(environment, "SM_OUTPUT_DATA_DIR"),
        checkpoints=checkpoints if checkpoints.is_dir() or "SM_CHECKPOINT_DIR" in environment else None,
        threads=_threads(environment),
        job=given.matching("job_name", bundle_format.VERSION, job_name(environment)),
        dataset_hash=given.text("dataset_hash", ""),
        manifest_uri=given.text("manifest_uri", "") or None,
        hyperparameters=_read(given),
    )
    given.text("output_uri", "")  # what `failure` writes to
    given.refuse_unknown()
    return run


def output_directory(environment: Mapping[str, str]) -> Path:
    """Return where SageMaker looks for the file `failure`."""
    return Path(environment.get("SM_OUTPUT_DIR", "/opt/ml/output"))


def _read(given: "_Given") -> Hyperparameters:
    task = cast("Task", given.choice("task", tuple(METRICS)))
    categorical, features = given.names("categorical"), given.names("features")
    early = given.integer("early_stopping_rounds", 0, low=0)
    result = Hyperparameters(
        model=given.matching("model", bundle_format.NAME, "model"),
        target=given.text("target"),
        task=task,
        objective=given.choice("objective", OBJECTIVES[task], OBJECTIVES[task][0]),
        metric=given.choice("metric", METRICS[task], METRICS[task][0]),
        steps=given.steps(),
        drop=frozenset(given.names("drop") or ()),
        categorical=None if categorical is None else frozenset(categorical),
        features=features,
        unknown_category=given.choice("unknown_category", ("missing", "refuse"), "missing"),
        holdout_fraction=given.number("holdout_fraction", 0.2, low=0.001, high=0.9),
        num_round=given.integer("num_round", 100, low=1),
        early_stopping_rounds=early or None,
        xgboost=given.xgboost(),
    )
    if result.target in result.drop | (result.categorical or frozenset()):
        raise TrainingError(f"target: {result.target!r} is also named in drop or categorical")
    return result


class _Given:
    """Hyperparameters as they came: each is asked for once, and what is left over is refused."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = {key: value for key, value in values.items() if not key.startswith(_FOREIGN)}
        self.known: set[str] = set()

    def refuse_unknown(self) -> None:
        if unknown := sorted(set(self.values) - self.known):
            known = ", ".join(sorted(self.known))
            raise TrainingError(f"hyperparameter {unknown[0]!r} is unknown; known are {known}")

    def get(self, key: str, default: object = None) -> Any:  # noqa: ANN401 - whatever the JSON holds
        self.known.add(key)
        value = self.values.get(key)
        return default if value is None else value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.get(key, default)
        if value is None or (value == "" and default is None):
            raise TrainingError(f"hyperparameter {key}: missing")
        return str(value)

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise TrainingError(f"hyperparameter {key}: want one of {', '.join(allowed)}, got {value!r}")
        return value

    def matching(self, key: str, pattern: re.Pattern[str], default: str) -> str:
        value = self.text(key, default)
        if not pattern.fullmatch(value):
            raise TrainingError(f"hyperparameter {key}: {value!r:.80} does not match {pattern.pattern}")
        return value

    def number(self, key: str, default: float, *, low: float, high: float = float("inf")) -> float:
        value = self.get(key, default)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not low <= number <= high or isinstance(value, bool):
            raise TrainingError(
                f"hyperparameter {key}: want a number from {low:g} to {high:g}, got {value!r:.80}"
            )
        return number

    def integer(self, key: str, default: int, *, low: int) -> int:
        number = self.number(key, default, low=low, high=1e6)
        if number != int(number):
            raise TrainingError(f"hyperparameter {key}: want a whole number, got {number}")
        return int(number)

    def json(self, key: str) -> Any:  # noqa: ANN401 - whatever the JSON holds
        value = self.get(key)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            raise TrainingError(f"hyperparameter {key}: not JSON: {error}") from error

    def names(self, key: str) -> tuple[str, ...] | None:
        value = self.json(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(
            isinstance(name, str) for name in cast("list[object]", value)
        ):
            raise TrainingError(f"hyperparameter {key}: want a JSON list of column names, got {value!r:.80}")
        return tuple(cast("list[str]", value))

    def steps(self) -> tuple[Mapping[str, Any], ...]:
        value = self.json("steps") or []
        if not isinstance(value, list) or not all(
            isinstance(step, dict) for step in cast("list[object]", value)
        ):
            raise TrainingError(f"hyperparameter steps: want a JSON list of objects, got {value!r:.80}")
        return tuple(cast("list[dict[str, Any]]", value))

    def xgboost(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.known |= XGBOOST_NUMBERS | set(XGBOOST_CHOICES)
        for key in sorted(XGBOOST_NUMBERS & set(self.values)):
            number = self.number(key, 0, low=0, high=1e9)
            found[key] = int(number) if number == int(number) else number
        for key in sorted(set(XGBOOST_CHOICES) & set(self.values)):
            found[key] = self.choice(key, XGBOOST_CHOICES[key])
        return found


def _hyperparameters(environment: Mapping[str, str], arguments: Sequence[str]) -> dict[str, Any]:
    text = environment.get("SM_HPS")
    if text is None:
        return _arguments(arguments)
    try:
        values = json.loads(text)
    except ValueError as error:
        raise TrainingError(f"SM_HPS: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise TrainingError("SM_HPS: want a JSON object")
    return cast("dict[str, Any]", values)


def _arguments(arguments: Sequence[str]) -> dict[str, Any]:
    names, values = arguments[::2], arguments[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise TrainingError(f"want --key value pairs, got {' '.join(arguments)}")
    return {name[2:].replace("-", "_"): value for name, value in zip(names, values, strict=True)}


def _path(environment: Mapping[str, str], key: str) -> Path | None:
    value = environment.get(key)
    return Path(value) if value else None


def _directory(environment: Mapping[str, str], key: str) -> Path | None:
    path = _path(environment, key)
    if path is not None and not path.is_dir():
        raise TrainingError(f"{key}: {path} is not a directory")
    return path


def _threads(environment: Mapping[str, str]) -> int:
    given = environment.get("SM_NUM_CPUS", "")
    return int(given) if given.isdigit() and int(given) > 0 else len(os.sched_getaffinity(0))


def job_name(environment: Mapping[str, str]) -> str:
    """Return the training job's name, `local` outside SageMaker."""
    name = environment.get("TRAINING_JOB_NAME")
    if not name:
        try:
            name = json.loads(environment.get("SM_TRAINING_ENV", "{}")).get("job_name")
        except (ValueError, AttributeError):
            name = None
    return name or "local"
