"""Random models that are valid, and how the fields of any section are drawn."""

from collections.abc import Collection
from typing import Any

from hypothesis import strategies as st

from components import settings as s
from components import steps as columns
from components.section import Section
from components.training import METRICS

TARGET = "late"
"""What the data of the first trainings is about."""

LETTERS = st.characters(exclude_categories=["C", "Z"], exclude_characters=',"')


def section(
    model: type[Section], always: Collection[str] = (), **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a section, exactly the model's: each there or left out, but for those that another needs."""
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    assert fields.keys() == known.keys(), (model.__name__, fields.keys() ^ known.keys())
    needed = {name for name, field in known.items() if field.is_required()} | {*always}
    return st.fixed_dictionaries(
        {name: fields[name] for name in sorted(needed)},
        optional={name: fields[name] for name in fields if name not in needed},
    )


def chosen(values: list[Any], low: int = 0, high: int | None = None) -> st.SearchStrategy[list[Any]]:
    """Some of these, each once."""
    return st.lists(st.sampled_from(values), min_size=low, max_size=high or len(values), unique=True)


def steps(free: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    column, number = st.sampled_from(free), st.integers(-9, 9) | st.floats(-9, 9, allow_nan=False)
    given = column | st.none()
    value = number | st.text(LETTERS, max_size=5)
    parts = ["year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"]
    kinds = [
        section(columns.TimestampParts, op=st.just("timestamp_parts"), column=column, parts=chosen(parts, 1)),
        section(columns.Log1p, op=st.just("log1p"), column=column, output=given),
        section(
            columns.Clip,
            ("max",),
            op=st.just("clip"),
            column=column,
            min=st.integers(-9, 0) | st.none(),
            max=st.integers(1, 9),
            output=given,
        ),
        section(columns.Ratio, op=st.just("ratio"), column=column, by=column, output=column),
        section(columns.Difference, op=st.just("difference"), column=column, minus=column, output=column),
        section(
            columns.Map,
            op=st.just("map"),
            column=column,
            values=st.dictionaries(st.text(LETTERS, max_size=5), value, min_size=1, max_size=3),
            default=value | st.none(),
            output=given,
        ),
        section(columns.Default, op=st.just("default"), column=column, value=value, output=given),
    ]
    return st.lists(st.one_of(kinds), max_size=3)


@st.composite
def models(draw: st.DrawFn, first: bool, tuned: bool) -> dict[str, Any]:
    """A model; with data for its first training, its target is that data's. `tuned`: jobs search."""
    pool = draw(st.lists(st.text(LETTERS, min_size=1, max_size=15), min_size=4, max_size=8, unique=True))
    target, *others = [TARGET, *pool] if first else pool
    others = [other for other in others if other != target]
    dropped, free = others[:1], others[1:]
    task = draw(st.sampled_from(sorted(METRICS)))
    # A tuning job can search only by what SageMaker's image reports.
    metrics = [metric for metric in METRICS[task] if not (tuned and metric == "brier")]
    return draw(
        section(
            s.Model,
            target=st.just(target),
            task=st.just(task),
            drop=chosen(dropped),
            categorical=chosen(free) | st.none(),
            unknownCategory=st.sampled_from(["missing", "refuse"]),
            steps=steps(free),
            metric=st.sampled_from(metrics) | st.none(),
            holdoutFraction=st.floats(0.01, 0.89),
            hyperparameters=st.dictionaries(
                st.sampled_from(["eta", "max_depth", "num_round", "tree_method", "nthread", "x_1"]),
                st.integers(0, 9) | st.floats(0, 1) | st.booleans() | st.sampled_from(["hist", "é"]),
            ),
            gateMargin=st.floats(0, 2) | st.just(0),
        )
    )
