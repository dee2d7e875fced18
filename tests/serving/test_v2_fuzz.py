"""Whatever an inference request holds, the answer is predictions or a reason, and never a 5xx."""

import json
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.serving.serving_support import Answer, Client, Served
from tests.serving.test_fuzz import SCALARS, VALUES, fuzzed

INFER = "/v2/models/flights/infer"
SIZES = st.integers(-1, 5) | st.sampled_from([10**12, 2**63, 2**64, True, None, 1.0, "1"])
DATATYPES = st.sampled_from(
    ["FP32", "FP64", "FP16", "INT8", "INT32", "INT64", "UINT64", "BOOL", "BYTES", "", 3, None, []]
)
PARAMETERS = st.fixed_dictionaries({}, optional={"binary_data_size": SIZES | st.sampled_from([4, 12, 24])})
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "delay", "distance", "hour", "carrier", "origin", "when"]) | VALUES,
        "shape": st.lists(SIZES, max_size=3) | st.sampled_from([[1, 3], [2, 3], [1, 4], [1], [2]]) | VALUES,
        "datatype": DATATYPES,
        "data": st.lists(SCALARS, max_size=6)
        | st.lists(st.lists(SCALARS, min_size=3, max_size=3), max_size=2),
        "parameters": PARAMETERS,
    },
)


def whole(rows: list[list[Any]], datatype: str) -> dict[str, Any]:
    data = [value for row in rows for value in row]
    return {"name": "x", "shape": [len(rows), 3], "datatype": datatype, "data": data}


GOOD = st.builds(
    whole,
    st.lists(
        st.lists(st.none() | st.floats(width=32) | st.integers(), min_size=3, max_size=3),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["FP32", "FP64", "INT64"]),
)
DOCUMENTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS | GOOD, max_size=2) | VALUES},
    optional={
        "id": st.text() | SCALARS,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.just("predictions")}) | VALUES, max_size=2),
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_output": st.booleans() | VALUES}),
    },
)


def check(answer: Answer) -> None:
    assert 200 <= answer.status < 500
    if answer.status >= 400:
        assert answer.error
        return
    length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    (output,) = json.loads(answer.body[:length])["outputs"]
    assert output["name"] == "predictions"


@fuzzed
@given(document=DOCUMENTS | VALUES)
def test_any_document(server: Served, mixed_server: Served, document: Any) -> None:
    body = json.dumps(document).encode("utf-8", "surrogatepass")
    for served in (server, mixed_server):
        with Client(served.port) as client:
            check(client.ask("POST", INFER, body, "application/json"))


@fuzzed
@given(document=DOCUMENTS, binary=st.binary(max_size=30), off=st.sampled_from([0, 0, 0, 0, 1, -1, 50]))
def test_any_binary(server: Served, mixed_server: Served, document: Any, binary: bytes, off: int) -> None:
    head = json.dumps(document).encode("utf-8", "surrogatepass")
    length = {"Inference_Header_Content_Length": str(len(head) + off)}
    for served in (server, mixed_server):
        with Client(served.port) as client:
            check(client.ask("POST", INFER, head + binary, "application/octet-stream", **length))


@fuzzed
@given(
    numbers=st.lists(st.floats(width=32), min_size=3, max_size=3),
    texts=st.lists(st.binary(max_size=12), min_size=4, max_size=4),
    cut=st.integers(0, 3),
)
def test_any_values(
    server: Served, mixed_server: Served, numbers: list[float], texts: list[bytes], cut: int
) -> None:
    packed = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    packed = packed[: len(packed) - cut]
    for served, datatype, width, data in (
        (server, "FP32", 3, struct.pack("<3f", *numbers)),
        (mixed_server, "BYTES", 4, packed),
    ):
        item = {"name": "x", "shape": [1, width], "datatype": datatype}
        head = json.dumps({"inputs": [item | {"parameters": {"binary_data_size": len(data)}}]}).encode()
        length = {"Inference_Header_Content_Length": str(len(head))}
        with Client(served.port) as client:
            check(client.ask("POST", INFER, head + data, "", **length))


@fuzzed
@given(path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
def test_any_path(server: Served, path: str) -> None:
    with Client(server.port) as client:
        for method in ("GET", "POST"):
            answer = client.ask(method, "/v2/models/" + path)
            assert answer.status < 500
            assert answer.status < 400 or answer.error
