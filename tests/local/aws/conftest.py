"""One embedded AWS, with its registry, for all tests of this folder."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[3]
ACCOUNT = "123456789012"
REGION = "us-east-1"


def wait_for(what: Callable[[], Any], seconds: float = 15.0) -> Any:
    """The first true value of `what()`."""
    end = time.monotonic() + seconds
    while not (value := what()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return value


def start(name: str, run_dir: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start `python -m local.<name>`; the process and what its ready file says."""
    command = [sys.executable, "-m", f"local.{name}", "--run-dir", str(run_dir), *arguments]
    # A user's profile must not matter.
    environment = {**os.environ, "AWS_PROFILE": "somebody", "AWS_ACCESS_KEY_ID": "AKIASOMEBODY"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    ready = run_dir / f"{name}.json"
    wait_for(lambda: ready.exists() or process.poll() is not None)
    assert process.poll() is None, (run_dir / f"{name}.log").read_text()
    return process, json.loads(ready.read_text())


class LocalAws:
    """A running server, and short ways to put things there."""

    def __init__(self, run_dir: Path, endpoint: str, registry: str = "") -> None:
        self.run_dir = run_dir
        self.endpoint = endpoint
        self.registry = registry
        self._clients: dict[str, Any] = {}

    def client(self, service: str, **credentials: str) -> Any:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", **credentials}
        if credentials:
            return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, **keys)  # pyright: ignore[reportCallIssue,reportArgumentType]
        if service not in self._clients:
            self._clients[service] = boto3.client(  # pyright: ignore[reportCallIssue]
                service,  # pyright: ignore[reportArgumentType]
                endpoint_url=self.endpoint,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
        return self._clients[service]

    def log(self) -> str:
        return (self.run_dir / "aws.log").read_text()

    def role(self, name: str) -> str:
        iam = self.client("iam")
        try:
            return iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        except iam.exceptions.EntityAlreadyExistsException:
            return iam.get_role(RoleName=name)["Role"]["Arn"]

    def bucket(self, name: str, *, events: bool = False) -> str:
        s3 = self.client("s3")
        s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        if events:
            configuration = {"EventBridgeConfiguration": {}}
            s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=configuration)
        return name

    def function(self, name: str, source: str, *, timeout: int = 10, **variables: str) -> str:
        """A function with this source as `app/handler.py`; its ARN."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("app/__init__.py", "")
            archive.writestr("app/handler.py", source)
        return self.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=self.role(f"{name}-role"),
            Handler="app.handler.handle",
            Code={"ZipFile": buffer.getvalue()},
            Timeout=timeout,
            Environment={"Variables": variables},
        )["FunctionArn"]

    def invoke(self, name: str, event: Any) -> tuple[Any, str | None]:
        """(payload, FunctionError)."""
        answer = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read()), answer.get("FunctionError")

    def rule(
        self, name: str, pattern: dict[str, Any], *targets: dict[str, Any], state: str = "ENABLED"
    ) -> None:
        events = self.client("events")
        events.put_rule(Name=name, EventPattern=json.dumps(pattern), State=state)
        events.put_targets(Rule=name, Targets=[{"Id": str(n), **each} for n, each in enumerate(targets)])

    def queue(self, name: str, **attributes: str) -> tuple[str, str]:
        """(URL, ARN)."""
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        url = self.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def source_archive(self, bucket: str, key: str, **files: str) -> str:
        """A source archive on S3 with `name` → `name.py`; its URI."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(f"{name}.py")
                member.size = len(text.encode())
                tar.addfile(member, io.BytesIO(text.encode()))
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())
        return f"s3://{bucket}/{key}"

    def job_done(self, name: str, seconds: float = 20.0) -> dict[str, Any]:
        """Wait for a training job's end; its description."""

        def ended() -> Any:
            found = self.client("sagemaker").describe_training_job(TrainingJobName=name)
            return found if found["TrainingJobStatus"] in {"Completed", "Failed", "Stopped"} else None

        return wait_for(ended, seconds)


@pytest.fixture(scope="session")
def start_server() -> Callable[[Path], tuple[subprocess.Popen[bytes], LocalAws]]:
    """Starts a server of the test's own."""

    def start_it(run_dir: Path) -> tuple[subprocess.Popen[bytes], LocalAws]:
        process, ready = start("aws", run_dir, "--registry", "127.0.0.1:9")
        return process, LocalAws(run_dir, ready["endpoint"])

    return start_it


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """The server that the tests share; it must end well, too."""
    run_dir = tmp_path_factory.mktemp("aws")
    registry, images = start("registry", run_dir)
    server, ready = start("aws", run_dir, "--registry", images["url"])
    yield LocalAws(run_dir, ready["endpoint"], images["url"])
    for process in (server, registry):
        process.send_signal(signal.SIGTERM)
    assert [process.wait(timeout=5) for process in (server, registry)] == [0, 0]
