"""The Open Inference Protocol over REST: what clients send gives XGBoost's predictions."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from tests.serving.serving_support import Answer, Client, Made, Served, make_bundle

INFER = "/v2/models/flights/infer"


def post(client: Client, document: Any, path: str = INFER) -> Answer:
    return client.ask("POST", path, json.dumps(document).encode(), "application/json")


def tensor(rows: list[list[Any]], datatype: str = "FP32", *, nested: bool = False) -> dict[str, Any]:
    data: list[Any] = rows if nested else [value for row in rows for value in row]
    return {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": datatype, "data": data}


def with_binary(client: Client, document: Any, *parts: bytes) -> Answer:
    head = json.dumps(document).encode()
    length = {"Inference_Header_Content_Length": str(len(head))}
    return client.ask("POST", INFER, head + b"".join(parts), "application/octet-stream", **length)


def by_column(rows: list[list[Any]]) -> list[dict[str, Any]]:
    names = ("carrier", "origin", "distance", "when")
    return [
        {
            "name": name,
            "shape": [len(rows)],
            "datatype": "FP64" if name == "distance" else "BYTES",
            "data": [row[index] for row in rows],
        }
        for index, name in enumerate(names)
    ]


def binary_texts(values: list[Any]) -> bytes:
    texts = ["" if value is None else value for value in values]
    return b"".join(struct.pack("<I", len(text)) + text.encode() for text in texts)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("rows", [1, 2, 300])
def test_one_tensor(client: Client, plain: Made, rows: int, datatype: str, nested: bool) -> None:
    answer = post(client, {"inputs": [tensor(plain.rows[:rows], datatype, nested=nested)]})
    assert answer.status == 200, answer.body
    assert answer.headers["x-model-version"] == "v1"
    document = answer.json
    assert (document["model_name"], document["model_version"]) == ("flights", "v1")
    assert "id" not in document
    (output,) = document["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predictions", "FP32", [rows])
    np.testing.assert_allclose(output["data"], plain.expected[:rows], rtol=0, atol=1e-6)


def test_a_tensor_for_each_column_in_any_order(client: Client, plain: Made) -> None:
    names = ("delay", "distance", "hour")
    inputs = [
        {"name": name, "shape": [5, 1], "datatype": "FP64", "data": [row[index] for row in plain.rows[:5]]}
        for index, name in enumerate(names)
    ]
    answer = post(client, {"inputs": inputs[::-1]}, "/v2/models/flights/versions/v1/infer")
    np.testing.assert_allclose(answer.json["outputs"][0]["data"], plain.expected[:5], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 40])
def test_categories_and_times(mixed_client: Client, mixed: Made, rows: int) -> None:
    answer = post(mixed_client, {"id": "é\n", "inputs": by_column(mixed.rows[:rows])})
    assert answer.json["id"] == "é\n"
    np.testing.assert_allclose(answer.json["outputs"][0]["data"], mixed.expected[:rows], rtol=0, atol=1e-6)


def test_categories_and_times_in_binary(mixed_client: Client, mixed: Made) -> None:
    inputs, parts = by_column(mixed.rows[:20]), list[bytes]()
    for item in inputs:
        values = item.pop("data")
        numbers = [float("nan") if value is None else value for value in values]
        parts.append(
            np.array(numbers, "<f8").tobytes() if item["name"] == "distance" else binary_texts(values)
        )
        item["parameters"] = {"binary_data_size": len(parts[-1])}
    answer = with_binary(mixed_client, {"inputs": inputs}, *parts)
    np.testing.assert_allclose(answer.json["outputs"][0]["data"], mixed.expected[:20], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("datatype", "kind"), [("FP32", "<f4"), ("FP64", "<f8")])
def test_binary_in_and_out(client: Client, plain: Made, datatype: str, kind: str) -> None:
    matrix = np.array(plain.rows, dtype=kind)
    item = tensor(plain.rows, datatype) | {"parameters": {"binary_data_size": matrix.nbytes}}
    del item["data"]
    outputs = [{"name": "predictions", "parameters": {"binary_data": True}}]
    answer = with_binary(client, {"id": "7", "inputs": [item], "outputs": outputs}, matrix.tobytes())
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    document = json.loads(answer.body[:length])
    assert document["id"] == "7"
    (output,) = document["outputs"]
    assert output["parameters"] == {"binary_data_size": len(answer.body) - length}
    np.testing.assert_array_equal(np.frombuffer(answer.body[length:], "<f4"), plain.expected)


KINDS = {"INT8": "<i1", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT64": "<u8", "FP16": "<f2"}


@pytest.mark.parametrize(("datatype", "kind"), [*KINDS.items(), ("BOOL", "?")])
def test_other_datatypes_give_the_same_numbers(client: Client, datatype: str, kind: str) -> None:
    rows = [[1, 0, 1], [0, 1, 1]]
    matrix = np.array(rows, dtype=kind)
    wanted = post(client, {"inputs": [tensor(rows)]}).json["outputs"]
    assert post(client, {"inputs": [tensor(matrix.tolist(), datatype)]}).json["outputs"] == wanted
    item = tensor(rows, datatype) | {"parameters": {"binary_data_size": matrix.nbytes}}
    del item["data"]
    assert with_binary(client, {"inputs": [item]}, matrix.tobytes()).json["outputs"] == wanted


def test_several_classes_and_many_rows(serve: Any, tmp_path: Any) -> None:
    made = make_bundle(tmp_path / "bundle", "multiclass")
    served: Served = serve(made.directory)
    served.wait_for("ready")
    with Client(served.port) as client:
        metadata = client.ask("GET", "/v2/models/flights").json
        assert metadata["outputs"] == [{"name": "predictions", "datatype": "FP32", "shape": [-1, 3]}]
        matrix = np.tile(np.array(made.rows, "<f8"), (10, 1))
        for answer in (
            post(client, {"inputs": [tensor(made.rows * 10)]}),
            with_binary(
                client,
                {
                    "inputs": [
                        {
                            "name": "x",
                            "shape": [3000, 3],
                            "datatype": "FP64",
                            "parameters": {"binary_data_size": matrix.nbytes},
                        }
                    ]
                },
                matrix.tobytes(),
            ),
        ):
            (output,) = answer.json["outputs"]
            assert output["shape"] == [3000, 3]
            found = np.reshape(output["data"], (3000, 3))
            np.testing.assert_allclose(found, np.tile(made.expected, (10, 1)), rtol=0, atol=1e-6)
        matrix[2000, 1] = np.inf
        item = tensor([[0]]) | {"shape": [3000, 3], "datatype": "FP64"}
        del item["data"]
        item["parameters"] = {"binary_data_size": matrix.nbytes}
        answer = with_binary(client, {"inputs": [item]}, matrix.tobytes())
        assert (answer.status, answer.json["row"], answer.json["column"]) == (400, 2001, "distance")


def test_health_and_metadata(client: Client) -> None:
    assert client.ask("GET", "/v2").json["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/flights/ready"):
        assert client.ask("GET", path).status == 200
    assert client.ask("GET", "/v2/models/flights/versions/v1/ready").json == {
        "name": "flights",
        "ready": True,
    }
    metadata = client.ask("GET", "/v2/models/flights/versions/v1").json
    assert metadata == {
        "name": "flights",
        "versions": ["v1"],
        "platform": "xgboost",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "predictions", "datatype": "FP32", "shape": [-1]}],
    }
    assert client.ask("POST", "/v2/repository/index").json[0]["state"] == "READY"
    assert client.ask("GET", INFER).status == 405
    for path in ("/v2/models/other", "/v2/models/flights/versions/v2/ready", "/v2/other"):
        assert client.ask("GET", path).status == 404
    assert post(client, {"inputs": [tensor([[1.0, 2.0, 3.0]])]}).status == 200
    assert 'protocol="v2"' in client.ask("GET", "/metrics").body.decode()


def test_metadata_of_columns(mixed_client: Client) -> None:
    inputs = mixed_client.ask("GET", "/v2/models/flights").json["inputs"]
    assert [(item["name"], item["datatype"]) for item in inputs] == [
        ("carrier", "BYTES"),
        ("origin", "BYTES"),
        ("distance", "FP64"),
        ("when", "BYTES"),
    ]


def test_not_ready(serve: Any, tmp_path: Any) -> None:
    served: Served = serve(tmp_path)
    served.wait_for("not ready")
    with Client(served.port) as client:
        assert client.ask("GET", "/v2/health/live").status == 200
        for path in ("/v2/health/ready", "/v2/models/flights/ready"):
            answer = client.ask("GET", path)
            assert (answer.status, answer.error) == (503, "no model released yet")


GOOD = tensor([[1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shape": [1, 4], "data": [0] * 4}, "want shape [rows, 3], got [1, 4]"),
        ({"shape": [3]}, "want shape [rows, 3], got [3]"),
        ({"shape": [2, 3]}, "the shape wants 6 values, there are 3"),
        ({"shape": [0, 3], "data": []}, "there are no rows"),
        ({"shape": [-1, 3]}, "shape: want an array of numbers"),
        ({"shape": [True, 3]}, "shape: want an array of numbers"),
        ({"shape": [1, 3.0]}, "shape: want an array of numbers"),
        ({"shape": [10**15, 3]}, "the shape wants"),
        ({"shape": [10**15] * 9}, "more than 8 dimensions"),
        ({"shape": [501, 3], "data": [0] * 1503}, "501 rows are more than the 500 allowed"),
        ({"datatype": "FP31"}, "datatype: want one of"),
        ({"datatype": "INT8", "data": [1, 2, 128]}, "out of the range of INT8"),
        ({"datatype": "INT8", "data": [1, 2, 1.5]}, "INT8 wants whole numbers"),
        ({"datatype": "BOOL"}, "BOOL wants true or false"),
        ({"datatype": "BYTES"}, "BYTES wants texts"),
        ({"data": [1, 2, "3"]}, "FP32 wants numbers"),
        ({"data": [1, 2, 1e39]}, "not a number that the model can hold"),
        ({"data": [1, 2, 10**400]}, "JSON"),
        ({"data": [[1, 2], [3]]}, "nested otherwise"),
        ({"data": [[1, 2, 3], [4, 5, 6]]}, "want 1 rows, got 2"),
        ({"data": {}}, "data: want an array"),
        ({"name": 1}, "name: want a text"),
        ({"parameters": {"binary_data_size": 12}}, "both data and binary_data_size"),
    ],
)
def test_a_tensor_that_is_refused(client: Client, change: dict[str, Any], reason: str) -> None:
    answer = post(client, {"inputs": [GOOD | change]})
    assert answer.status in {400, 413}
    assert reason in answer.error


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"inputs": []}, "inputs: want an array"),
        ({"inputs": [GOOD, GOOD]}, "no column 'x'"),
        ({"inputs": [GOOD | {"name": "delay", "shape": [3]}] * 2}, "no tensor of it"),
        ({"id": 5}, "id: want a text"),
        ({"outputs": [{"name": "other"}]}, "the only one is 'predictions'"),
        ({"outputs": {}}, "outputs: want an array"),
        ({"parameters": {"binary_data_output": 1}}, "want true or false"),
    ],
)
def test_a_request_that_is_refused(client: Client, change: dict[str, Any], reason: str) -> None:
    answer = post(client, {"inputs": [GOOD]} | change)
    assert answer.status == 400
    assert reason in answer.error


@pytest.mark.parametrize(
    ("size", "sent", "reason"),
    [
        (12, 11, "larger than what the body has left"),
        (12, 13, "1 bytes of the body belong to no tensor"),
        (11, 11, "want 12 bytes, got 11"),
        (-1, 0, "want a number of bytes"),
    ],
)
def test_binary_of_another_size(client: Client, size: int, sent: int, reason: str) -> None:
    item = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    answer = with_binary(client, {"inputs": [item]}, bytes(sent))
    assert answer.status == 400
    assert reason in answer.error
    if sent == size:
        assert "header" in post(client, {"inputs": [item]}).error


def test_headers_that_are_refused(client: Client) -> None:
    body = json.dumps({"inputs": [GOOD]}).encode()
    for value in ("-1", "x", "9" * 30, "999"):
        answer = client.ask("POST", INFER, body, "", Inference_Header_Content_Length=value)
        assert answer.status == 400
        assert "Inference-Header-Content-Length" in answer.error
    assert client.ask("POST", INFER, body, "text/csv").status == 415
    assert client.ask("POST", INFER, body, "", Content_Encoding="br").status == 415
    assert client.ask("POST", INFER, body).status == 200
