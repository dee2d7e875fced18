"""CodeBuild and ECR: sources become an image in the registry, and the APIs tell of it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
import zipfile
from typing import Any

import pytest
import urllib3

DOCKERFILE = """\
# a comment
FROM python:3.13 AS build
ENV STAGE=build
FROM python:3.13
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH \\
    PYTHONUNBUFFERED=1 \\
    OMP_NUM_THREADS=1
WORKDIR /app
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["python", "-m", "serving"]
"""


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, text in files.items():
            target.writestr(name, text)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def project(aws: Any) -> Any:
    """The repository's record; the project `server` builds into it."""
    aws.bucket("sources")
    files = {"Dockerfile": DOCKERFILE, "serving/__main__.py": "print(1)", "bundle/format.py": "x = 1"}
    aws.client("s3").put_object(Bucket="sources", Key="server.zip", Body=archive(**files))
    repository = aws.client("ecr").create_repository(
        repositoryName="stack/server", imageTagMutability="IMMUTABLE"
    )["repository"]
    aws.client("codebuild").create_project(
        name="server",
        source={"type": "S3", "location": "sources/server.zip"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "standard",
            "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": [{"name": "REPOSITORY_URI", "value": repository["repositoryUri"]}],
        },
        serviceRole=aws.role("build"),
    )
    return repository


def build(aws: Any, tag: str, **rest: Any) -> dict[str, Any]:
    client = aws.client("codebuild")
    variables = [{"name": "IMAGE_TAG", "value": tag, "type": "PLAINTEXT"}]
    started = client.start_build(projectName="server", environmentVariablesOverride=variables, **rest)[
        "build"
    ]
    assert started["buildStatus"] == "IN_PROGRESS"
    end = time.monotonic() + 10
    while time.monotonic() < end:
        (found,) = client.batch_get_builds(ids=[started["id"]])["builds"]
        if found["buildStatus"] != "IN_PROGRESS":
            return found
        time.sleep(0.05)
    raise TimeoutError


def fetch(aws: Any, path: str) -> bytes:
    answer = urllib3.request("GET", f"http://{aws.registry}/v2/{path}")
    assert answer.status == 200, answer.data
    return answer.data


def test_an_image_of_the_sources(aws: Any, project: dict[str, Any]) -> None:
    assert project["repositoryUri"] == f"{aws.registry}/stack/server"
    ecr = aws.client("ecr")
    identifiers: dict[str, Any] = {"repositoryName": "stack/server", "imageIds": [{"imageTag": "hash-1"}]}
    with pytest.raises(ecr.exceptions.ImageNotFoundException):
        ecr.describe_images(**identifiers)
    _, events = aws.queue("builds")
    aws.rule("builds", {"source": ["aws.codebuild"], "detail": {"project-name": ["server"]}}, {"Arn": events})

    assert build(aws, "hash-1", idempotencyToken="hash-1")["buildStatus"] == "SUCCEEDED"
    again = aws.client("codebuild").start_build(projectName="server", idempotencyToken="hash-1")["build"]
    assert again["buildStatus"] == "SUCCEEDED", "the same token is the same build"

    (described,) = ecr.describe_images(**identifiers)["imageDetails"]
    (image,) = ecr.batch_get_image(**identifiers)["images"]
    manifest = json.loads(image["imageManifest"])
    assert manifest == json.loads(fetch(aws, "stack/server/manifests/hash-1"))
    assert described["imageDigest"] == image["imageId"]["imageDigest"]
    config = json.loads(fetch(aws, f"stack/server/blobs/{manifest['config']['digest']}"))
    assert config["config"]["Entrypoint"] == ["python", "-m", "serving"]
    assert config["config"]["Env"] == ["PYTHONUNBUFFERED=1", "OMP_NUM_THREADS=1"]
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["WorkingDir"] == "/app"
    assert "without a base system" in config["config"]["Labels"]["trainserve.built"]
    layer = fetch(aws, f"stack/server/blobs/{manifest['layers'][0]['digest']}")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tar:
        assert tar.getnames() == ["app/bundle/format.py", "app/serving/__main__.py"]

    client = aws.client("sqs")
    url = client.get_queue_url(QueueName="builds")["QueueUrl"]
    received: list[dict[str, Any]] = []
    end = time.monotonic() + 5
    while len(received) < 2 and time.monotonic() < end:
        found = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        received += [json.loads(each["Body"])["detail"] for each in found]
    assert [each["build-status"] for each in received] == ["IN_PROGRESS", "SUCCEEDED"]
    variables = received[1]["additional-information"]["environment"]["environment-variables"]
    assert {"name": "IMAGE_TAG", "value": "hash-1", "type": "PLAINTEXT"} in variables


def test_the_same_sources_are_the_same_image(aws: Any, project: dict[str, Any]) -> None:
    del project
    assert build(aws, "hash-2")["buildStatus"] == "SUCCEEDED"
    assert build(aws, "hash-3")["buildStatus"] == "SUCCEEDED"
    ecr = aws.client("ecr")
    digests = {
        ecr.describe_images(repositoryName="stack/server", imageIds=[{"imageTag": tag}])["imageDetails"][0][
            "imageDigest"
        ]
        for tag in ("hash-2", "hash-3")
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("sources/none.zip", "NoSuchKey"),
        ("sources/bad.zip", "not a zip file"),
        ("sources/empty.zip", "no Dockerfile"),
    ],
)
def test_a_failed_build_says_why(aws: Any, project: dict[str, Any], location: str, message: str) -> None:
    del project
    aws.client("s3").put_object(Bucket="sources", Key="bad.zip", Body=b"bad")
    aws.client("s3").put_object(Bucket="sources", Key="empty.zip", Body=archive(x="y"))
    failed = build(aws, "never", sourceLocationOverride=location)
    assert failed["buildStatus"] == "FAILED"
    assert message in str(failed["phases"][-1]["contexts"])


def test_the_registry_login(aws: Any) -> None:
    (found,) = aws.client("ecr").get_authorization_token()["authorizationData"]
    assert found["authorizationToken"]
