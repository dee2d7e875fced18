"""Looks at the real systems of a session: what SageMaker, S3, the state table, registry and cluster say.

The story claims nothing that it has not seen through these.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from local.session import LocalSession

_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)
_TIMEOUT_S = 10.0
ENDED = frozenset({"Completed", "Failed", "Stopped"})


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What the Service answers to GET /ping."""

    status: int
    version: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Pods:
    """A Deployment's image, and how far its pods are."""

    image: str
    wanted: int
    updated: int
    available: int
    all: int

    def settled_on(self, digest: str) -> bool:
        """True if every pod runs the image with `digest`, is available, and no other is left."""
        return self.image.endswith(f"@{digest}") and self.wanted == self.updated == self.available == self.all


class Looks:
    """Reads one model's side of the systems of a session."""

    def __init__(self, session: LocalSession, model: str) -> None:
        self._session = session
        self.model = model
        self._outputs = session.program.outputs
        self._facts = session.models[model]

    # -- S3 ---------------------------------------------------------------------------------------

    def upload(self, file: Path) -> tuple[str, float]:
        """Put a file under the model's incoming prefix; its key, and when the put returned."""
        bucket, _, prefix = str(self._facts["incoming"]).removeprefix("s3://").partition("/")
        key = f"{prefix}{file.name}"
        self._session.client("s3").put_object(Bucket=bucket, Key=key, Body=file.read_bytes())
        return key, time.time()

    def trained_on(self, job: str) -> list[str]:
        """The keys of the uploads in the data set that a job was given."""
        parameters = self.job(job).get("HyperParameters") or {}
        bucket, _, key = str(parameters["manifest_uri"]).removeprefix("s3://").partition("/")
        manifest = json.loads(self._session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
        return [str(entry["key"]) for entry in manifest["objects"]]

    # -- SageMaker --------------------------------------------------------------------------------

    def jobs(self) -> dict[str, str]:
        """The model's training jobs and their status, oldest first."""
        prefix = f"ts-{self._session.options.stack}--{self.model}-"
        found = self._session.client("sagemaker").list_training_jobs(
            NameContains=prefix, SortBy="CreationTime", SortOrder="Ascending", MaxResults=100
        )
        summaries = found["TrainingJobSummaries"]
        return {summary["TrainingJobName"]: summary["TrainingJobStatus"] for summary in summaries}

    def job(self, name: str) -> dict[str, Any]:
        """DescribeTrainingJob."""
        return self._session.client("sagemaker").describe_training_job(TrainingJobName=name)

    def package(self, arn: str) -> dict[str, Any]:
        """DescribeModelPackage."""
        return self._session.client("sagemaker").describe_model_package(ModelPackageName=arn)

    # -- the state table --------------------------------------------------------------------------

    def releases(self) -> list[dict[str, Any]]:
        """The release records of trained models (not of new servers), by number."""
        return [record for record in self._records("release#") if record.get("kind") == "job"]

    def release_of(self, job: str) -> dict[str, Any] | None:
        """The release record of a job, once it has been claimed."""
        return next((record for record in self.releases() if record.get("job") == job), None)

    def refusals(self) -> dict[str, str]:
        """The keys of refused uploads, and why each was refused."""
        return {str(record["key"]): str(record["reason"]) for record in self._records("refused#")}

    def champion(self) -> dict[str, Any]:
        """The record of the model in service; empty before the first."""
        return next(iter(self._records("champion")), {})

    def _records(self, prefix: str) -> list[dict[str, Any]]:
        found = self._session.client("dynamodb").query(
            TableName=self._outputs["stateTable"],
            KeyConditionExpression="#m = :m AND begins_with(#r, :r)",
            ExpressionAttributeNames={"#m": "model", "#r": "record"},
            ExpressionAttributeValues={":m": {"S": self.model}, ":r": {"S": prefix}},
            ConsistentRead=True,
        )
        return [{name: plain(value) for name, value in item.items()} for item in found["Items"]]

    # -- registry and cluster -----------------------------------------------------------------------

    def image_layers(self, digest: str) -> int:
        """How many layers the image with `digest` has, as the registry serves it; 0 if it does not."""
        repository = str(self._outputs["repositoryUrl"]).partition("/")[2]
        url = f"http://{self._session.registry}/v2/{repository}/manifests/{digest}"
        request = urllib.request.Request(url, headers={"Accept": _MANIFESTS})  # our own
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return len(json.loads(answer.read())["layers"])
        except urllib.error.HTTPError:
            return 0

    def pods(self) -> Pods:
        """The model's Deployment, as the cluster's API shows it."""
        path = f"/apis/apps/v1/namespaces/{self._facts['namespace']}/deployments/{self._facts['deployment']}"
        found = self._session.cluster.get(path)
        status: Mapping[str, Any] = found.get("status") or {}
        containers = found["spec"]["template"]["spec"]["containers"]
        return Pods(
            image=next(str(c["image"]) for c in containers if c["name"] == "server"),
            wanted=int(found["spec"].get("replicas", 1)),
            updated=int(status.get("updatedReplicas", 0)),
            available=int(status.get("availableReplicas", 0)),
            all=int(status.get("replicas", 0)),
        )

    def ping(self) -> Serving:
        """Ask the Service itself which model it serves. Status 0: no answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return _serving(answer.status, answer.headers)
        except urllib.error.HTTPError as error:
            return _serving(error.code, error.headers)
        except OSError:
            return Serving(status=0, version="", digest="")

    @property
    def url(self) -> str:
        """The Service's base URL."""
        return self._session.service_url(self.model)


def plain(value: Mapping[str, Any]) -> Any:  # noqa: ANN401  # whatever the table holds
    """A DynamoDB attribute as JSON would have it."""
    ((kind, content),) = value.items()
    if kind == "N":
        number = float(content)
        return int(number) if number.is_integer() and "." not in content else number
    if kind == "M":
        return {name: plain(member) for name, member in content.items()}
    if kind == "L":
        return [plain(member) for member in content]
    return None if kind == "NULL" else content


def at(record: Mapping[str, Any], step: str) -> float | None:
    """When a step of a release was done, seconds since the epoch."""
    done = (record.get("steps") or {}).get(step)
    return _seconds(str(done["at"])) if done else None


def rollout_of(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """From the new image's being asked for to the last look that found it everywhere."""
    start, end = at(record, "rollout"), at(record, "watch")
    return (start, end) if start is not None and end is not None else None


def pieces(record: Mapping[str, Any], *path: str) -> Any:  # noqa: ANN401  # whatever is there
    """What lies at a path of a record; None if anything on the way is missing."""
    found: Any = record
    for name in path:
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def _seconds(text: str) -> float:
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromisoformat(text).timestamp()


def _serving(status: int, headers: Any) -> Serving:  # noqa: ANN401  # an email.message.Message
    return Serving(
        status=status, version=headers.get("X-Model-Version", ""), digest=headers.get("X-Model-Digest", "")
    )
