"""Predictions in every format, and refusals that say where the request is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.serving_support import MIXED, NUMBERS, Client, Made, Served, csv_body, make_bundle, request

GOOD = "1.5,200,7"


def as_objects(rows: list[list[Any]], columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip([column.name for column in columns], row, strict=True)) for row in rows]


def numbers(body: bytes) -> list[float]:
    return [float(line) for line in body.decode().splitlines()]


@pytest.mark.parametrize("count", [1, 2, 300])
def test_csv_answers_what_xgboost_says(client: Client, plain: Made, count: int) -> None:
    answer = client.ask("POST", "/invocations", csv_body(plain.rows[:count]), "text/csv")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv"
    np.testing.assert_allclose(numbers(answer.body), plain.expected[:count], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", ["objects", "arrays", "bare objects", "bare arrays"])
def test_json_answers_what_xgboost_says(client: Client, plain: Made, shape: str) -> None:
    instances: Any = as_objects(plain.rows, NUMBERS) if "objects" in shape else plain.rows
    document = instances if "bare" in shape else {"instances": instances}
    answer = client.ask("POST", "/invocations", json.dumps(document).encode(), "application/json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    np.testing.assert_allclose(answer.json["predictions"], plain.expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("content_type", ["text/csv", "application/json"])
def test_pre_processing_is_that_of_training(mixed_client: Client, mixed: Made, content_type: str) -> None:
    body = (
        csv_body(mixed.rows)
        if content_type == "text/csv"
        else json.dumps({"instances": as_objects(mixed.rows, MIXED)}).encode()
    )
    answer = mixed_client.ask("POST", "/invocations", body, content_type)
    found = numbers(answer.body) if content_type == "text/csv" else answer.json["predictions"]
    np.testing.assert_allclose(found, mixed.expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks(tmp_path: Path, serve: Any, task: Any) -> None:
    made = make_bundle(tmp_path / "bundle", task)
    served = serve(made.directory)
    served.wait_for("ready")
    with Client(served.port) as client:
        for rows in (made.rows[:1], made.rows):
            answer = client.ask("POST", "/invocations", csv_body(rows), "text/csv")
            found = [[float(part) for part in line.split(",")] for line in answer.body.decode().splitlines()]
            expected = made.expected[: len(rows)].reshape(len(rows), -1)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
            answer = client.ask(
                "POST", "/invocations", json.dumps({"instances": rows}).encode(), "application/json"
            )
            np.testing.assert_allclose(
                answer.json["predictions"], made.expected[: len(rows)], rtol=1e-6, atol=1e-6
            )


def test_accept_chooses_the_answer(client: Client) -> None:
    answer = client.ask("POST", "/invocations", GOOD.encode(), "text/csv", Accept="application/json")
    assert len(answer.json["predictions"]) == 1
    body = b'{"instances":[[1.5,200,7]]}'
    answer = client.ask("POST", "/invocations", body, "application/json; charset=UTF-8", Accept="text/csv")
    assert numbers(answer.body)
    answer = client.ask("POST", "/invocations", GOOD.encode(), "text/csv", Accept="*/*")
    assert answer.headers["content-type"] == "text/csv"


@pytest.mark.parametrize(
    "text", [GOOD, GOOD + "\n", GOOD + "\r\n", "1.5, 200 ,7", '"1.5",200,7', "\ufeff" + GOOD, "1.5,2e2,07"]
)
def test_spellings_of_the_same_row(client: Client, text: str) -> None:
    wanted = client.ask("POST", "/invocations", GOOD.encode(), "text/csv")
    assert client.ask("POST", "/invocations", text.encode(), "text/csv").body == wanted.body


@pytest.mark.parametrize("text", ["NaN", "nan", "NA", "null", " "])
def test_missing_in_csv(client: Client, text: str) -> None:
    wanted = client.ask("POST", "/invocations", b"1.5,,7", "text/csv")
    assert wanted.status == 200
    assert client.ask("POST", "/invocations", f"1.5,{text},7".encode(), "text/csv").body == wanted.body


@pytest.mark.parametrize(
    ("text", "row", "column", "reason"),
    [
        ("", None, None, "no rows"),
        ("\n\n", None, None, "no rows"),
        ("1,2", 1, None, "want 3 values, got 2"),
        ("1,2,3,4", 1, None, "want 3 values, got 4"),
        ("1,2,3\n\n4,5,6", 2, None, "want 3 values, got 0"),
        ("1,2,3\n4,x,6", 2, "distance", "'x' is not a number"),
        ("1,2,inf", 1, "hour", "not a number that the model can hold"),
        ("1,2,1e999", 1, "hour", "not a number that the model can hold"),
        ("1,2,1e39", 1, "hour", "not a number that the model can hold"),
        ("1,2,1_000", 1, "hour", "is not a number"),
        ("1,2,[3]", 1, "hour", "is not a number"),
        ("1,2,\u0663", 1, "hour", "is not a number"),
        ('1,2,"3', None, None, "malformed CSV"),
        ("1,2,\0", 1, "hour", "not a number"),
        ("delay,distance,hour\n1,2,3", 1, None, "header"),
    ],
)
def test_refused_csv(client: Client, text: str, row: int | None, column: str | None, reason: str) -> None:
    answer = client.ask("POST", "/invocations", text.encode(), "text/csv")
    assert answer.status == 400
    assert reason in answer.error
    assert (answer.json.get("row"), answer.json.get("column")) == (row, column)


@pytest.mark.parametrize(
    ("text", "row", "column", "reason"),
    [
        ("", None, None, "malformed JSON"),
        ("{", None, None, "malformed JSON"),
        ("[" * 100_00, None, None, "malformed JSON"),
        ("NaN", None, None, "malformed JSON"),
        ("7", None, None, "instances"),
        ("{}", None, None, "instances"),
        ('{"instances":{}}', None, None, "instances"),
        ('{"instances":[]}', None, None, "no instances"),
        ('{"instances":[[1,2,3]],"extra":1}', None, None, "unknown field 'extra'"),
        ('{"instances":[7]}', 1, None, "want an object or an array, got a number"),
        ('{"instances":["abc"]}', 1, None, "got a text"),
        ('{"instances":[[1,2]]}', 1, None, "want 3 values, got 2"),
        ('{"instances":[[1,2,3],[1,"2",3]]}', 2, "distance", "the text '2' where a number is wanted"),
        ('{"instances":[[1,2,[3]]]}', 1, "hour", "is not a number"),
        ('{"instances":[[1,2,1e39]]}', 1, "hour", "not a number that the model can hold"),
        ('{"instances":[[1,2,1e999]]}', None, None, "malformed JSON"),
        ('{"instances":[{"delay":1,"distance":2}]}', 1, "hour", "absent"),
        ('{"instances":[{"delay":1,"distance":2,"hour":3,"hous":4}]}', 1, None, "unknown field 'hous'"),
        ('{"instances":[{"delay":1,"distance":2,"hour":{}}]}', 1, "hour", "is not a number"),
    ],
)
def test_refused_json(client: Client, text: str, row: int | None, column: str | None, reason: str) -> None:
    answer = client.ask("POST", "/invocations", text.encode(), "application/json")
    assert answer.status == 400
    assert reason in answer.error
    assert (answer.json.get("row"), answer.json.get("column")) == (row, column)


def test_null_is_missing(client: Client) -> None:
    wanted = numbers(client.ask("POST", "/invocations", b"1.5,,7", "text/csv").body)
    for body in (b'{"instances":[[1.5,null,7]]}', b'[{"delay":1.5,"distance":null,"hour":7}]'):
        assert client.ask("POST", "/invocations", body, "application/json").json["predictions"] == wanted


def test_unknown_categories_as_the_bundle_declares(mixed_client: Client) -> None:
    time = "2013-01-01T05:00:00"
    unknown = mixed_client.ask("POST", "/invocations", f"XX,EWR,10,{time}".encode(), "text/csv")
    missing = mixed_client.ask("POST", "/invocations", f",EWR,10,{time}".encode(), "text/csv")
    assert unknown.status == 200
    assert unknown.body == missing.body
    refused = mixed_client.ask(
        "POST", "/invocations", f"AA,EWR,1,{time}\nAA,LGA,10,{time}".encode(), "text/csv"
    )
    assert refused.status == 400
    assert refused.error == "row 2, column 'origin': 'LGA' is not a known category"


def test_a_refused_row_harms_nobody_else_in_its_batch(mixed_client: Client) -> None:
    time = "2013-01-01T05:00:00"
    good = mixed_client.ask("POST", "/invocations", f"AA,EWR,10,{time}".encode(), "text/csv")
    for number in range(12):
        body = f"AA,{'LGA' if number % 3 == 1 else 'EWR'},10,{time}".encode()
        mixed_client.send(request("POST", "/invocations", body, "text/csv"))
    for number in range(12):
        answer = mixed_client.receive()
        assert answer.status == (400 if number % 3 == 1 else 200)
        if number % 3 == 1:
            assert answer.json["row"] == 1
        else:
            assert answer.body == good.body


@pytest.mark.parametrize(
    ("content_type", "headers", "reason"),
    [
        ("", {}, "got none"),
        ("text/html", {}, "text/html"),
        ("text/csv; charset=utf-16", {}, "charset"),
        ("text/csv", {"Content_Encoding": "br"}, "want gzip, deflate"),
    ],
)
def test_wrong_content_type(client: Client, content_type: str, headers: dict[str, str], reason: str) -> None:
    answer = client.ask("POST", "/invocations", GOOD.encode(), content_type, **headers)
    assert answer.status == 415
    assert reason in answer.error


def test_not_utf8(client: Client) -> None:
    for content_type in ("text/csv", "application/json"):
        answer = client.ask("POST", "/invocations", b'["\xff\xfe",1,2]', content_type)
        assert answer.status == 400


def test_too_many_rows(client: Client) -> None:
    rows = [[1, 2, 3]] * 501
    for body, content_type in ((csv_body(rows), "text/csv"), (json.dumps(rows).encode(), "application/json")):
        answer = client.ask("POST", "/invocations", body, content_type)
        assert answer.status == 413
        assert "501 rows" in answer.error
        assert "connection" not in answer.headers


def test_more_rows_than_the_buffer_holds(tmp_path: Path, serve: Any, plain: Made) -> None:
    served = serve(plain.directory)
    served.wait_for("ready")
    rows = plain.rows * 12
    with Client(served.port) as client:
        # The small requests wait for their batch when the large one comes.
        client.send(request("POST", "/invocations", csv_body(plain.rows[:1]), "text/csv") * 3)
        client.send(request("POST", "/invocations", csv_body(rows), "text/csv"))
        for _ in range(3):
            assert numbers(client.receive().body) == pytest.approx([plain.expected[0]], abs=1e-6)
        np.testing.assert_allclose(
            numbers(client.receive().body), np.tile(plain.expected, 12), rtol=0, atol=1e-6
        )


def test_wrong_path_and_method(client: Client) -> None:
    assert client.ask("GET", "/nothing").status == 404
    assert client.ask("GET", "//").status == 404
    answer = client.ask("GET", "/invocations")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    answer = client.ask("DELETE", "/ping")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.error


def test_identity_and_metrics(client: Client, server: Any) -> None:
    ping = client.ask("GET", "/ping")
    assert ping.status == 200
    assert ping.headers["x-model-name"] == "flights"
    assert ping.headers["x-model-version"] == "v1"
    assert ping.headers["x-model-digest"] == server.wait_for("ready")["digest"]
    assert client.ask("HEAD", "/ping").headers["content-length"] == str(len(ping.body))
    assert client.ask("GET", "http://elsewhere/ping?x=1").status == 200
    client.ask("POST", "/invocations", GOOD.encode(), "text/csv")
    text = client.ask("GET", "/metrics").body.decode()
    assert 'trainserve_requests_total{route="invocations",status="200"} ' in text
    assert "trainserve_requests_in_flight 0\n" in text
    assert "trainserve_ready 1\n" in text
    assert 'trainserve_model_info{name="flights",version="v1",digest="sha256:' in text


def test_numbers_with_steps(serve: Callable[..., Served], tmp_path: Path) -> None:
    steps = [{"op": "log1p", "column": "distance"}]
    made = make_bundle(tmp_path / "bundle", columns=NUMBERS, steps=steps)
    served = serve(made.directory)
    served.wait_for("ready")
    with Client(served.port) as client:
        answer = client.ask("POST", "/invocations", csv_body(made.rows[:5]), "text/csv")
        assert [float(line) for line in answer.body.split()] == pytest.approx(made.expected[:5], abs=1e-6)
        document = json.dumps({"instances": made.rows[:5]}).encode()
        answer = client.ask("POST", "/invocations", document, "application/json")
        assert answer.json["predictions"] == pytest.approx(made.expected[:5], abs=1e-6)
        assert client.ask("POST", "/invocations", b'[["1",2,3]]', "application/json").status == 400
