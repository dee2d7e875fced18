"""A whole stack for the functions: moto, a registry, a cluster, and a driver of the state machine."""

import io
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bundle import format as bundle_format
from common.aws import client
from common.errors import Conflict
from common.kubernetes import Kubernetes
from common.registry import OCI_MANIFEST
from common.services import Services
from common.settings import Environment
from common.state import Item, StateTable
from release_model import handler
from tests.functions.fakes import FakeCluster, FakeRegistry

STACK, MODEL = "dev", "flights"
DATA, ARTIFACTS, TABLE = "data-bucket", "artifact-bucket", "state"
EVENTS = Path(__file__).parent / "events"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
ROLE = "arn:aws:iam::123456789012:role/training"
_MACHINE = Path(handler.__file__).with_name("state_machine.asl.json")


def event(name: str) -> dict[str, Any]:
    return json.loads((EVENTS / f"{name}.json").read_text())


def state_machine() -> dict[str, Any]:
    return json.loads(_MACHINE.read_text())


class FakeServices(Services):
    """The real adapters with another environment and a clock that a test can move."""

    def __init__(self) -> None:
        self.skew = 0.0
        self.__dict__["environment"] = Environment(stack=STACK, state_table=TABLE, artifact_bucket=ARTIFACTS)

    def now(self) -> float:
        return super().now() + self.skew


class MemoryTable(StateTable):
    """The state table without DynamoDB, which moto makes slow; the real one has tests of its own."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], Item] = {}

    def get(self, model: str, record: str) -> Item | None:
        return self._items.get((model, record))

    def query(self, model: str, prefix: str) -> list[Item]:
        return [item for (m, r), item in sorted(self._items.items()) if m == model and r.startswith(prefix)]

    def write(self, model: str, *items: Item) -> tuple[Item, ...]:
        for item in items:
            self._check(model, item)
        # As the real table does: what is read is never the object that was written.
        new = tuple(replace(item, data=json.loads(json.dumps(item.data)), rev=item.rev + 1) for item in items)
        self._items |= {(model, item.record): item for item in new}
        return new

    def delete(self, model: str, item: Item) -> None:
        self._check(model, item)
        del self._items[model, item.record]

    def _check(self, model: str, item: Item) -> None:
        found = self.get(model, item.record)
        if (found.rev if found else 0) != item.rev:
            raise Conflict(item.record)


class World:
    """What the infrastructure program would have made."""

    def __init__(self, registry: FakeRegistry, cluster: FakeCluster, authority: str) -> None:
        self.registry, self.cluster, self.authority = registry, cluster, authority
        self.services = FakeServices()
        self.kubernetes = Kubernetes(f"https://127.0.0.1:{cluster.port}", authority, lambda: "token")
        for bucket in (DATA, ARTIFACTS):
            client("s3").create_bucket(Bucket=bucket)
            versioning = {"Status": "Enabled"}
            client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)
        self._make_table()
        attributes = {"FifoQueue": "true"}
        self.queue_url = client("sqs").create_queue(QueueName="t.fifo", Attributes=attributes)["QueueUrl"]
        client("sagemaker").create_model_package_group(ModelPackageGroupName="dev-flights")
        self.registry.add_image("1234", OCI_MANIFEST, LAYER)
        self.configure()

    def _make_table(self) -> None:
        keys = ("model", "record")
        client("dynamodb").create_table(
            TableName=TABLE,
            KeySchema=[
                {"AttributeName": k, "KeyType": t} for k, t in zip(keys, ("HASH", "RANGE"), strict=True)
            ],
            AttributeDefinitions=[{"AttributeName": k, "AttributeType": "S"} for k in keys],
            BillingMode="PAY_PER_REQUEST",
        )

    def configure(self, **changes: Any) -> None:
        config = {
            "model": MODEL,
            "stack": STACK,
            "training_job": training_template(),
            "channels": {"content_type": None},
            "data_bucket": DATA,
            "artifact_bucket": ARTIFACTS,
            "gate": {"margin": 0.005},
            "package_group": "dev-flights",
            "repository_uri": self.registry.uri,
            "server_tag": "1234",
            "workload": {
                "cluster": "c",
                "namespace": "models",
                "deployment": "flights",
                "container": "server",
            },
            "rollout": {"timeout_s": 60},
            "queue_url": self.queue_url,
            "max_attempts": 3,
            **changes,
        }
        body = json.dumps(config).encode()
        client("s3").put_object(Bucket=ARTIFACTS, Key=f"config/{MODEL}.json", Body=body)

    def upload(self, name: str, body: bytes = b"a,b\n1,2\n") -> str:
        return client("s3").put_object(Bucket=DATA, Key=f"incoming/{MODEL}/{name}", Body=body)["VersionId"]

    def record(self, name: str) -> dict[str, Any]:
        return dict(self.services.state.load(MODEL, name).data)

    def jobs(self) -> list[str]:
        listed = client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
        return [job["TrainingJobName"] for job in listed]

    def packages(self) -> list[dict[str, Any]]:
        listed = client("sagemaker").list_model_packages(ModelPackageGroupName="dev-flights")
        arns = [summary["ModelPackageArn"] for summary in listed["ModelPackageSummaryList"]]
        return [client("sagemaker").describe_model_package(ModelPackageName=arn) for arn in arns]

    def messages(self) -> list[dict[str, Any]]:
        found = client("sqs").receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10)
        return [json.loads(message["Body"])["detail"] for message in found.get("Messages", [])]

    def train(
        self,
        job: str,
        auc: float = 0.9,
        *,
        parameters: dict[str, str] | None = None,
        change: Callable[[bundle_format.Manifest], bundle_format.Manifest] = lambda m: m,
        damage: Callable[[Path], None] = lambda _: None,
    ) -> dict[str, Any]:
        """End a job with a bundle and return its event; a job that does not exist yet is made."""
        if job not in self.jobs():
            request = training_template() | {"TrainingJobName": job, "HyperParameters": parameters or {}}
            client("sagemaker").create_training_job(**request)
        found = client("sagemaker").describe_training_job(TrainingJobName=job)
        champion = self.record("champion")
        body = make_bundle(job, auc, found["HyperParameters"], champion, change, damage)
        bucket, key = found["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").split("/", 1)
        client("s3").put_object(Bucket=bucket, Key=key, Body=body)
        return job_event(job, "Completed")

    def fail(self, job: str, reason: str, status: str = "Failed", secondary: str = "") -> dict[str, Any]:
        from moto.sagemaker.models import sagemaker_backends  # noqa: PLC0415

        found: Any = sagemaker_backends["123456789012"]["us-east-1"].training_jobs[job]
        found.training_job_status, found.failure_reason = status, reason
        found.secondary_status = secondary or status
        return job_event(job, status)

    def run(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Call the function as Lambda does: JSON in, JSON out."""
        return json.loads(json.dumps(handler.run(self.services, json.loads(json.dumps(payload)))))

    def release(
        self, happened: dict[str, Any], execution: str = "e1", retries: int = 2
    ) -> list[dict[str, Any]]:
        """Drive the state machine from an event to its end, without its waiting."""
        return Driver(self, execution, retries).start(happened)


class Driver:
    """As much of the States language as the file uses; every retry is at once, and there are few."""

    def __init__(self, world: World, execution: str, retries: int) -> None:
        self._world = world
        self._retries = retries
        self.visited: list[str] = []
        self._context = {"$$.Execution.Id": execution, "$$.Execution.StartTime": "now"}

    def start(self, happened: dict[str, Any]) -> list[dict[str, Any]]:
        machine = state_machine()
        plan, releases = machine["States"]["Plan"], machine["States"]["Releases"]
        planned, _ = self._task(plan, happened)
        outcomes: list[dict[str, Any]] = []
        for item in planned["releases"]:
            self._context["$$.Map.Item.Value"] = item
            data = self._fill(releases["ItemSelector"], planned)
            outcomes.append(self._walk(releases["ItemProcessor"], data)["result"])
        return outcomes

    def _walk(self, machine: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        name = machine["StartAt"]
        for _ in range(100):
            self.visited.append(name)
            state = machine["States"][name]
            match state["Type"]:
                case "Task":
                    result, failed = self._task(state, data)
                    data |= {state["Catch"][0]["ResultPath"][2:]: result} if failed else {"result": result}
                    name = state["Catch"][0]["Next"] if failed else state.get("Next")
                case "Choice":
                    fits = [
                        c["Next"] for c in state["Choices"] if c["StringEquals"] == data["result"]["next"]
                    ]
                    name = fits[0] if fits else state["Default"]
                case "Wait":
                    self._world.services.skew += 10
                    name = state["Next"]
                case _:
                    name = None
            if name is None:
                return data
        raise AssertionError(f"no end: {self.visited[-8:]}")

    def _task(self, state: dict[str, Any], data: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        payload = self._fill(state["Parameters"], data)
        caught: Exception | None = None
        for _ in range(self._retries + 1):
            try:
                return self._world.run(payload), False
            except Exception as error:  # noqa: BLE001
                caught = error
        assert caught is not None
        if not state.get("Catch"):
            raise caught
        cause = {"errorType": type(caught).__name__, "errorMessage": str(caught)}
        return {"Error": cause["errorType"], "Cause": json.dumps(cause)}, True

    def _fill(self, template: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        filled: dict[str, Any] = {}
        for key, value in template.items():
            if not key.endswith(".$"):
                filled[key] = value
            elif value in self._context:
                filled[key[:-2]] = self._context[value]
            else:
                filled[key[:-2]] = data if value == "$" else data[value[2:]]
        return filled


def training_template() -> dict[str, Any]:
    return {
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{ARTIFACTS}/training/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "HyperParameters": {"model": MODEL, "target": "late"},
        "CheckpointConfig": {"S3Uri": f"s3://{ARTIFACTS}/checkpoints/"},
    }


def make_bundle(
    job: str,
    auc: float,
    parameters: dict[str, str],
    champion: dict[str, Any],
    change: Callable[[bundle_format.Manifest], bundle_format.Manifest] = lambda m: m,
    damage: Callable[[Path], None] = lambda _: None,
) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        folder, archive = Path(scratch) / "bundle", Path(scratch) / "model.tar.gz"
        folder.mkdir()
        rows = [[float(number)] for number in range(5)]
        golden = {"columns": ["distance"], "rows": rows, "predictions": [0.5] * 5}
        (folder / "golden.json").write_text(json.dumps(golden))
        (folder / "baseline.json").write_text("{}")
        (folder / "model.ubj").write_bytes(f"model of {job}".encode())
        column = bundle_format.Column(name="distance")
        manifest = bundle_format.describe(MODEL, job, "binary", [column], {"auc": auc}, target="late")
        digest = parameters.get("dataset_hash", "")
        training = replace(manifest.training, job=job, dataset_hash=digest)
        manifest = replace(manifest, training=training)
        if champion:
            metrics = replace(manifest.metrics, champion={"auc": champion["metrics"]["challenger"]["auc"]})
            judged = bundle_format.Champion(version=champion["version"], digest=champion["digest"])
            manifest = replace(manifest, metrics=metrics, champion=judged)
        bundle_format.write(folder, change(manifest))
        damage(folder)
        bundle_format.pack(folder, archive)
        return archive.read_bytes()


def job_event(job: str, status: str) -> dict[str, Any]:
    happened = event("training_job_completed")
    happened["detail"] |= {"TrainingJobName": job, "TrainingJobStatus": status}
    return happened


def sqs_batch(bodies: Sequence[Any]) -> dict[str, Any]:
    template = event("sqs_batch")["Records"][0]
    return {
        "Records": [
            template | {"messageId": f"m{n}", "body": body if isinstance(body, str) else json.dumps(body)}
            for n, body in enumerate(bodies)
        ]
    }


def layer_files(blob: bytes) -> dict[str, tuple[int, bytes]]:
    """Return name → (mode, content) of a layer."""
    import tarfile  # noqa: PLC0415

    with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
        members = archive.getmembers()
        return {m.name: (m.mode, (f.read() if (f := archive.extractfile(m)) else b"")) for m in members}
