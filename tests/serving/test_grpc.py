"""The Open Inference Protocol over gRPC: each method, what is refused and how, how it starts and ends."""

import base64
import contextlib
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving import grpc_messages as messages
from serving.grpc_messages import (
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    RepositoryIndexResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from serving.settings import Settings, SettingsError
from tests.serving.conftest import MOST_MEMORY
from tests.serving.grpc_support import (
    HEALTH,
    SERVICE,
    GrpcClient,
    infer,
    predictions,
    typed,
    whole,
)
from tests.serving.serving_support import MIXED, Client, Made, Served, resident

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
ROW = whole([[1.5, 200.0, 7.0]])
ONE = {"name": "input", "datatype": "FP32", "shape": [1, 3]}


def started(serve: Callable[..., Served], made: Made, **more: Any) -> tuple[Served, int]:
    served = serve(made.directory, grpc_port=0, **more)
    served.wait_until_ready()
    return served, served.wait_for("started")["grpc_port"]


@pytest.fixture(scope="module")
def rpc(plain: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("grpc") / "log"
    served = Served(
        plain.directory, log, grpc_port=0, log_requests="on", max_body_bytes=100_000, max_rows=2000
    )
    served.wait_for("ready")
    yield served
    with Client(served.port) as client:
        text = client.ask("GET", "/metrics").body.decode()
    memory = resident(served.process.pid)
    served.kill()
    assert not [event for event in served.events() if event["level"] == "error"]
    # Whatever the tests have sent, fuzz included.
    statuses = set(re.findall(r'route="grpc_infer",status="(\d+)"', text))
    assert statuses <= {"200", "400", "404", "413", "499"}
    assert memory < MOST_MEMORY


@pytest.fixture
def caller(rpc: Served) -> Iterator[GrpcClient]:
    with GrpcClient(rpc.wait_for("started")["grpc_port"]) as client:
        yield client


def test_health_and_metadata(caller: GrpcClient) -> None:
    assert caller.ask("ServerLive", ServerLiveResponse).live
    assert caller.ask("ServerReady", ServerReadyResponse).ready
    for name, version, ready in (("flights", "", 1), ("flights", "v1", 1), ("flights", "2", 0), ("x", "", 0)):
        request = ModelReadyRequest(name=name, version=version)
        assert caller.ask("ModelReady", ModelReadyResponse, request).ready == ready
    server = caller.ask("ServerMetadata", ServerMetadataResponse)
    assert (server.name, server.version) == ("trainserve", "1")
    model = caller.ask("ModelMetadata", ModelMetadataResponse, ModelMetadataRequest(name="flights"))
    assert (model.name, list(model.versions), model.platform) == ("flights", ["v1"], "xgboost")
    assert [(item.datatype, list(item.shape)) for item in model.inputs] == [("FP32", [-1, 3])]
    assert [(item.name, list(item.shape)) for item in model.outputs] == [("predictions", [-1])]
    (listed,) = caller.ask("RepositoryIndex", RepositoryIndexResponse).models
    assert (listed.name, listed.version, listed.state) == ("flights", "v1", "READY")
    assert [caller.health(), caller.health(SERVICE)] == [1, 1]
    for method, request in (
        ("ModelMetadata", ModelMetadataRequest(name="x")),
        ("ModelMetadata", ModelMetadataRequest(name="flights", version="2")),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            caller.ask(method, ModelMetadataResponse, request)
        assert refused.value.code() == MISSING
    with pytest.raises(grpc.RpcError) as refused:
        caller.health("other")
    assert refused.value.code() == MISSING


@pytest.mark.parametrize(
    "method", [f"/{SERVICE}/ModelStreamInfer", f"/{SERVICE}/x", "/x.Y/z", f"/{HEALTH}/x"]
)
def test_other_methods_are_not_implemented(caller: GrpcClient, method: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.raw(method)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_watch_tells_the_state(caller: GrpcClient) -> None:
    watch = caller.channel.unary_stream(f"/{HEALTH}/Watch")
    for service, status in ((SERVICE, 1), ("x", 3)):
        call = watch(messages.HealthCheckRequest(service=service).SerializeToString(), timeout=20)
        assert messages.HealthCheckResponse.FromString(next(call)).status == status
        call.cancel()


def test_watch_tells_of_the_drain_and_ends_with_it(serve: Callable[..., Served], plain: Made) -> None:
    served, port = started(serve, plain)
    with GrpcClient(port) as client:
        watch: Any = client.channel.unary_stream(f"/{HEALTH}/Watch")(b"", timeout=20)
        told = [next(watch)]
        served.process.send_signal(signal.SIGTERM)
        told += list(watch)
        assert [messages.HealthCheckResponse.FromString(answer).status for answer in told] in ([1], [1, 2])
        assert watch.code() == grpc.StatusCode.OK
    assert served.process.wait(20) == 0


@pytest.mark.parametrize("count", [1, 7, 300])
def test_one_tensor(caller: GrpcClient, plain: Made, count: int) -> None:
    rows = np.array(plain.rows[:count], dtype=np.float32)  # None is NaN: missing
    matrix = np.tile(rows, (5, 1)) if count == 300 else rows  # more than one batch holds
    expected = np.tile(plain.expected[:count], len(matrix) // count)
    flat = matrix.ravel().tolist()
    for request in (
        whole(matrix.tolist()),
        infer(typed("x", "FP32", matrix.shape, "fp32_contents", flat)),
        infer(typed("x", "FP64", matrix.shape, "fp64_contents", flat), model_version="v1"),
        whole(matrix.tolist(), outputs=[{"name": "predictions"}], model_name=""),
    ):
        answer = caller.infer(request)
        assert (answer.model_name, answer.model_version, answer.id) == ("flights", "v1", "")
        np.testing.assert_allclose(predictions(answer), expected, rtol=0, atol=1e-6)
        assert bool(answer.raw_output_contents) == bool(request.raw_input_contents)


@pytest.mark.parametrize(
    ("datatype", "field"),
    [
        *((f"INT{bits}", "int_contents") for bits in (8, 16, 32)),
        *((f"UINT{bits}", "uint_contents") for bits in (8, 16, 32)),
        ("INT64", "int64_contents"),
        ("UINT64", "uint64_contents"),
        ("BOOL", "bool_contents"),
    ],
)
def test_a_tensor_a_column_of_any_type(caller: GrpcClient, datatype: str, field: str) -> None:
    columns = {"distance": [1, 0], "hour": [0, 1], "delay": [1, 1]}
    request = infer(
        *(typed(name, datatype, [2, 1], field, values) for name, values in columns.items()), id="7"
    )
    answer = caller.infer(request)
    assert answer.id == "7"
    expected = predictions(caller.infer(whole([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])))
    np.testing.assert_array_equal(predictions(answer), expected)


def test_texts(serve: Callable[..., Served], mixed: Made) -> None:
    _, port = started(serve, mixed)
    rows = [row for row in mixed.rows if None not in row][:20]
    expected = [value for row, value in zip(mixed.rows, mixed.expected, strict=True) if None not in row][:20]
    texts, raw = [], []
    for column, values in zip(MIXED, zip(*rows, strict=True), strict=True):
        if column.type == "numeric":
            texts.append(typed(column.name, "FP64", [20], "fp64_contents", values))
            raw.append(np.array(values, dtype="<f8").tobytes())
        else:
            encoded = [value.encode() for value in values]
            texts.append(typed(column.name, "BYTES", [20], "bytes_contents", encoded))
            raw.append(b"".join(len(text).to_bytes(4, "little") + text for text in encoded))
    bare = [{**item, "contents": None} for item in texts]
    with GrpcClient(port) as client:
        for request in (infer(*texts), infer(*bare, raw=raw)):
            np.testing.assert_allclose(predictions(client.infer(request)), expected, rtol=0, atol=1e-6)
        texts[1]["contents"] = {"bytes_contents": [b"EWR"] * 19 + [b"LAX"]}
        code, reason = client.refused(infer(*texts))
        assert code == INVALID
        assert reason.startswith("row 20, column 'origin': ")
        texts[1]["contents"] = {"bytes_contents": [b"\xff"] * 20}
        assert client.refused(infer(*texts)) == (INVALID, "inputs[1]: a text is not UTF-8")


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (whole([[1, 2, 3]], model_name="x"), MISSING, "there is no model 'x'"),
        (whole([[1, 2, 3]], model_version="2"), MISSING, "the version of 'flights' is 'v1'"),
        (whole([[1, 2, 3]], outputs=[{"name": "x"}]), INVALID, "outputs: the only one is 'predictions'"),
        (infer(), INVALID, "inputs: want at least one tensor"),
        (whole([[1, 2, 3], [1, np.inf, 3]]), INVALID, "row 2, column 'distance': is infinite"),
        (whole([[1, 2, -np.inf]]), INVALID, "row 1, column 'hour': is infinite"),
        (infer(typed("x", "FP64", [1, 3], "fp64_contents", [1, 1e300, 2])), INVALID, "is infinite"),
        (whole([[1, 2]]), INVALID, "want shape [rows, 3]"),
        (infer(ONE, raw=[b"123"]), INVALID, "inputs[0]: want 12 bytes, got 3"),
        (infer(ONE, raw=[b"", b""]), INVALID, "raw_input_contents: want 1"),
        (infer({**ONE, "datatype": "TEXT"}, raw=[b""]), INVALID, "inputs[0]: datatype: want one of"),
        (infer({**ONE, "shape": [-1, 3]}, raw=[b""]), INVALID, "inputs[0]: shape"),
        (infer({**ONE, "shape": [1 << 62, 1 << 62]}, raw=[b""]), INVALID, "inputs[0]: want"),
        (infer({**ONE, "shape": [0, 3]}, raw=[b""]), INVALID, "there are no rows"),
        (
            infer(typed("x", "FP16", [1, 3], "fp32_contents", [1])),
            INVALID,
            "FP16 comes in raw_input_contents",
        ),
        (infer(typed("x", "FP32", [1, 3], "fp64_contents", [1])), INVALID, "wants 3 fp32_contents"),
        (infer(typed("x", "INT8", [1, 3], "int_contents", [1, 2, 300])), INVALID, "out of the range of INT8"),
        (infer(typed("x", "FP32", [1, 3], "fp32_contents", [1]), raw=[b""]), INVALID, "has contents beside"),
        (infer(typed("x", "FP32", [1], "fp32_contents", [1])), INVALID, "want shape"),
        (infer(typed("delay", "FP32", [1], "fp32_contents", [1]), ONE), INVALID, "want"),
        (whole([[1, 2, 3]] * 2001), grpc.StatusCode.RESOURCE_EXHAUSTED, "2000"),
        (whole([[1, 2, 3]] * 9000), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    ],
)
def test_what_is_refused(caller: GrpcClient, request_: Any, code: grpc.StatusCode, reason: str) -> None:
    found, details = caller.refused(request_)
    assert found == code
    assert reason in details


def test_a_refusal_is_named_counted_and_logged(caller: GrpcClient, rpc: Served) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.raw(f"/{SERVICE}/ModelInfer", b"\xff", metadata=(("x-request-id", "mine-1"),))
    assert (refused.value.code(), refused.value.details()) == (INVALID, "malformed protobuf")
    assert ("x-request-id", "mine-1") in refused.value.trailing_metadata()
    answer, call = caller.channel.unary_unary(f"/{SERVICE}/ModelInfer").with_call(
        ROW.SerializeToString(), metadata=(("x-request-id", "mine-2"),)
    )
    assert answer
    assert ("x-request-id", "mine-2") in call.trailing_metadata()
    with Client(rpc.port) as client:
        text = client.ask("GET", "/metrics").body.decode()
    assert 'trainserve_requests_total{route="grpc_infer",status="400"}' in text
    assert 'protocol="grpc"' in text
    assert "trainserve_requests_in_flight 0\n" in text
    end = time.monotonic() + 20
    while not (lines := [event for event in rpc.events("request") if event["request_id"] == "mine-1"]):
        assert time.monotonic() < end
        time.sleep(0.02)
    (line,) = lines
    assert (line["route"], line["status"], line["request_bytes"]) == ("grpc_infer", 400, 1)
    assert line["path"] == f"/{SERVICE}/ModelInfer"


def test_calls_that_are_given_up_leave_nothing(caller: GrpcClient, rpc: Served) -> None:
    method = caller.channel.unary_unary(f"/{SERVICE}/ModelInfer")
    for _ in range(100):
        method.future(ROW.SerializeToString()).cancel()
    with Client(rpc.port) as client:
        end = time.monotonic() + 20
        while b"trainserve_requests_in_flight 0\n" not in client.ask("GET", "/metrics").body:
            assert time.monotonic() < end
    assert len(predictions(caller.infer(ROW))) == 1


tensors = st.fixed_dictionaries(
    {"name": st.sampled_from(["input", "delay", "hour"]) | st.text(max_size=5)},
    optional={
        "datatype": st.sampled_from(["FP32", "FP64", "INT8", "UINT64", "BOOL", "BYTES", "x"]),
        "shape": st.lists(st.integers(-2, 4) | st.integers(-(1 << 63), (1 << 63) - 1), max_size=10),
        "contents": st.fixed_dictionaries(
            {},
            optional={
                "fp32_contents": st.lists(st.floats(width=32), max_size=4),
                "fp64_contents": st.lists(st.floats(), max_size=4),
                "int_contents": st.lists(st.integers(-300, 300), max_size=4),
                "bytes_contents": st.lists(st.binary(max_size=4), max_size=4),
            },
        ),
    },
)
requests = st.builds(infer, tensors, raw=st.lists(st.binary(max_size=16), max_size=2)).map(
    lambda request: request.SerializeToString()
)
broken = st.tuples(requests, st.integers(0, 100), st.binary(max_size=4)).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=requests | broken | st.binary(max_size=60))
def test_odd_messages_are_refused(caller: GrpcClient, body: bytes) -> None:
    with contextlib.suppress(grpc.RpcError):
        caller.raw(f"/{SERVICE}/ModelInfer", body)


def load(port: int, seconds: float, outcomes: list[str]) -> None:
    """Ask until told of the drain, then go elsewhere, as a balancer does that looks at the health."""
    end = time.monotonic() + seconds
    with GrpcClient(port) as client:
        while time.monotonic() < end:
            try:
                client.infer(ROW)
                outcomes.append("OK")
                if len(outcomes) % 16 == 0 and client.health() != 1:
                    return
            except grpc.RpcError as error:
                outcomes.append(f"{error.code()}: {error.details()}")  # pyright: ignore[reportAttributeAccessIssue]
                return


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drain_loses_no_call(serve: Callable[..., Served], plain: Made, workers: int) -> None:
    served, port = started(serve, plain, drain_seconds=10, workers=workers)
    outcomes: list[str] = []
    threads = [threading.Thread(target=load, args=(port, 20, outcomes)) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert served.terminate() == 0
    for thread in threads:
        thread.join(30)
    assert set(outcomes) == {"OK"}
    assert len(outcomes) > 200
    assert [event["calls"] for event in served.events("gRPC drained")] == [0] * workers


def test_workers_share_the_port(serve: Callable[..., Served], plain: Made) -> None:
    served, port = started(serve, plain, workers=2)
    clients = [GrpcClient(port) for _ in range(12)]
    for client in clients:
        client.infer(ROW)
        client.channel.close()
    events = served.events("started")
    assert [event["grpc_port"] for event in events] == [port, port]
    with Client(served.port) as client:
        text = client.ask("GET", "/metrics").body.decode()
    assert 'trainserve_requests_total{route="grpc_infer",status="200"} 12\n' in text


def test_captured(serve: Callable[..., Served], plain: Made, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k" * 64, encoding="ascii")
    served, port = started(
        serve, plain, capture_to=str(tmp_path / "captured"), subject_key_file=key, log_requests="on"
    )
    with GrpcClient(port) as client:
        metadata = (("x-subject-id", "ann"), ("x-request-id", "r-1"))
        answer = client.raw(f"/{SERVICE}/ModelInfer", ROW.SerializeToString(), metadata=metadata)
    assert served.terminate() == 0
    (file,) = (tmp_path / "captured").rglob("*.jsonl")
    record = json.loads(file.read_bytes())
    data = record["captureData"]
    assert {part["encoding"] for part in data.values()} == {"BASE64"}
    assert {part["observedContentType"] for part in data.values()} == {"application/grpc"}
    assert base64.b64decode(data["endpointInput"]["data"]) == ROW.SerializeToString()
    assert base64.b64decode(data["endpointOutput"]["data"]) == answer
    attributes = record["eventMetadata"]["customAttributes"]
    assert "request=r-1" in attributes
    assert any(attribute.startswith("subject=") and "ann" not in attribute for attribute in attributes)
    (line,) = served.events("request")
    assert (line["request_id"], line["route"], line["rows"]) == ("r-1", "grpc_infer", 1)


def test_without_a_model_it_is_not_ready(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(tmp_path / "nothing", grpc_port=0)
    served.wait_for("not ready")
    with GrpcClient(served.wait_for("started")["grpc_port"]) as client:
        assert client.ask("ServerLive", ServerLiveResponse).live
        assert not client.ask("ServerReady", ServerReadyResponse).ready
        assert client.health() == 2
        assert client.refused(ROW) == (grpc.StatusCode.UNAVAILABLE, "no model released yet")


def test_a_taken_port_stops_the_start(serve: Callable[..., Served], plain: Made, rpc: Served) -> None:
    taken = rpc.wait_for("started")["grpc_port"]
    for workers in (1, 2):
        with pytest.raises(AssertionError, match="cannot listen"):
            serve(plain.directory, grpc_port=taken, workers=workers)


def test_off_nothing_of_it_is_there(server: Served) -> None:
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text(encoding="utf-8")
    assert "numpy" in mapped
    assert "grpc" not in mapped
    assert "google/" not in mapped


def test_settings() -> None:
    with pytest.raises(SettingsError, match=r"^SERVING_GRPC_PORT: 8080 is the HTTP server's"):
        Settings(grpc_port=8080)
    with pytest.raises(SettingsError, match=r"^SERVING_GRPC_PORT: excludes SERVING_TLS_CERT_FILE"):
        Settings(grpc_port=1, tls_cert_file=Path("c"), tls_key_file=Path("k"))
