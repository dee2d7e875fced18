"""MLflow's data frames and `inputs` on /invocations."""

import json
from typing import Any

import numpy as np
import pytest

from tests.serving.serving_support import Answer, Client, Made

NAMES = ["delay", "distance", "hour"]


def post(client: Client, document: Any) -> Answer:
    return client.ask("POST", "/invocations", json.dumps(document).encode(), "application/json")


def test_data_frames(client: Client, plain: Made) -> None:
    rows = plain.rows[:30]
    backwards = {
        "index": list(range(30)),
        "columns": NAMES[::-1],
        "data": [row[::-1] for row in rows],
    }
    for document in (
        {"instances": rows},
        {"dataframe_split": {"data": rows}},
        {"dataframe_split": backwards, "params": {}},
        {"inputs": rows},
        {"inputs": {name: [row[at] for row in rows] for at, name in enumerate(NAMES)}},
        {"inputs": {name: [[row[at]] for row in rows] for at, name in enumerate(NAMES)}, "params": {}},
        {"dataframe_records": [dict(zip(NAMES, row, strict=True)) for row in rows]},
    ):
        answer = post(client, document)
        assert answer.status == 200, answer.body
        np.testing.assert_allclose(answer.json["predictions"], plain.expected[:30], rtol=0, atol=1e-6)


def test_categories_and_times(mixed_client: Client, mixed: Made) -> None:
    names = ["carrier", "origin", "distance", "when"]
    document = {"dataframe_split": {"columns": names, "data": mixed.rows[:50]}}
    predictions = post(mixed_client, document).json["predictions"]
    np.testing.assert_allclose(predictions, mixed.expected[:50], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"dataframe_split": []}, "dataframe_split: want an object with 'columns' and 'data'"),
        ({"dataframe_split": {}}, "dataframe_split: want an array of rows"),
        ({"dataframe_split": {"data": []}}, "dataframe_split: there are no rows"),
        ({"dataframe_split": {"rows": []}}, "unknown field 'rows'"),
        ({"dataframe_split": {"columns": "abc", "data": [[1]]}}, "want an array of names"),
        ({"dataframe_split": {"columns": ["hour", "hour"], "data": [[1, 2]]}}, "a name comes twice"),
        ({"dataframe_split": {"columns": NAMES, "data": [[1, 2, 3], [1]]}}, "row 2: want 3 values, got 1"),
        ({"dataframe_split": {"columns": NAMES, "data": [1]}}, "row 1: want an array"),
        ({"dataframe_split": {"columns": NAMES[:2], "data": [[1, 2]]}}, "column 'hour': is absent"),
        ({"dataframe_split": {"columns": [*NAMES, "x"], "data": [[1, 2, 3, 4]]}}, "unknown field 'x'"),
        ({"dataframe_split": {"data": [[1, 2, "3"]]}}, "the text '3' where a number is wanted"),
        ({"dataframe_records": {"hour": [1]}}, "dataframe_records: want an array of rows"),
        ({"dataframe_records": [], "instances": []}, "unknown field 'instances' beside 'dataframe_records'"),
        ({"inputs": {}}, "inputs: there are no rows"),
        ({"inputs": []}, "inputs: there are no rows"),
        ({"inputs": 7}, "inputs: want an array of rows"),
        ({"inputs": {"hour": 7}}, "column 'hour': inputs: want an array of values"),
        ({"inputs": {"hour": [7], "delay": []}}, "column 'delay': inputs: the columns have different"),
        ({"inputs": {"hour": [7], "delay": [1]}}, "column 'distance': is absent"),
        ({"inputs": {"hour": [[7, 8]], "delay": [1], "distance": [2]}}, "is not a number"),
        ({"inputs": {"x": [7], "hour": [7], "delay": [1], "distance": [2]}}, "unknown field 'x'"),
        ({"inputs": [[1, 2, 3]], "instances": [[1, 2, 3]]}, "unknown field 'instances' beside 'inputs'"),
        ({"dataframe_records": [[1, 2, 3]], "params": {"a": 1}}, "unknown field 'params'"),
    ],
)
def test_a_data_frame_that_is_refused(client: Client, document: Any, reason: str) -> None:
    answer = post(client, document)
    assert answer.status == 400
    assert reason in answer.error
