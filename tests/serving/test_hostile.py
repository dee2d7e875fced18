"""Bodies made to cost much: refused at once, in bounded memory, and nothing of them stays."""

import json
from collections.abc import Callable

import pytest

from serving import settings
from tests.serving.serving_support import Client, Made, Served, resident

SIZE = settings.Settings().max_body_bytes - 1000
MIB = 1 << 20
INFER = "/v2/models/flights/infer"


def tensor(data: bytes, shape: bytes = b"[1,3]", datatype: bytes = b"FP32") -> bytes:
    return b'{"inputs":[{"name":"x","shape":%b,"datatype":"%b","data":%b}]}' % (shape, datatype, data)


def array(item: bytes) -> bytes:
    return b"[" + (item + b",") * ((SIZE - 200) // (len(item) + 1)) + item + b"]"


HOSTILE: dict[str, tuple[str, bytes, str, int]] = {
    "a line of commas": ("text/csv", b"," * SIZE, "fields, want 3", 400),
    "a line of texts": ("text/csv", b"ab," * (SIZE // 3), "fields, want 3", 400),
    "a line of numbers": ("text/csv", b"1.5," * (SIZE // 4), "fields, want 3", 400),
    "a line of quotes": ("text/csv", b'"' * SIZE, "field limit", 400),
    "lines of carriage returns": ("text/csv", b"1,2,3\r" * (SIZE // 6), "rows are more than the 10000", 413),
    "nothing but carriage returns": ("text/csv", b"\r" * SIZE, "no rows", 400),
    "empty arrays": ("application/json", array(b"[]"), "rows are more than the 10000", 413),
    "empty objects": ("application/json", array(b"{}"), "more arrays and objects", 413),
    "depth": ("application/json", b"[" * SIZE, "more arrays and objects", 413),
    "some depth": ("application/json", b"[" * 40_000, "malformed JSON: depth limit", 400),
    "a row of numbers": ("application/json", b"[" + array(b"1") + b"]", "want 3 values", 400),
    "texts": ("application/json", array(b'"ab"'), "rows are more than the 10000", 413),
    "keys": (
        "application/json",
        b"[{%b}]" % b",".join(b'"%x":1' % number for number in range(500_000)),
        "unknown field '0'",
        400,
    ),
    "columns": (
        "application/json",
        b'{"dataframe_split":{"columns":%b,"data":[[1]]}}' % array(b'"a"'),
        "a name comes twice",
        400,
    ),
    "values of a tensor": (INFER, tensor(array(b"1")), "the shape wants 3 values", 400),
    "texts of a tensor": (INFER, tensor(array(b'"ab"'), datatype=b"BYTES"), "the shape wants 3 values", 400),
    "a nested tensor": (INFER, tensor(array(b"[]")), "more arrays and objects", 413),
    "dimensions": (INFER, tensor(b"[]", array(b"9")), "dimensions", 400),
    "tensors": (INFER, b'{"inputs":%b}' % array(b"{}"), "more arrays and objects", 413),
}


def test_nothing_stays(serve: Callable[..., Served], plain: Made) -> None:
    """The pod has 256 MiB: whatever is sent, less is used; and what was used is given back."""
    served = serve(plain.directory)
    served.wait_for("ready")
    process = served.process.pid
    before = resident(process)
    with Client(served.port) as client:
        for name, (kind, body, reason, status) in HOSTILE.items():
            assert len(body) <= SIZE + 1000
            path, content_type = (INFER, "application/json") if kind == INFER else ("/invocations", kind)
            answer = client.ask("POST", path, body, content_type)
            assert (name, answer.status, reason in answer.error) == (name, status, True), answer.body
        for _ in range(3):
            client.ask("POST", "/invocations", HOSTILE["a line of commas"][1], "text/csv")
        # In chunks of two bytes a list of the pieces would take twenty times as much as the body.
        client.send(b"POST /invocations HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"2\r\n1,\r\n" * (MIB // 2) + b"0\r\n\r\n")
        assert client.receive().status == 415
        assert client.ask("GET", "/ping").status == 200
    assert resident(process, "VmHWM:") < 240 * MIB
    assert resident(process) < before + 80 * MIB


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(client: Client, end: str) -> None:
    row = "1.5,200,7"
    wanted = client.ask("POST", "/invocations", row.encode(), "text/csv").body
    for count in (1, 2, 500):
        for last in ("", end, end * 3):
            body = end.join([row] * count) + last
            answer = client.ask("POST", "/invocations", body.encode(), "text/csv")
            assert answer.body == wanted * count
    answer = client.ask("POST", "/invocations", (row + end).encode() * 501, "text/csv")
    assert (answer.status, "501 rows" in answer.error) == (413, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('1.5,"200,7', "malformed CSV"),
        ('1.5,"200"x,7', "malformed CSV"),
        ('1.5,"200\n7"', "want 3 values, got 2"),
        ('1.5,"2""00",7', "'2\"00' is not a number"),
        ('1.5,2"00",7', "'2\"00\"' is not a number"),
        ("1.5,'200',7", "\"'200'\" is not a number"),
        ("1.5,200,7,", "want 3 values, got 4"),
        ("1.5;200;7", "want 3 values, got 1"),
        ("1.5\t200\t7", "want 3 values, got 1"),
        ("1.5,200,7],[1.5,200,7", "want 3 values, got"),
        ("1.5,200,[7\n8]", "row 2: want 3 values, got 1"),
        ('1.5,200,{"a":7}', "is not a number"),
        ("1.5,200,7 8", "is not a number"),
        ("1.5,200,0x7", "is not a number"),
        ("1.5,200,7f", "is not a number"),
        ("1.5,200,+-7", "is not a number"),
        ("1.5,200," + "9" * 5000, "not a number that the model can hold"),
        ("1.5,200,-Infinity", "not a number that the model can hold"),
        ("1.5,200,\u221e", "is not a number"),
        ("1.5,200,\uff17", "is not a number"),
        ("1.5,200,7\0", "is not a number"),
        ("1.5,200,7\n,,x", "row 2, column 'hour'"),
        ("\n1.5,200,7", "row 1: want 3 values, got 0"),
        ("1.5,200,7\n \n1.5,200,7", "row 2: want 3 values, got 1"),
    ],
)
def test_oddities_of_csv(client: Client, text: str, reason: str) -> None:
    answer = client.ask("POST", "/invocations", text.encode(), "text/csv")
    assert (answer.status, reason in answer.error) == (400, True), answer.body


@pytest.mark.parametrize(
    "text", ["1.5,200,+7", "1.5,200,7.", "1.5, 200 ,\t7", '"1.5","200","7"', "15e-1,.2E3,7"]
)
def test_spellings_that_csv_allows(client: Client, text: str) -> None:
    wanted = client.ask("POST", "/invocations", b"1.5,200,7", "text/csv").body
    assert client.ask("POST", "/invocations", text.encode(), "text/csv").body == wanted


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7"])
@pytest.mark.parametrize("content_type", ["text/csv", "application/json"])
def test_other_encodings(client: Client, encoding: str, content_type: str) -> None:
    text = "1.5,200,é" if content_type == "text/csv" else '[{"delay":1.5,"distance":200,"hoür":7}]'
    answer = client.ask("POST", "/invocations", text.encode(encoding), content_type)
    assert (answer.status, bool(answer.error)) == (400, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[1,2,NaN]]", "malformed JSON"),
        ("[[1,2,Infinity]]", "malformed JSON"),
        ("[[1,2,-Infinity]]", "malformed JSON"),
        ("[[1,2,1e999]]", "malformed JSON"),
        ("[[1,2,%s]]" % ("9" * 5000), "malformed JSON"),
        ("[[1,2,1e308]]", "not a number that the model can hold"),
        ("[[1,2,18446744073709551615],[1,2,1e39]]", "row 2"),
        ("[[1,2,3],]", "malformed JSON"),
        ("[[1,2,03]]", "malformed JSON"),
        ("[[1,2,3]]x", "malformed JSON"),
        ("\ufeff[[1,2,3]]", "malformed JSON"),
        ('[["\\ud800",2,3]]', "malformed JSON"),
        ('{"\\udfff":1}', "malformed JSON"),
        ("[[1,2,3]", "malformed JSON"),
        ("// x\n[[1,2,3]]", "malformed JSON"),
        ("'instances'", "malformed JSON"),
        ("null", "want an object with an array 'instances'"),
        ("[null]", "got null"),
        ("[[1,2,[]]]", "is not a number"),
        ("[[[1],2,3]]", "is not a number"),
        ('[{"delay":1,"distance":2,"hour":3,"hour":"x"}]', "where a number is wanted"),
    ],
)
def test_oddities_of_json(client: Client, text: str, reason: str) -> None:
    answer = client.ask("POST", "/invocations", text.encode(), "application/json")
    assert (answer.status, reason in answer.error) == (400, True), answer.body
    # The same values in a tensor.
    if text.startswith("[[1,2,"):
        body = tensor(text.encode(), b"[%d,3]" % (text.count("[") - 1))
        answer = client.ask("POST", INFER, body, "application/json")
        assert (answer.status, bool(answer.error)) == (400, True)


def test_of_a_key_twice_the_last_counts(client: Client) -> None:
    body = b'[{"delay":"x","distance":200,"hour":7,"delay":1.5}]'
    wanted = client.ask("POST", "/invocations", b"1.5,200,7", "text/csv", Accept="application/json").json
    assert client.ask("POST", "/invocations", body, "application/json").json == wanted


@pytest.mark.parametrize(
    ("item", "binary", "reason"),
    [
        ({"shape": [1, 3], "datatype": "FP32"}, b"\0" * 11, "want 12 bytes, got 11"),
        ({"shape": [1, 3], "datatype": "FP64"}, b"\0" * 12, "want 24 bytes, got 12"),
        ({"shape": [2**62, 3], "datatype": "FP64"}, b"\0" * 12, "bytes, got 12"),
        ({"shape": [0, 3], "datatype": "FP32"}, b"", "there are no rows"),
        ({"shape": [-1, 3], "datatype": "FP32"}, b"\0" * 12, "shape"),
        ({"shape": [3], "datatype": "FP32"}, b"\0" * 12, "want shape [rows, 3]"),
        ({"shape": [1, 3, 1], "datatype": "FP32"}, b"\0" * 12, "want shape [rows, 3]"),
        ({"shape": [1, 3], "datatype": "BYTES"}, b"\xff\xff\xff\xff1", "longer than the tensor"),
        ({"shape": [1, 3], "datatype": "BYTES"}, b"\1\0\0\0\xff", "not UTF-8"),
        ({"shape": [1, 3], "datatype": "BYTES"}, b"\1\0\0\0001" * 2, "wants 3 texts, there are 2"),
        ({"shape": [1, 3], "datatype": "BYTES"}, b"\1\0", "longer than the tensor"),
        ({"shape": [1, 3], "datatype": "FP32"}, b"\0" * 8 + b"\0\0\x80\x7f", "infinite"),
        ({"shape": [1, 3], "datatype": "FP16"}, b"\0" * 4 + b"\0\x7c", "infinite"),
    ],
)
def test_lying_tensors(client: Client, item: dict[str, object], binary: bytes, reason: str) -> None:
    for more in (b"", b"\0"):
        parameters = {"binary_data_size": len(binary)}
        head = json.dumps({"inputs": [{"name": "x", "parameters": parameters, **item}]}).encode()
        length = {"Inference_Header_Content_Length": str(len(head))}
        answer = client.ask("POST", INFER, head + binary + more, "application/octet-stream", **length)
        assert answer.status == 400
        assert reason in answer.error or (more and "belong to no tensor" in answer.error), answer.body
