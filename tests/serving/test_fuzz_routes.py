"""Any request to any route, several on a connection, while models come and go: no 5xx, and memory stays.

`make fuzz` does it many thousand times; `SERVING_FUZZ_EXAMPLES` sets how often.
"""

import gzip
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.serving_support import Client, Made, Served, csv_body, make_bundle, resident
from tests.serving.test_fuzz import CSV, EXAMPLES, ROWS, TYPES, VALUES, fuzzed
from tests.serving.test_v2_fuzz import DOCUMENTS

NAMES = ["champion", "challenger", "mixed", "flights", "extra", "..", "%2e%2e", "a%2Fb", "%00", "%ff", ""]
MIB = 1 << 20


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


def paths() -> st.SearchStrategy[str]:
    name = st.sampled_from(NAMES)
    fixed = st.sampled_from(
        [
            "/ping",
            "/metrics",
            "/invocations",
            "/models",
            "/v2",
            "/v2/health/live",
            "/v2/health/ready",
            "/",
            "*",
        ]
    )
    named = st.builds(
        str.format,
        st.sampled_from(
            [
                "/models/{}",
                "/models/{}/invoke",
                "/endpoints/{}/invocations",
                "/endpoints/{}/async-invocations",
                "/v2/models/{}",
                "/v2/models/{}/infer",
                "/v2/models/{}/ready",
                "/v2/models/{}/versions/v1/infer",
                "/v2/repository/index",
            ]
        ),
        name,
    )
    # More often what is predicted than what is looked at.
    predicted = st.sampled_from(["/invocations", "/models/champion/invoke", "/v2/models/champion/infer"])
    query = st.sampled_from(["", "", "", "?", "?limit=1", "?limit=x&next_page_token=" + "9" * 30, "?%zz=%"])
    return st.builds(str.__add__, predicted | predicted | named | fixed, query)


NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))
GOOD = st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1).map(csv_body)
LOADS = st.fixed_dictionaries(
    {
        "model_name": st.sampled_from(["extra", "champion", "..", "x" * 300, ""]) | VALUES,
        "url": st.sampled_from(["models/challenger", "models/champion", "models/../x", "/etc", "", "\0"])
        | VALUES,
    }
).map(encoded)
INPUTS = VALUES | st.dictionaries(st.sampled_from(["delay", "hour"]), VALUES)
BODIES = st.one_of(
    GOOD,
    CSV.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(ROWS, max_size=3).map(encoded),
    st.fixed_dictionaries({"instances": st.lists(ROWS)}).map(encoded),
    st.fixed_dictionaries({"inputs": INPUTS}).map(encoded),
    st.fixed_dictionaries({"dataframe_split": VALUES}).map(encoded),
    DOCUMENTS.map(encoded),
    LOADS,
    st.binary(max_size=100),
    GOOD.map(gzip.compress),
)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Accept": st.sampled_from(["text/csv", "application/json", "*/*", ";"]) | PRINTABLE,
        "Content-Encoding": st.sampled_from(["gzip", "deflate", "identity", "br"]),
        "Connection": st.sampled_from(["close", "keep-alive", "upgrade"]) | PRINTABLE,
        "Expect": st.sampled_from(["100-continue", "x"]),
        "Inference-Header-Content-Length": st.integers(-1, 300).map(str),
        "X-Model": st.sampled_from(NAMES) | PRINTABLE,
        "X-Amzn-SageMaker-Target-Variant": st.sampled_from(NAMES),
        "X-Amzn-SageMaker-Custom-Attributes": PRINTABLE,
        "traceparent": PRINTABLE,
        "X-Request-Id": PRINTABLE,
        "Upgrade": st.just("h2c"),
        "X": PRINTABLE,
    },
)


@st.composite
def raw(draw: st.DrawFn) -> bytes:
    """One request; most are well-formed HTTP."""
    method = draw(
        st.sampled_from(["POST", "POST", "POST", "POST", "GET", "HEAD", "DELETE", "PUT", "OPTIONS"])
    )
    body = draw(BODIES) if method in {"POST", "PUT"} else b""
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0"]))
    lines = [f"{method} {draw(paths())} HTTP/{version}", "Host: test", f"Content-Type: {draw(TYPES)}"]
    lines += [f"{name}: {value}" for name, value in draw(HEADERS).items()]
    if version == "1.1" and draw(st.integers(0, 9)) == 0:
        cut = draw(st.integers(0, len(body)))
        lines.append("Transfer-Encoding: chunked")
        parts = [part for part in (body[:cut], body[cut:]) if part]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def everything(plain: Made, mixed: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with several models, which requests may load and unload."""
    directory = tmp_path_factory.mktemp("everything")  # where it runs
    root = directory / "models"
    root.mkdir()
    shutil.copytree(plain.directory, root / "champion")
    shutil.copytree(mixed.directory, root / "mixed")
    make_bundle(root / "challenger", version="v2")
    served = Served(
        root, directory / "log", models_dir="models", default_model="champion", max_queue_seconds=60
    )
    served.wait_for("ready")
    yield served
    served.kill()
    assert not [event for event in served.events() if event["level"] == "error"]


def exchanged(served: Served, data: bytes, methods: list[bytes]) -> int:
    """Send all at once; check every answer, and return how many there were."""
    count = 0
    with Client(served.port) as client:
        client.send(data)
        client.socket.shutdown(1)
        while True:
            try:
                answer = client.receive(head_only=methods[min(count, len(methods) - 1)] == b"HEAD")
            except EOFError as end:
                assert not end.args[0]  # noqa: PT017  an answer that began is whole
                return count
            if answer.status == 100:
                continue
            assert 200 <= answer.status < 500
            if answer.status >= 400 and answer.body:
                assert answer.error
            count += 1


def test_any_request(everything: Served) -> None:
    served = everything
    memory: list[int] = []
    count = 0

    @fuzzed
    @given(requests=st.lists(raw(), min_size=1, max_size=5))
    def ask(requests: list[bytes]) -> None:
        nonlocal count
        count += exchanged(served, b"".join(requests), [one.partition(b" ")[0] for one in requests])
        if not memory:
            memory.append(resident(served.process.pid))

    ask()
    with Client(served.port) as client:
        assert client.ask("GET", "/ping").status == 200
    # Heads and their plans are remembered, so it is not the same; but it does not grow with the requests.
    assert resident(served.process.pid) < memory[0] + 48 * MIB
    assert count > EXAMPLES
