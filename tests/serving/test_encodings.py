"""Compressed requests, on every protocol, and those that are not what they say."""

import gzip
import json
import zlib
from collections.abc import Callable

import pytest

from serving.encodings import inflate
from serving.errors import RequestError
from tests.serving.serving_support import Client

ROW = b"1.5,200,7"
V2 = json.dumps(
    {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1.5, 200, 7]}]}
).encode()
LIMIT = 100_000  # max_body_bytes of the server that tests share


def two_members(body: bytes) -> bytes:
    return gzip.compress(body[:3]) + gzip.compress(body[3:])


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("GZIP", two_members),
        ("deflate", zlib.compress),
        ("identity", bytes),
    ],
)
@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [
        ("/invocations", ROW, "text/csv"),
        ("/invocations", b'{"instances":[[1.5,200,7]]}', "application/json"),
        ("/models/flights/invoke", ROW, "text/csv"),
        ("/v2/models/flights/infer", V2, "application/json"),
    ],
)
def test_compressed_requests(
    client: Client,
    path: str,
    body: bytes,
    content_type: str,
    encoding: str,
    compress: Callable[[bytes], bytes],
) -> None:
    wanted = client.ask("POST", path, body, content_type)
    assert wanted.status == 200
    for _ in range(2):  # the second time the head is known
        answer = client.ask("POST", path, compress(body), content_type, Content_Encoding=encoding)
        assert (answer.status, answer.body) == (200, wanted.body)


def test_a_large_compressed_request(client: Client) -> None:
    body = b"\n".join([ROW] * 400)
    answer = client.ask("POST", "/invocations", gzip.compress(body), "text/csv", Content_Encoding="gzip")
    assert answer.body.count(b"\n") == 400


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (gzip.compress(b"1" * 50_000_000), 413, f"larger than {LIMIT} bytes when inflated"),
        (gzip.compress(b"1" * (LIMIT - 1)) + gzip.compress(b"11"), 413, "when inflated"),
        (gzip.compress(ROW)[:-4], 400, "ends too early"),
        (gzip.compress(ROW) + b"more", 400, "cannot be inflated"),
        (ROW, 400, "cannot be inflated"),
        (zlib.compress(ROW), 400, "cannot be inflated"),
    ],
    ids=["bomb", "bomb of two", "cut", "followed", "plain", "zlib"],
)
def test_what_cannot_be_inflated(client: Client, body: bytes, status: int, reason: str) -> None:
    answer = client.ask("POST", "/invocations", body, "text/csv", Content_Encoding="gzip")
    assert answer.status == status
    assert reason in answer.error
    assert client.ask("GET", "/ping").status == 200


def test_the_limit_is_of_all_members() -> None:
    members = gzip.compress(b"12345") * 3
    assert inflate(members, 31, 15) == b"12345" * 3
    with pytest.raises(RequestError, match="larger than 14 bytes"):
        inflate(members, 31, 14)


def test_very_many_members_cost_little() -> None:
    with pytest.raises(RequestError, match="more than 63 members"):
        inflate(gzip.compress(b"") * 200_000, 31, LIMIT)
