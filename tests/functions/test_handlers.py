"""The entry points: events in, JSON out, and nothing heavy at import."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

import empty_registry.handler
import release_model.handler
import start_build.handler
import start_training.handler
from common.aws import client
from start_training.trainer import Trainer
from tests.functions.world import ARTIFACTS, DATA, MODEL, World, event, sqs_batch

CONTEXT: Any = SimpleNamespace(
    function_name="f", memory_limit_in_mb=128, invoked_function_arn="arn:f", aws_request_id="1"
)


@pytest.fixture(autouse=True)
def _use_world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "world" in request.fixturenames:
        world: World = request.getfixturevalue("world")
        for module in (release_model.handler, start_training.handler):
            monkeypatch.setattr(module, "services", lambda: world.services)


def _start(body: Any) -> Any:
    return start_training.handler.handle(sqs_batch(body) if isinstance(body, list) else body, CONTEXT)


def test_a_burst_of_uploads_makes_one_job(world: World) -> None:
    for number in range(20):
        world.upload(f"{number}.csv")
    messages = [event("s3_object_created") for _ in range(10)]
    assert _start(messages) == {"batchItemFailures": []}
    assert _start(messages) == {"batchItemFailures": []}
    assert _start(event("training_requested"))["reason"].endswith("is in progress; its release asks again")
    (job,) = world.jobs()
    found = client("sagemaker").describe_training_job(TrainingJobName=job)
    uri = found["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    listed = client("s3").get_object(Bucket=ARTIFACTS, Key=uri.split("/", 3)[3])["Body"].read()
    prefix, *paths = json.loads(listed)
    assert prefix == {"prefix": f"s3://{DATA}/"}
    assert len(paths) == 20
    for path in paths:
        client("s3").head_object(Bucket=DATA, Key=path)
    manifest = world.services.documents.dataset(found["HyperParameters"]["manifest_uri"])
    assert manifest.digest == found["HyperParameters"]["dataset_hash"]


def test_an_upload_during_a_job_is_trained_on_after_it(world: World) -> None:
    world.upload("a.csv")
    first = _start(event("training_requested"))["job"]
    world.upload("b.csv")
    assert _start(event("s3_object_created"))["job"] is None
    world.release(world.train(first))
    (asked,) = world.messages()
    second = _start({"source": "trainserve", "detail-type": "Training Requested", "detail": asked})["job"]
    assert second not in {None, first}


def test_other_files_are_refused_with_a_reason(world: World) -> None:
    version = world.upload("notes.txt")
    for _ in range(2):
        assert _start(event("training_requested"))["reason"] == "nothing is pending"
    assert world.record(f"refused#incoming/flights/notes.txt#{version}")["reason"].startswith("only .csv")


def test_a_message_that_fails_comes_again_and_the_others_do_not(world: World) -> None:
    world.upload("a.csv")
    other = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"object": {"key": "bootstrap/x"}},
    }
    unknown = {"source": "trainserve", "detail-type": "Training Requested", "detail": {"model": "unknown"}}
    answer = _start([event("training_requested"), "{", other, unknown])
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m3"}]}
    assert len(world.jobs()) == 1
    assert _start(other) == {"job": None, "reason": "ignored"}


def test_the_sqs_fixture_is_a_batch(world: World) -> None:
    world.upload("a.csv")
    assert start_training.handler.handle(event("sqs_batch"), CONTEXT) == {"batchItemFailures": []}
    assert len(world.jobs()) == 1


def test_a_job_whose_release_never_came_is_tried_again_in_the_end(world: World) -> None:
    world.upload("a.csv")
    first = Trainer(world.services, MODEL).run([]).job
    world.services.skew = 1000
    second = Trainer(world.services, MODEL).run([]).job
    assert first
    assert second == first[:-1] + "2"


def test_releases_wait_for_nothing_but_the_lease(world: World) -> None:
    happened = world.train("ts-dev--flights-0123abcd-1")
    payload = {"step": "plan", "event": happened, "execution": "e", "started": "s"}
    (item,) = release_model.handler.handle(payload, CONTEXT)["releases"]
    assert release_model.handler.handle({"step": "claim", "release": item}, CONTEXT)["next"] == "verify"
    world.upload("a.csv")
    assert (
        _start(event("training_requested"))["reason"] == "a release is under way and asks again when it ends"
    )
    with pytest.raises(ValueError, match="unknown step 'dance'"):
        release_model.handler.handle({"step": "dance", "release": item}, CONTEXT)


class _Builds:
    """CodeBuild, as far as it is called."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []

    def start_build(self, **request: Any) -> dict[str, Any]:
        self.started.append(request)
        return {"build": {"id": "server:1"}}


@pytest.fixture
def builds(aws: None, monkeypatch: pytest.MonkeyPatch) -> _Builds:
    fake = _Builds()
    real = client
    boto3.client("ecr").create_repository(repositoryName="server")
    monkeypatch.setenv("PROJECT_NAME", "server")
    monkeypatch.setenv("REPOSITORY_NAME", "server")

    def either(name: str) -> Any:
        return fake if name == "codebuild" else real(name)

    monkeypatch.setattr(start_build.handler, "client", either)
    return fake


@pytest.mark.parametrize("source", [{"bucket": "b", "key": "k/s.zip"}, {"source_uri": "s3://b/k/s.zip"}])
def test_a_build_is_started_for_a_new_source(builds: _Builds, source: dict[str, str]) -> None:
    answer = start_build.handler.handle({"source_hash": "1234", **source}, CONTEXT)
    assert answer == {"started": True, "image_tag": "1234", "build_id": "server:1"}
    (request,) = builds.started
    assert request["sourceLocationOverride"] == "b/k/s.zip"
    assert request["environmentVariablesOverride"] == [
        {"name": "IMAGE_TAG", "value": "1234", "type": "PLAINTEXT"}
    ]


def test_no_build_is_started_for_an_image_that_exists(builds: _Builds) -> None:
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"})
    boto3.client("ecr").put_image(repositoryName="server", imageManifest=manifest, imageTag="1234")
    answer = start_build.handler.handle({"source_hash": "1234", "bucket": "b", "key": "k"}, CONTEXT)
    assert answer == {"started": False, "image_tag": "1234", "reason": "the image exists"}
    assert builds.started == []


@pytest.mark.parametrize(
    "bad", [{}, {"source_hash": "a b"}, {"source_hash": "1"}, {"source_hash": "1", "bucket": "b"}]
)
def test_a_build_of_nothing_is_an_error(builds: _Builds, bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="source"):
        start_build.handler.handle(bad, CONTEXT)


@pytest.mark.parametrize("function", ["start_training", "release_model", "start_build"])
def test_importing_a_function_makes_no_client_and_loads_no_sdk(function: str) -> None:
    code = f"import sys, {function}.handler; print([m for m in ('boto3', 'numpy') if m in sys.modules])"
    root = Path(start_training.handler.__file__).parents[2]
    path = {"PYTHONPATH": f"{root / 'functions'}:{root / 'training'}", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("action", [None, "create", "update"])
def test_a_registry_stays_until_its_end(action: str | None) -> None:
    asked = {"group": "g"} | ({"tf": {"action": action}} if action else {})
    assert empty_registry.handler.handle(asked, CONTEXT) == {"group": "g", "deleted": 0}


def test_a_registry_is_emptied_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    sagemaker = boto3.client("sagemaker")
    pages = [
        [f"arn:aws:sagemaker:us-east-1:123456789012:model-package/g/{n}" for n in page]
        for page in ([2, 1], [3])
    ]
    listed = {"ModelPackageGroupName": "g", "MaxResults": 100}
    with Stubber(sagemaker) as stub:
        for arns in [*pages, []]:
            found = [
                {
                    "ModelPackageName": arn,
                    "ModelPackageArn": arn,
                    "CreationTime": datetime.now(UTC),
                    "ModelPackageStatus": "Completed",
                }
                for arn in arns
            ]
            stub.add_response("list_model_packages", {"ModelPackageSummaryList": found}, listed)
            for arn in arns:
                stub.add_response("delete_model_package", {}, {"ModelPackageName": arn})
        monkeypatch.setattr(empty_registry.handler, "client", {"sagemaker": sagemaker}.get)
        asked = {"group": "g", "tf": {"action": "delete", "prev_input": None}}
        assert empty_registry.handler.handle(asked, CONTEXT) == {"group": "g", "deleted": 3}
        stub.assert_no_pending_responses()


def test_a_registry_that_somebody_deleted_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    sagemaker = boto3.client("sagemaker")
    with Stubber(sagemaker) as stub:
        stub.add_client_error(
            "list_model_packages", "ValidationException", "ModelPackageGroup g does not exist"
        )
        stub.add_client_error("list_model_packages", "ThrottlingException", "Rate exceeded")
        monkeypatch.setattr(empty_registry.handler, "client", {"sagemaker": sagemaker}.get)
        asked = {"group": "g", "tf": {"action": "delete"}}
        assert empty_registry.handler.handle(asked, CONTEXT)["deleted"] == 0
        with pytest.raises(ClientError, match="Rate exceeded"):
            empty_registry.handler.handle(asked, CONTEXT)


def test_a_registry_has_a_name() -> None:
    with pytest.raises(ValueError, match="want group"):
        empty_registry.handler.handle({"tf": {"action": "delete"}}, CONTEXT)
