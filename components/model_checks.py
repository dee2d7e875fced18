"""What the settings of one model must satisfy together."""

import unicodedata
from collections.abc import Iterator
from typing import Final

from components.settings import MAX_HYPERPARAMETER_LENGTH, Model, Settings
from components.steps import Clip, Step, TimestampParts, declaration
from components.training import METRICS, hyperparameters

_UNSEEN: Final = frozenset({"Cc", "Zl", "Zp"})
"""Unicode's categories of control characters and of ends of lines and paragraphs."""

_OWN_HYPERPARAMETERS: Final = frozenset(
    {
        "model",
        "target",
        "task",
        "steps",
        "drop",
        "categorical",
        "unknown_category",
        "metric",
        "holdout_fraction",
    }
    | {"dataset_hash", "manifest_uri", "job_name", "sagemaker_program", "sagemaker_submit_directory"}
)


def problems(settings: Settings) -> list[str]:
    """Everything that is wrong, as sentences that name the keys."""
    return [
        *(line for name, model in settings.models.items() for line in _model(name, model)),
        *_metrics(settings),
    ]


def _model(name: str, model: Model) -> Iterator[str]:
    place = f"trainserve:models.{name}"
    for key, columns in (("drop", model.drop), ("categorical", model.categorical or ())):
        if len(set(columns)) != len(columns):
            yield f"{place}.{key}: want each column once, got {', '.join(columns)}"
    if model.target in model.drop:
        yield f"{place}.drop: the target {model.target} cannot be dropped"
    for column in sorted(set(model.categorical or ()) & {*model.drop, model.target}):
        yield f"{place}.categorical: {column} is the target or dropped, so it is no feature"
    yield from _steps(place, model)
    yield from _printable(place, model)
    for key in sorted(set(model.hyperparameters) & _OWN_HYPERPARAMETERS):
        yield f"{place}.hyperparameters.{key}: the program sets this one itself"
    for key, value in hyperparameters(name, model).items():
        if len(value) > MAX_HYPERPARAMETER_LENGTH:
            where = f"hyperparameters.{key}" if key in model.hyperparameters else key
            yield (
                f"{place}.{where}: want at most {MAX_HYPERPARAMETER_LENGTH} characters as JSON "
                f"(SageMaker's limit on a hyperparameter), got {len(value)}"
            )


def _printable(place: str, model: Model) -> Iterator[str]:
    """A control character in a column's name is a slip that nobody sees, and no column has such a name."""
    used = {
        "target": {model.target},
        "drop": set(model.drop),
        "categorical": set(model.categorical or ()),
        **{f"steps[{index}]": _columns(step) for index, step in enumerate(model.steps)},
    }
    for key, columns in used.items():
        for column in sorted(columns):
            if any(unicodedata.category(character) in _UNSEEN for character in column):
                yield f"{place}.{key}: want a column's name without control characters, got {column!a}"


def _metrics(settings: Settings) -> Iterator[str]:
    """A training image of one's own may have other metrics."""
    for name, model in settings.models.items():
        known = METRICS[model.task]
        if settings.training.image is None and model.metric is not None and model.metric not in known:
            yield (
                f"trainserve:models.{name}.metric: want one of {', '.join(known)} where task is "
                f"{model.task}, got {model.metric}"
            )


def _steps(place: str, model: Model) -> Iterator[str]:
    for index, step in enumerate(model.steps):
        used = _columns(step)
        if model.target in used:
            yield f"{place}.steps[{index}]: the target {model.target} is known only after the fact"
        yield from _step(f"{place}.steps[{index}]", step)
        for column in sorted(used & set(model.drop)):
            yield f"{place}.steps[{index}]: {column} is dropped, so no step can use it"


def _step(place: str, step: Step) -> Iterator[str]:
    if isinstance(step, Clip):
        if step.min is None and step.max is None:
            yield f"{place}: want min, max or both: without them, clip does nothing"
        elif step.min is not None and step.max is not None and step.min > step.max:
            yield f"{place}.min: want at most max ({step.max:g}), got {step.min:g}"
    if isinstance(step, TimestampParts) and len(set(step.parts)) != len(step.parts):
        yield f"{place}.parts: want each part once, got {', '.join(step.parts)}"


def _columns(step: Step) -> set[str]:
    """The columns that a step reads or makes."""
    found = declaration(step)
    return {str(found[key]) for key in ("column", "by", "minus", "output") if key in found}
