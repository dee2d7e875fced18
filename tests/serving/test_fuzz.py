"""Whatever is sent, the answer is no 5xx, the reason is JSON, and the server lives.

`SERVING_FUZZ_EXAMPLES` sets the number of examples of each test.
"""

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.serving_support import Answer, Client, Served, request

EXAMPLES = int(os.environ.get("SERVING_FUZZ_EXAMPLES", "150"))
fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["AA", "EWR", "2013-01-01T00:00:00", "NaN", "1e999", "-0", "2013-02-30", "9999-12-31T23:59:59-23:59"]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner)
)
NAMES = st.sampled_from(["delay", "distance", "hour", "carrier", "origin", "when", "instances", ""])
ROWS = st.lists(VALUES, min_size=3, max_size=4) | st.dictionaries(NAMES, VALUES, max_size=5)
CSV_FIELDS = st.one_of(SCALARS.map(str), st.text(max_size=10), st.floats().map(repr))
CSV = st.lists(st.lists(CSV_FIELDS, min_size=2, max_size=5).map(",".join), max_size=4).map("\n".join)
TYPES = st.sampled_from(["text/csv", "application/json", "text/csv; charset=utf-8", "text/plain", "", ";;=,"])


def check(answer: Answer) -> None:
    assert 200 <= answer.status < 500
    if answer.status >= 400:
        assert answer.error
    elif answer.headers["content-type"] == "application/json":
        assert "predictions" in answer.json
    else:
        assert [float(line) for line in answer.body.decode().splitlines()]


@fuzzed
@given(
    document=st.one_of(
        VALUES, st.lists(ROWS, max_size=3), st.fixed_dictionaries({"instances": st.lists(ROWS)})
    )
)
def test_any_json(server: Served, mixed_server: Served, document: Any) -> None:
    body = json.dumps(document).encode("utf-8", "surrogatepass")
    for served in (server, mixed_server):
        with Client(served.port) as client:
            check(client.ask("POST", "/invocations", body, "application/json"))


@fuzzed
@given(text=CSV)
def test_any_csv(server: Served, mixed_server: Served, text: str) -> None:
    for served in (server, mixed_server):
        with Client(served.port) as client:
            check(client.ask("POST", "/invocations", text.encode("utf-8", "surrogatepass"), "text/csv"))


@fuzzed
@given(body=st.binary(max_size=300), content_type=TYPES)
def test_any_bytes(server: Served, mixed_server: Served, body: bytes, content_type: str) -> None:
    for served in (server, mixed_server):
        with Client(served.port) as client:
            check(client.ask("POST", "/invocations", body, content_type))


@fuzzed
@given(
    cut=st.integers(0, 200),
    insert=st.binary(max_size=40)
    | st.sampled_from([b"\r\n", b"\n", b"\0", b"Content-Length: 5\r\n", b"\r\n\r\n"]),
    drop=st.integers(0, 30),
)
def test_any_damage_to_the_protocol(server: Served, cut: int, insert: bytes, drop: int) -> None:
    whole = request("POST", "/invocations", b"1.5,200,7", "text/csv", Accept="*/*")
    damaged = whole[:cut] + insert + whole[cut + drop :]
    with Client(server.port) as client:
        client.send(damaged)
        client.socket.shutdown(1)
        while True:
            try:
                answer = client.receive()
            except EOFError as end:
                assert not end.args[0]  # noqa: PT017  an answer that began is whole
                break
            assert answer.status < 500
            assert answer.status < 400 or answer.error
    with Client(server.port) as client:
        assert client.ask("GET", "/ping").status == 200
