"""SageMaker training jobs: the API's side. `training_run` does the work."""

from __future__ import annotations

import logging
import os
import queue
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local.aws.hooks import Hook
from local.aws.training_run import JobFailed, JobStopped, TrainingRun

if TYPE_CHECKING:
    from local.aws.emulator import Emulator
    from local.aws.events import Events

log = logging.getLogger(__name__)

CREATE = Hook("moto.sagemaker.responses:SageMakerResponse.create_training_job", "self")
STOP = Hook("moto.sagemaker.responses:SageMakerResponse.stop_training_job", None)
LIST = Hook("moto.sagemaker.responses:SageMakerResponse.list_training_jobs", "self")
HOOKS = (CREATE, STOP, LIST)

_MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading the training data",
    "Training": "Training in progress",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}
_ENDS = {"Completed", "Failed", "Stopped"}


class Training:
    """All training jobs: accepts them, and runs as many at a time as there are processors."""

    def __init__(self, emulator: Emulator, events: Events) -> None:
        self._emulator = emulator
        self._events = events
        self._runs: dict[str, TrainingRun] = {}
        self._waiting: queue.SimpleQueue[tuple[Any, TrainingRun]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        for number in range(os.cpu_count() or 1):
            emulator.thread(f"training-{number}", self._work)
        emulator.at_stop(self._stop_all)

    def install(self) -> None:
        """Replace moto's jobs, which complete as soon as they are created."""
        training = self

        def create_training_job(self: Any) -> Any:
            return training._create(self, original)

        def stop_training_job(self: Any) -> Any:
            from moto.core.responses import EmptyResult

            job = _find(self)
            training._stop(job)
            return EmptyResult()

        original = CREATE.install(create_training_job)
        STOP.install(stop_training_job)
        LIST.install(_list_training_jobs)

    def _create(self, response: Any, original: Any) -> Any:
        from moto.sagemaker.exceptions import ResourceInUseException

        name = response._get_param("TrainingJobName")
        backend = response.sagemaker_backend
        metrics = list((response._get_param("AlgorithmSpecification") or {}).get("MetricDefinitions") or [])
        with self._lock:
            if name in backend.training_jobs:
                raise ResourceInUseException(
                    message="Training job names must be unique within an AWS account and region, "
                    f"and a training job with this name already exists ({backend.training_jobs[name].arn})"
                )
            result = original(response)
            job = backend.training_jobs[name]
            _reset(job, metrics, response._get_param("Environment") or {})
            run = self._runs[job.arn] = TrainingRun(self._emulator, job)
        self._change(job, "InProgress", "Starting")
        self._waiting.put((job, run))
        return result

    def _stop(self, job: Any) -> None:
        with self._lock:
            if job.training_job_status in _ENDS:
                return
            self._change(job, "Stopping", "Stopping")
        self._runs[job.arn].stop()

    def _work(self) -> None:
        while not self._emulator.stopping.is_set():
            job, run = self._waiting.get()
            try:
                self._run(job, run)
            except Exception:
                if not self._emulator.stopping.is_set():
                    log.exception("training job %s", job.training_job_name)
                    self._end(job, "Failed", "InternalServerError: see the server's log")

    def _run(self, job: Any, run: TrainingRun) -> None:
        log.info("training job %s starts", job.training_job_name)
        try:
            run.execute(lambda secondary: self._change(job, "InProgress", secondary))
        except JobFailed as failure:
            self._end(job, "Failed", str(failure))
        except JobStopped as stopped:
            self._end(job, "Stopped", "", secondary=str(stopped))
        else:
            self._end(job, "Completed", "")

    def _end(self, job: Any, status: str, reason: str, secondary: str = "") -> None:
        now = _now()
        run = self._runs[job.arn]
        job.training_end_time = now
        if job.training_start_time:
            seconds = max(1, round((now - job.training_start_time).total_seconds()))
            job.training_time_in_seconds = job.billable_time_in_seconds = seconds
        job.final_metric_data_list = run.metrics(job.algorithm_specification["MetricDefinitions"], now)
        if status == "Failed":
            job.failure_reason = reason
            job.model_artifacts = None
        log.info("training job %s: %s %s", job.training_job_name, status, reason)
        self._change(job, status, secondary or status)
        # More than one event for a change is nothing unusual, so the second one is part of the deal.
        self._publish(job)

    def _change(self, job: Any, status: str, secondary: str) -> None:
        now = _now()
        if job.training_job_status == "Stopping" and status == "InProgress":
            return
        transitions: list[dict[str, Any]] = job.secondary_status_transitions
        if transitions and transitions[-1]["Status"] == secondary:
            return
        if transitions:
            transitions[-1]["EndTime"] = now
        message = _MESSAGES[secondary] if secondary != "Failed" else job.failure_reason
        transition = {"Status": secondary, "StartTime": now, "StatusMessage": message}
        if status in _ENDS:
            transition["EndTime"] = now
        transitions.append(transition)
        if secondary == "Downloading":
            job.training_start_time = now
        job.training_job_status = status
        job.secondary_status = secondary
        job.last_modified_time = now
        self._publish(job)

    def _publish(self, job: Any) -> None:
        account, region = job.arn.split(":")[4], job.arn.split(":")[3]
        event = {
            "source": "aws.sagemaker",
            "detail-type": "SageMaker Training Job State Change",
            "resources": [job.arn],
            "detail": _detail(job),
        }
        self._events.publish(account, region, event)

    def _stop_all(self) -> None:
        for run in list(self._runs.values()):
            run.kill()


def _reset(job: Any, metrics: list[dict[str, str]], environment: dict[str, str]) -> None:
    """Take back what moto claims of a job that has not begun."""
    job.algorithm_specification["MetricDefinitions"] = metrics
    job.environment = environment
    job.training_job_status = "InProgress"
    job.secondary_status = "Starting"
    job.secondary_status_transitions = []
    job.final_metric_data_list = None
    job.training_start_time = job.training_end_time = None
    job.failure_reason = None
    job.hyper_parameters = job.hyper_parameters or {}


def _detail(job: Any) -> dict[str, Any]:
    """The event's detail: what DescribeTrainingJob says, times in milliseconds."""
    described = {key: value for key, value in job.response_object.items() if key != "Tags"}
    return _plain(described)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.replace(tzinfo=value.tzinfo or UTC).timestamp() * 1000)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _now() -> datetime:
    return datetime.now(tz=UTC)


def _find(response: Any) -> Any:
    name = response._get_param("TrainingJobName")
    response.sagemaker_backend.describe_training_job(name)  # raises what the API raises
    return response.sagemaker_backend.training_jobs[name]


def _list_training_jobs(response: Any) -> Any:
    """Filter, sort, then cut into pages; moto cuts first and does not sort."""
    from moto.core.responses import ActionResult

    parameter = response._get_param
    jobs = list(response.sagemaker_backend.training_jobs.values())
    if text := parameter("NameContains"):
        jobs = [job for job in jobs if text in job.training_job_name]
    if status := parameter("StatusEquals"):
        jobs = [job for job in jobs if job.training_job_status == status]
    keys = {"Name": "training_job_name", "Status": "training_job_status", "CreationTime": "creation_time"}
    key = keys[parameter("SortBy") or "CreationTime"]
    jobs.sort(key=lambda job: getattr(job, key), reverse=parameter("SortOrder") == "Descending")
    start, size = int(parameter("NextToken") or 0), int(parameter("MaxResults") or 100)
    summaries = [
        {
            "TrainingJobName": job.training_job_name,
            "TrainingJobArn": job.arn,
            "CreationTime": job.creation_time,
            "TrainingEndTime": job.training_end_time,
            "LastModifiedTime": job.last_modified_time,
            "TrainingJobStatus": job.training_job_status,
            "SecondaryStatus": job.secondary_status,
        }
        for job in jobs[start : start + size]
    ]
    following = str(start + size) if start + size < len(jobs) else None
    return ActionResult({"TrainingJobSummaries": summaries, "NextToken": following})
