"""Capture by a real server: what is written of requests, under which names, and what is left out."""

import json
import re
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import settings, subjects
from tests.serving.capture_support import captured, data, metric, wait_until
from tests.serving.serving_support import Client, Made, Served, csv_body, make_bundle

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
SECRET = "c0ffee" * 8


def attributes(record: dict[str, Any]) -> list[str]:
    found: list[str] = record["eventMetadata"]["customAttributes"]
    return found


def test_a_record_is_as_sagemakers(serve: Callable[..., Served], plain: Made, tmp_path: Path) -> None:
    served = serve(plain.directory, capture_to=tmp_path / "to")
    served.wait_for("ready")
    body = csv_body(plain.rows[:2])
    own = {
        "X_Amzn_SageMaker_Inference_Id": 'order-7"%s',
        "X_Amzn_SageMaker_Custom_Attributes": "a=1,\\b",
        "X_Request_Id": "abc-1",
    }
    with Client(served.port) as client:
        answer = client.ask("POST", "/invocations", body, "Text/CSV; charset=utf-8", Accept="*/*", **own)
        client.ask("POST", "/invocations", body, "text/csv")
        # What is refused has no prediction.
        assert client.ask("POST", "/invocations", b"1,x", "text/csv").status == 400
    assert served.terminate() == 0
    record, other = captured(tmp_path / "to")
    metadata = record["eventMetadata"]
    assert record == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "Text/CSV; charset=utf-8",
                "mode": "INPUT",
                "data": body.decode(),
                "encoding": "CSV",
            },
            "endpointOutput": {
                "observedContentType": "text/csv",
                "mode": "OUTPUT",
                "data": answer.body.decode(),
                "encoding": "CSV",
            },
        },
        "eventMetadata": {
            "eventId": metadata["eventId"],
            "customAttributes": [
                "model=flights",
                "version=v1",
                f"digest={answer.headers['x-model-digest']}",
                "request=abc-1",
                "a=1,\\b",
            ],
            "inferenceTime": metadata["inferenceTime"],
            "inferenceId": 'order-7"%s',
        },
        "eventVersion": "0",
    }
    assert UUID.fullmatch(metadata["eventId"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["inferenceTime"])
    assert metadata["eventId"] != other["eventMetadata"]["eventId"]
    assert set(other["eventMetadata"]) == {"eventId", "customAttributes", "inferenceTime"}
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "to").rglob("*.jsonl")}
    assert modes == {0o600}


def test_every_protocol_and_size(
    serve: Callable[..., Served], plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")  # names and times are in UTC all the same
    served = serve(plain.directory, capture_to=tmp_path / "to")
    served.wait_for("ready")
    rows = [[0.5 if value is None else value for value in row] for row in plain.rows]
    matrix = np.array(rows[:3], dtype="<f4")
    sent: list[tuple[bytes, bytes, str, str]] = []

    with Client(served.port) as client:

        def post(path: str, body: bytes, kind: str, encodings: str, **headers: str) -> None:
            answer = client.ask("POST", path, body, kind, **headers)
            assert answer.status == 200, answer.body
            into, out = encodings.split()
            sent.append((body, answer.body, into, out))

        tensor = {"name": "größe", "shape": [3, 3], "datatype": "FP32", "data": matrix.ravel().tolist()}
        binary = {**tensor, "parameters": {"binary_data_size": matrix.nbytes}}
        del binary["data"]
        head = json.dumps({"inputs": [binary], "parameters": {"binary_data_output": True}}).encode()
        length = {"Inference_Header_Content_Length": str(len(head))}
        for kind in ("application/json", ""):
            body = json.dumps({"id": "ü", "inputs": [tensor]}, ensure_ascii=False).encode()
            post("/v2/models/flights/infer", body, kind, "JSON JSON")
        binary_body = head + matrix.tobytes()
        post("/v2/models/flights/infer", binary_body, "application/octet-stream", "BASE64 BASE64", **length)
        instances = json.dumps({"instances": rows[:2]}).encode()
        post("/invocations", instances, "application/json", "JSON CSV", Accept="text/csv")
        for count in (1, 40, 9000):  # the last one is read, and written down, in pieces
            post("/invocations", csv_body((plain.rows * 40)[:count]) + b"\r\n", "text/csv", "CSV CSV")
            post("/invocations", json.dumps((rows * 40)[:count]).encode(), "application/json", "JSON JSON")
    assert served.terminate() == 0
    records = captured(tmp_path / "to")
    found = [
        (
            data(record, "endpointInput"),
            data(record, "endpointOutput"),
            *(record["captureData"][side]["encoding"] for side in ("endpointInput", "endpointOutput")),
        )
        for record in records
    ]
    assert Counter(found) == Counter(sent)
    (answered,) = [answer for _, answer, *encodings in found if encodings == ["BASE64", "BASE64"]]
    assert struct.unpack("<3f", answered[-12:]) == pytest.approx(plain.expected[:3].tolist(), abs=1)


def test_a_subject_is_hashed_and_never_written(
    serve: Callable[..., Served], plain: Made, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text(f"{SECRET}\n", encoding="utf-8")
    served = serve(
        plain.directory,
        capture_to=tmp_path / "to",
        subject_key_file=key,
        log_level="debug",
        log_requests="on",
    )
    served.wait_for("ready")
    with Client(served.port) as client:
        for name in ("alice@example.com", "bob", "alice@example.com"):
            client.ask("POST", "/invocations", csv_body(plain.rows[:1]), "text/csv", X_Subject_Id=name)
        client.ask("POST", "/invocations", csv_body(plain.rows[:1]), "text/csv")
    assert served.terminate() == 0
    found = [
        [text for text in attributes(record) if "subject" in text] for record in captured(tmp_path / "to")
    ]
    alice, bob = (subjects.hashed(SECRET.encode(), name) for name in (b"alice@example.com", b"bob"))
    # As OpenSSL has it: whoever looks for a subject needs the file's text and nothing of this code.
    assert bob == "df5ca03815df7ba889550be90214cac6d8d85a54b79d3e6f1e78d01b51bf2f78"
    assert found == [[f"subject={alice}"], [f"subject={bob}"], [f"subject={alice}"], []]
    written = b"".join(path.read_bytes() for path in (tmp_path / "to").rglob("*.jsonl"))
    for secret in (b"alice", b"bob", SECRET.encode()):
        assert secret not in written
        assert secret not in served.log_path.read_bytes()


def test_without_a_key_no_subject_is_written(
    serve: Callable[..., Served], plain: Made, tmp_path: Path
) -> None:
    served = serve(plain.directory, capture_to=tmp_path / "to", subject_header="X-Customer")
    served.wait_for("ready")
    with Client(served.port) as client:
        for name in ("alice", "bob"):
            client.ask("POST", "/invocations", csv_body(plain.rows[:1]), "text/csv", X_Customer=name)
    assert served.terminate() == 0
    assert [len(attributes(record)) for record in captured(tmp_path / "to")] == [3, 3]
    warnings = [event for event in served.events() if event["level"] == "warning"]
    assert [event["event"] for event in warnings] == ["no subject is captured"]
    assert "SERVING_SUBJECT_KEY_FILE" in warnings[0]["reason"]


def test_the_shadows_predictions_are_captured_beside_the_answers(
    serve: Callable[..., Served], plain: Made, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    challenger = make_bundle(root / "challenger", version="v2")
    (root / "champion").symlink_to(plain.directory)
    # Traces give ids to requests without one; that nobody takes them changes nothing.
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_SAMPLER": "always_on"}
    served = serve(
        root,
        traced,
        models_dir=root,
        default_model="champion",
        shadow="challenger",
        capture_to=tmp_path / "to",
        capture_percentage=50,
        log_requests="on",
    )
    served.wait_for("ready")
    large = plain.rows * 15
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]})
    with Client(served.port) as client:
        for _ in range(60):
            # The next request takes this one's place in memory, and must have nothing of it.
            client.ask("POST", "/models/challenger/invoke", csv_body(plain.rows[:1]), "text/csv")
            answer = client.ask("POST", "/invocations", csv_body(plain.rows[:2]), "text/csv")
            assert answer.headers["x-model-version"] == "v1"
            client.ask("POST", "/v2/models/champion/infer", body.encode(), "application/json")
        for _ in range(8):
            client.ask("POST", "/invocations", csv_body(large), "text/csv")
    assert served.terminate() == 0
    records = captured(tmp_path / "to")
    shadows = {r["eventMetadata"]["eventId"]: r for r in records if "shadow=true" in attributes(r)}
    answered = [r for r in records if "version=v1" in attributes(r)]
    own = [r for r in records if "version=v2" in attributes(r) and "shadow=true" not in attributes(r)]
    assert 30 < len(answered) < 100
    assert len(answered) == len(shadows)
    assert 10 < len(own) < 50
    for record in answered:
        shadow = shadows[record["eventMetadata"]["eventId"]]
        assert data(shadow, "endpointInput") == data(record, "endpointInput")
        assert attributes(shadow)[1] == "version=v2"
        assert attributes(shadow)[-1].startswith("request=")
        assert attributes(shadow)[-1] == attributes(record)[-1]
        output = shadow["captureData"]["endpointOutput"]
        assert (output["observedContentType"], output["encoding"]) == ("text/csv", "CSV")
    twos = [shadow for shadow in shadows.values() if len(data(shadow, "endpointOutput").splitlines()) == 2]
    assert twos
    for shadow in twos:
        values = [float(line) for line in data(shadow, "endpointOutput").splitlines()]
        np.testing.assert_allclose(values, challenger.expected[:2], rtol=0, atol=1e-6)
    assert {path.name for path in (tmp_path / "to" / "flights").iterdir()} == {"champion", "challenger"}


@pytest.mark.parametrize("percentage", [0, 30])
def test_a_sample(serve: Callable[..., Served], plain: Made, tmp_path: Path, percentage: int) -> None:
    served = serve(plain.directory, capture_to=tmp_path / "to", capture_percentage=percentage)
    served.wait_for("ready")
    with Client(served.port) as client:
        for _ in range(400):
            client.ask("POST", "/invocations", csv_body(plain.rows[:1]), "text/csv")
    assert served.terminate() == 0
    count = len(captured(tmp_path / "to"))
    assert count == 0 if percentage == 0 else 70 < count < 180


def test_records_are_written_while_the_server_runs(
    serve: Callable[..., Served], plain: Made, tmp_path: Path
) -> None:
    served = serve(plain.directory, capture_to=tmp_path / "to", capture_flush_seconds=0.1)
    served.wait_for("ready")
    with Client(served.port) as client:
        for count in (1, 2):
            client.ask("POST", "/invocations", csv_body(plain.rows[:1]), "text/csv")
            wait_until(lambda count=count: len(captured(tmp_path / "to")) == count)
    assert metric(served.port, 'trainserve_captures_total{model="flights",variant="AllTraffic"}') == 2
    wait_until(lambda: metric(served.port, 'trainserve_capture_objects_total{result="written"}') == 2)
    assert metric(served.port, "trainserve_capture_waiting_bytes") == 0


def test_a_full_disk_stops_no_request(serve: Callable[..., Served], plain: Made, tmp_path: Path) -> None:
    blocked = tmp_path / "to"
    blocked.write_text("a file where the directory should be")
    served = serve(plain.directory, capture_to=blocked, capture_flush_seconds=0.1)
    served.wait_for("ready")
    with Client(served.port) as client:
        assert client.ask("POST", "/invocations", csv_body(plain.rows[:1]), "text/csv").status == 200
        assert served.wait_for("captures are not written")["waiting_bytes"] > 0
        blocked.unlink()
        served.wait_for("captures are written again")
    assert len(captured(blocked)) == 1
    assert metric(served.port, 'trainserve_capture_objects_total{result="failed"}') >= 1


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"CAPTURE_TO": "captures"}, "absolute path"),
        ({"CAPTURE_TO": "s3://A"}, "s3://bucket/prefix"),
        ({"CAPTURE_PERCENTAGE": "101"}, "from 0.0 to 100.0"),
        ({"CAPTURE_MEMORY_BYTES": "2048"}, "at least SERVING_CAPTURE_FLUSH_BYTES"),
        ({"SUBJECT_HEADER": "X Subject"}, "a header's name"),
    ],
)
def test_settings_that_cannot_be_used(variables: dict[str, str], reason: str) -> None:
    with pytest.raises(settings.SettingsError, match=reason):
        settings.from_environment({f"SERVING_{name}": value for name, value in variables.items()})


def test_a_key_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    key = tmp_path / "key"
    chosen = settings.Settings(capture_to="/captures", subject_key_file=key)
    with pytest.raises(settings.SettingsError, match="No such file"):
        subjects.read_key(chosen)
    key.write_text("short")
    with pytest.raises(settings.SettingsError, match="at least 16 bytes"):
        subjects.read_key(chosen)
    assert subjects.read_key(settings.Settings(subject_key_file=key)) is None  # nothing is captured
