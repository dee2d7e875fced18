"""boto3's own client of SageMaker's runtime, which knows nothing of this server, gets what it wants."""

import json
import shutil
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import boto3
import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.serving.serving_support import Client, Made, Served, csv_body, make_bundle

ROW = b"1.5,200,7"


@contextmanager
def runtime(served: Served) -> Generator[Any]:
    client = cast("Any", boto3).client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{served.port}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


@pytest.fixture(scope="module")
def sagemaker(server: Served) -> Iterator[Any]:
    with runtime(server) as client:
        yield client


@pytest.fixture(scope="module")
def several(plain: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two variants, of which the second gets a quarter."""
    root = tmp_path_factory.mktemp("variants")
    shutil.copytree(plain.directory, root / "champion")
    make_bundle(root / "challenger", version="v2")
    served = Served(root, root.parent / f"{root.name}.log", models_dir=root, split="champion=3,challenger=1")
    served.wait_for("ready")
    yield served
    served.kill()


def refusal(sagemaker: Any, **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        sagemaker.invoke_endpoint(
            **{"EndpointName": "flights", "Body": ROW, "ContentType": "text/csv"} | arguments
        )
    return cast("dict[str, Any]", caught.value.response)


@pytest.mark.parametrize("name", ["flights", "any-other-name"])
def test_predictions(sagemaker: Any, plain: Made, name: str) -> None:
    for _ in range(2):
        answer = sagemaker.invoke_endpoint(
            EndpointName=name, Body=csv_body(plain.rows), ContentType="text/csv", CustomAttributes="id=7; x"
        )
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert answer["ContentType"] == "text/csv"
        assert answer["InvokedProductionVariant"] == "flights"
        assert answer["CustomAttributes"] == "id=7; x"
        found = [float(line) for line in answer["Body"].read().split()]
        np.testing.assert_allclose(found, plain.expected, rtol=0, atol=1e-6)
    answer = sagemaker.invoke_endpoint(
        EndpointName=name,
        Body=json.dumps({"instances": plain.rows[:50]}),
        ContentType="application/json",
        Accept="application/json",
        InferenceId="1",
    )
    assert answer["ContentType"] == "application/json"
    assert "CustomAttributes" not in answer
    found = json.loads(answer["Body"].read())["predictions"]
    np.testing.assert_allclose(found, plain.expected[:50], rtol=0, atol=1e-6)


def test_variants(several: Served) -> None:
    found = Counter[tuple[str, str]]()
    with runtime(several) as sagemaker:
        for _ in range(80):
            answer = sagemaker.invoke_endpoint(EndpointName="e", Body=ROW, ContentType="text/csv")
            assert len(answer["Body"].read().split()) == 1
            version = answer["ResponseMetadata"]["HTTPHeaders"]["x-model-version"]
            found[answer["InvokedProductionVariant"], version] += 1
        assert set(found) == {("champion", "v1"), ("challenger", "v2")}
        assert found["champion", "v1"] > found["challenger", "v2"]
        for key in ("TargetVariant", "TargetModel", "InferenceComponentName"):
            answer = sagemaker.invoke_endpoint(
                EndpointName="e", Body=ROW, ContentType="text/csv", **{key: "challenger"}
            )
            assert len(answer["Body"].read().split()) == 1
            assert answer["InvokedProductionVariant"] == "challenger"
        refused = refusal(sagemaker, TargetVariant="other")
        assert refused["Error"]["Code"] == "ValidationError"
        refused = refusal(sagemaker, TargetVariant="champion", TargetModel="challenger")
        assert "different models" in refused["Error"]["Message"]


def test_what_the_model_refuses(sagemaker: Any) -> None:
    refused = refusal(sagemaker, Body=b"1,2,3\n1,x,3")
    assert refused["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert refused["Error"]["Code"] == "ModelError"
    assert "row 2, column 'distance': 'x' is not a number" in refused["Error"]["Message"]
    assert refused["OriginalStatusCode"] == 400
    assert json.loads(refused["OriginalMessage"])["row"] == 2
    with pytest.raises(sagemaker.exceptions.ModelError):
        sagemaker.invoke_endpoint(EndpointName="e", Body=b"x" * 70_000, ContentType="text/csv")
    assert refusal(sagemaker, ContentType="text/html")["OriginalStatusCode"] == 415


def test_what_is_not_offered(sagemaker: Any) -> None:
    for arguments in (
        {"EnableExplanations": "true"},
        {"SessionId": "NEW_SESSION"},
        {"TargetContainerHostname": "other"},
        {"TargetModel": "other"},
        {"CustomAttributes": "\x7f"},
    ):
        refused = refusal(sagemaker, **arguments)
        assert refused["ResponseMetadata"]["HTTPStatusCode"] == 400
    with pytest.raises(ClientError, match="only InvokeEndpoint is offered"):
        sagemaker.invoke_endpoint_with_response_stream(EndpointName="e", Body=ROW)
    with pytest.raises(ClientError, match="only InvokeEndpoint is offered"):
        sagemaker.invoke_endpoint_async(EndpointName="e", InputLocation="s3://b/k")


def test_no_model_yet(tmp_path: Path, serve: Any) -> None:
    served = serve(tmp_path)
    served.wait_for("not ready")
    with runtime(served) as sagemaker:
        refused = refusal(sagemaker)
    assert refused["Error"] == {"Code": "ServiceUnavailable", "Message": "no model released yet"}


def test_every_refusal_has_this_servers_reason_too(server: Served) -> None:
    with Client(server.port) as client:
        path = "/endpoints/a/invocations"
        answer = client.ask("POST", path, b"1,2,x", "text/csv")
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (424, "ModelError")
        assert answer.error == "row 1, column 'hour': 'x' is not a number"
        assert client.ask("GET", path).headers["allow"] == "POST"
        assert client.ask("POST", "/endpoints/a/other").status == 404
        assert client.ask("POST", "/endpoints/a/b/invocations").status == 404
        text = client.ask("GET", "/metrics").body.decode()
        assert 'trainserve_requests_total{route="invocations",status="424"}' in text
