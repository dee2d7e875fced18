"""Starts what the state of a model asks for: whoever calls, and however often, the result is the same."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common import names
from common.aws import error_code
from common.datasets import DataObject, DataSet, Upload, extend, pending
from common.messages import INCOMING, Request
from common.services import Services
from common.state import Item, lease_holder
from start_training.core import GRACE_S, Job, Skip, Start, decide, in_flight, job_request

_COPIERS = 8
_PAGES = 10


@dataclass(frozen=True)
class Result:
    """What was done: the job that was started, or why none was."""

    model: str
    job: str | None
    reason: str


class Trainer:
    """Starts at most one training of a model."""

    def __init__(self, services: Services, model: str) -> None:
        self._services = services
        self._state = services.state
        self._model = model
        self._config = services.documents.config(model)

    def run(self, requests: Sequence[Request]) -> Result:
        """Start the training that the uploads and `requests` call for, unless one is under way."""
        # The lease is looked at before the jobs: a release writes its outcome, then lets go of the lease.
        holder = lease_holder(self._state.get(self._model, names.LEASE), self._services.now())
        if holder is not None:
            return self._nothing("a release is under way and asks again when it ends")
        running = in_flight(self._jobs(), self._has_outcome, self._services.now())
        if running is not None:
            return self._nothing(f"{running} is in progress; its release asks again")
        dataset = self._candidate(requests)
        return self._train(dataset) if dataset else self._nothing("nothing is pending")

    def _candidate(self, requests: Sequence[Request]) -> DataSet | None:
        """Return the data set to train on, with new uploads copied; None where there is nothing to do."""
        record = self._state.get(self._model, names.ACCEPTED)
        accepted = self._services.documents.dataset(record.data["manifest_uri"]) if record else None
        refusals = self._state.query(self._model, names.REFUSALS)
        known = {(item.data["key"], item.data["version"]) for item in refusals}
        known |= {(item.key, item.version) for item in (accepted.objects if accepted else ())}
        found = pending(self._uploads(), known)
        for item, reason in found.refused.items():
            self._refuse(item, reason)
        repeated = [item for request in requests for item in self._repeated(request)]
        if not found.new and not repeated:
            return None
        with ThreadPoolExecutor(_COPIERS) as pool:
            list(pool.map(self._copy, found.new))
        return extend(self._model, accepted, repeated, found.new)

    def _repeated(self, request: Request) -> tuple[DataObject, ...]:
        """Return the objects of a data set whose training is to be repeated, if it still is."""
        if request.dataset_hash is None:
            return ()
        record = self._state.load(self._model, names.dataset(request.dataset_hash))
        if record.data.get("state") != "retry":
            return ()
        return self._services.documents.dataset(record.data["manifest_uri"]).objects

    def _train(self, dataset: DataSet) -> Result:
        digest = dataset.digest
        record = self._state.load(self._model, names.dataset(digest))
        status = self._status(record.data["job"]) if record.data.get("state") == "training" else None
        decision = decide(record.data, status, self._config.max_attempts)
        if isinstance(decision, Skip):
            if decision.failed:
                self._state.write(self._model, record.change(state="failed", reason=decision.reason))
            return self._nothing(f"data set {digest[:8]}: {decision.reason}")
        return self._start(dataset, record, decision)

    def _start(self, dataset: DataSet, record: Item, start: Start) -> Result:
        digest, documents = dataset.digest, self._services.documents
        name = str(
            names.JobName(self._services.environment.stack, self._model, digest[:8], str(start.attempt))
        )
        manifest_uri = documents.dataset_uri(self._model, digest)
        train_uri = documents.dataset_uri(self._model, digest, ".sagemaker.json")
        documents.write(manifest_uri, dataset.to_json())
        documents.write(train_uri, dataset.sagemaker_manifest(self._config.data_bucket))
        changed = record.change(
            state="training",
            attempt=start.attempt,
            failures=start.failures,
            job=name,
            manifest_uri=manifest_uri,
        )
        # The record first: two that come here at once differ by one failed condition, not by two jobs.
        self._state.write(self._model, changed)
        champion = self._state.load(self._model, names.CHAMPION).data.get("model_data_url")
        lineage = {"dataset_hash": digest, "manifest_uri": manifest_uri}
        request = job_request(self._config, name, lineage, train_uri=train_uri, champion_uri=champion)
        try:
            self._services.sagemaker.create_training_job(**request)
        except self._services.sagemaker.exceptions.ClientError as error:
            if error_code(error) != "ResourceInUse":
                raise
            return Result(self._model, name, "was already there")
        return Result(self._model, name, f"{len(dataset.objects)} objects, attempt {start.attempt}")

    def _nothing(self, reason: str) -> Result:
        return Result(self._model, None, reason)

    def _refuse(self, item: DataObject, reason: str) -> None:
        record = self._state.load(self._model, names.refusal(item.key, item.version))
        if not record.rev:
            data = {"key": item.key, "version": item.version, "reason": reason, "job": None}
            self._state.write(self._model, record.change(**data))

    def _has_outcome(self, job: str) -> bool:
        return "outcome" in self._state.load(self._model, names.job(job)).data

    def _status(self, job: str) -> str | None:
        try:
            return self._services.sagemaker.describe_training_job(TrainingJobName=job)["TrainingJobStatus"]
        except self._services.sagemaker.exceptions.ClientError as error:
            # SageMaker says ValidationException where others say ResourceNotFound.
            if error_code(error) in {"ValidationException", "ResourceNotFound"}:
                return None
            raise

    def _jobs(self) -> Iterable[Job]:
        """Yield the model's newest jobs, until they are too old to matter."""
        prefix = names.job_prefix(self._services.environment.stack, self._model)
        listing: dict[str, Any] = {
            "NameContains": prefix,
            "SortBy": "CreationTime",
            "SortOrder": "Descending",
        }
        for _ in range(_PAGES):
            page = self._services.sagemaker.list_training_jobs(**listing)
            jobs = [_job(summary) for summary in page["TrainingJobSummaries"]]
            for job in jobs:
                name = names.parse_job(job.name)
                # "flights-" begins the names of the model "flights-eu" as well.
                if name and (name.stack, name.model) == (self._services.environment.stack, self._model):
                    yield job
            listing["NextToken"] = page.get("NextToken")
            if not listing["NextToken"] or all(self._old(job) for job in jobs):
                return

    def _old(self, job: Job) -> bool:
        return job.status in {"Completed", "Failed", "Stopped"} and self._services.now() - job.ended > GRACE_S

    def _uploads(self) -> Iterable[Upload]:
        pages = self._services.s3.get_paginator("list_object_versions").paginate(
            Bucket=self._config.data_bucket, Prefix=f"{INCOMING}{self._model}/"
        )
        for page in pages:
            for entry in page.get("Versions", []):
                if entry["IsLatest"]:
                    yield Upload(entry["Key"], entry["VersionId"], entry["Size"])

    def _copy(self, item: DataObject) -> None:
        """Copy an upload to where no later upload of the same name can change it."""
        bucket, key = self._config.data_bucket, item.path(self._model)
        client = self._services.s3
        try:
            client.head_object(Bucket=bucket, Key=key)
        except client.exceptions.ClientError as error:
            if error_code(error) not in {"404", "NoSuchKey", "NotFound"}:
                raise
            source = {"Bucket": bucket, "Key": item.key, "VersionId": item.version}
            # Tags stay behind: reading them would need one more permission.
            client.copy_object(Bucket=bucket, Key=key, CopySource=source, TaggingDirective="REPLACE")


def _job(summary: dict[str, Any]) -> Job:
    ended = summary.get("TrainingEndTime") or summary.get("LastModifiedTime") or summary["CreationTime"]
    seconds = ended.timestamp() if isinstance(ended, datetime) else float(ended)
    return Job(summary["TrainingJobName"], summary["TrainingJobStatus"], seconds)
