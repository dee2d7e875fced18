"""Captures on S3: written with a pod's credentials, kept while S3 fails, dropped where memory ends."""

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.serving.capture_support import KEY, FakeS3, metric, wait_until
from tests.serving.serving_support import Client, Made, Served, csv_body

TO = "s3://captured/captures"


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    fake = FakeS3()
    yield fake
    fake.stop()


def ask(served: Served, made: Made, times: int, rows: int = 1) -> None:
    body = csv_body(made.rows[:rows])
    with Client(served.port) as client:
        for _ in range(times):
            assert client.ask("POST", "/invocations", body, "text/csv").status == 200


def dropped(served: Served, reason: str) -> float:
    return metric(served.port, f'trainserve_captures_dropped_total{{reason="{reason}"}}')


def test_what_waits_at_the_end_is_written(serve: Callable[..., Served], plain: Made) -> None:
    moto = ThreadedMotoServer(port=0)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        access = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-west-1"}
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **access)
        client.create_bucket(Bucket="captured", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        variables = {name.upper(): value for name, value in access.items()}
        variables |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "eu-west-1"}
        served = serve(plain.directory, variables, capture_to=f"{TO}/", capture_flush_bytes=4096)
        served.wait_for("ready")
        ask(served, plain, 25)
        wait_until(lambda: metric(served.port, 'trainserve_capture_objects_total{result="written"}') >= 1)
        ask(served, plain, 5)
        assert served.terminate() == 0
        keys = [item["Key"] for item in client.list_objects_v2(Bucket="captured")["Contents"]]
        assert all(key.startswith("captures/") and KEY.fullmatch(key[len("captures/") :]) for key in keys)
        bodies = [client.get_object(Bucket="captured", Key=key)["Body"].read() for key in keys]
        assert sum(body.count(b"\n") for body in bodies) == 30
        assert len(keys) > 1
    finally:
        moto.stop()


def test_a_pods_own_credentials(
    serve: Callable[..., Served], plain: Made, s3: FakeS3, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("of-the-pod", encoding="utf-8")
    variables = {
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_REGION": "eu-west-1",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{s3.url}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
    }
    served = serve(plain.directory, variables, capture_to=TO)
    served.wait_for("ready")
    ask(served, plain, 3)
    assert served.terminate() == 0
    assert len(s3.records()) == 3
    assert (s3.credentials_asked, s3.signed_with) == (["of-the-pod"], {"pod"})


def test_nothing_is_lost_while_s3_fails(serve: Callable[..., Served], plain: Made, s3: FakeS3) -> None:
    s3.mode = "fail"
    served = serve(plain.directory, s3.environment(), capture_to=TO, capture_flush_seconds=0.1)
    served.wait_for("ready")
    ask(served, plain, 20)
    assert "503" in served.wait_for("captures are not written")["reason"]
    ask(served, plain, 20)
    wait_until(lambda: metric(served.port, 'trainserve_capture_objects_total{result="failed"}') >= 2)
    s3.mode = "take"
    wait_until(lambda: len(s3.records()) == 40)
    ids = {record["eventMetadata"]["eventId"] for record in s3.records()}
    assert len(ids) == 40
    wait_until(lambda: metric(served.port, "trainserve_capture_waiting_bytes") == 0)
    assert dropped(served, "memory") == 0
    assert served.terminate() == 0


def test_memory_is_bounded_while_s3_hangs(serve: Callable[..., Served], plain: Made, s3: FakeS3) -> None:
    s3.mode = "hang"
    served = serve(
        plain.directory,
        s3.environment(),
        capture_to=TO,
        capture_flush_seconds=0.1,
        capture_flush_bytes=50_000,
        capture_memory_bytes=1_000_000,
    )
    served.wait_for("ready")
    ask(served, plain, 20)
    before = metric(served.port, "process_resident_memory_bytes")
    ask(served, plain, 300, rows=300)
    ask(served, plain, 2, rows=5000)

    def taken() -> float:
        return metric(served.port, 'trainserve_captures_total{model="flights",variant="AllTraffic"}')

    # The last are told a little later than they are answered.
    wait_until(lambda: taken() + dropped(served, "memory") == 322)
    assert 900_000 < metric(served.port, "trainserve_capture_waiting_bytes") <= 1_000_000
    assert dropped(served, "memory") > 100
    # The records, the library for S3, and what the server keeps of requests in any case.
    assert metric(served.port, "process_resident_memory_bytes") - before < 40e6
    # The end comes in time all the same, and what is lost is said.
    waiting = taken()
    assert served.terminate() == 0
    assert served.wait_for("captures lost")["records"] == waiting
