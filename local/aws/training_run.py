"""One training job as SageMaker's script mode runs it, in a process instead of a container.

Below `D/jobs/<job>/` lies what the container has below /opt/ml: `input/data/<channel>`, `code`, `model`,
`output` (with `failure` and `data/`), `checkpoints`; and `log`, what the script printed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.aws.training_inputs import InputError, download_channel, fetch_source, split_uri
from local.processes import clean_environment, stop_group

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from local.aws.emulator import Emulator

log = logging.getLogger(__name__)

_LAUNCH = Path(__file__).with_name("launch.py")
_REASON_CHARS = 1024
_STOP_GRACE_S = 120.0
_POLL_S = 0.05


def _launch() -> list[str]:
    return [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())]


class JobFailed(Exception):  # noqa: N818
    """Its text is the job's FailureReason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason if len(reason) <= _REASON_CHARS else reason[: _REASON_CHARS - 1] + "…")


class JobStopped(Exception):  # noqa: N818
    """The job was stopped; its text is the secondary status."""


class TrainingRun:
    """Runs one job; `execute` is called once, `stop` and `kill` from other threads."""

    def __init__(self, emulator: Emulator, job: Any) -> None:
        self._emulator = emulator
        self._job = job
        self._region: str = job.arn.split(":")[3]
        self._s3 = emulator.client("s3", self._region)
        self._folder = emulator.run_dir / "jobs" / job.training_job_name
        self._log = self._folder / "log"
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def execute(self, report: Callable[[str], None]) -> None:
        """Do the job; `report` is told the secondary status. Raises JobFailed or JobStopped."""
        self._leave_if_stopped()
        for part in ("input/data", "input/config", "model", "output/data", "checkpoints"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        report("Downloading")
        try:
            channels = self._download()
            script = fetch_source(self._s3, self._hyperparameters(), self._folder / "code")
        except InputError as error:
            raise JobFailed(f"ClientError: {error}") from error
        self._leave_if_stopped()
        report("Training")
        overdue = self._train(script, channels)
        if self._stop.is_set() and not overdue:
            report("Uploading")
            self._upload()
            raise JobStopped("Stopped")
        report("Uploading")
        self._upload()
        if overdue:
            raise JobStopped("MaxRuntimeExceeded")

    def stop(self) -> None:
        """Ask the script to end (SIGTERM), as StopTrainingJob does; kill it after two minutes."""
        self._stop.set()

    def kill(self) -> None:
        """End the script at once."""
        self._stop.set()
        process = self._process
        if process is not None and process.poll() is None:
            stop_group(process, grace_s=0.3)

    def metrics(self, definitions: list[dict[str, str]], now: datetime) -> list[dict[str, Any]]:
        """The last value that each metric definition finds in the log."""
        try:
            text = self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        found: list[dict[str, Any]] = []
        for definition in definitions:
            values = re.findall(definition["Regex"], text)
            try:
                value = float(values[-1])
            except (IndexError, ValueError, TypeError):
                continue
            found.append({"MetricName": definition["Name"], "Value": value, "Timestamp": now})
        return found

    def _hyperparameters(self) -> dict[str, str]:
        return self._job.hyper_parameters or {}

    def _leave_if_stopped(self) -> None:
        if self._stop.is_set():
            raise JobStopped("Stopped")

    def _download(self) -> list[str]:
        names: list[str] = []
        for channel in self._job.input_data_config or []:
            name = channel["ChannelName"]
            download_channel(self._s3, channel, self._folder / "input" / "data" / name)
            names.append(name)
        return names

    def _train(self, script: Path, channels: list[str]) -> bool:
        """Run the script to its end; whether that was because its time was up."""
        hyperparameters = {
            key: _decode(value)
            for key, value in self._hyperparameters().items()
            if not key.startswith("sagemaker_")
        }
        arguments = [text for key, value in hyperparameters.items() for text in (f"--{key}", _text(value))]
        environment = script_environment(
            self._job, self._folder, hyperparameters, channels, script, arguments
        )
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_launch(), sys.executable, str(script), *arguments],
                env=clean_environment(environment, home=self._folder / "tmp"),
                cwd=self._folder / "code",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        overdue = self._wait(self._process)
        if self._emulator.stopping.is_set():
            raise JobStopped("Stopped")
        code = self._process.returncode
        if code != 0 and not self._stop.is_set() and not overdue:
            raise JobFailed(f"AlgorithmError: {self._reason()}, exit code: {code}")
        return overdue

    def _wait(self, process: subprocess.Popen[bytes]) -> bool:
        limit = float((self._job.stopping_condition or {}).get("MaxRuntimeInSeconds") or 86400)
        end = time.monotonic() + limit
        told: float | None = None
        overdue = False
        while process.poll() is None:
            now = time.monotonic()
            overdue = overdue or now >= end
            if told is None and (overdue or self._stop.is_set()):
                process.terminate()
                told = now
            if told is not None and now - told > _STOP_GRACE_S:
                stop_group(process, grace_s=0.3)
            # Nearly no cost, and a job is noticed at once when it ends.
            time.sleep(_POLL_S)
        stop_group(process, grace_s=0.0)
        return overdue

    def _reason(self) -> str:
        """What the script left in `output/failure`, else the last lines that it printed."""
        failure = self._folder / "output" / "failure"
        if failure.is_file() and (text := failure.read_text(encoding="utf-8", errors="replace").strip()):
            return text
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return "\n".join(lines[-3:])[-900:]

    def _upload(self) -> None:
        bucket, prefix = split_uri(self._job.output_data_config["S3OutputPath"])
        base = "/".join(part for part in (prefix.rstrip("/"), self._job.training_job_name, "output") if part)
        outputs = {"model.tar.gz": self._folder / "model", "output.tar.gz": self._folder / "output"}
        for name, folder in outputs.items():
            if name != "model.tar.gz" and not any(path.is_file() for path in folder.rglob("*")):
                continue
            archive = self._folder / name
            with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
                for path in sorted(folder.iterdir()):
                    tar.add(path, arcname=path.name)
            self._s3.upload_file(str(archive), bucket, f"{base}/{name}")


def script_environment(  # noqa: PLR0913, PLR0917
    job: Any,
    folder: Path,
    hyperparameters: dict[str, Any],
    channels: list[str],
    script: Path,
    arguments: list[str],
) -> dict[str, str]:
    """The variables that SageMaker's training toolkit sets; no credentials among them."""
    host, cpus = "algo-1", os.cpu_count() or 1
    paths = {
        "SM_MODEL_DIR": folder / "model",
        "SM_INPUT_DIR": folder / "input",
        "SM_INPUT_CONFIG_DIR": folder / "input" / "config",
        "SM_OUTPUT_DIR": folder / "output",
        "SM_OUTPUT_DATA_DIR": folder / "output" / "data",
        "SM_CHECKPOINT_DIR": folder / "checkpoints",
    }
    inputs = {name: str(folder / "input" / "data" / name) for name in channels}
    training = {
        "job_name": job.training_job_name,
        "hyperparameters": hyperparameters,
        "channel_input_dirs": inputs,
        "current_host": host,
        "hosts": [host],
        "num_cpus": cpus,
        "num_gpus": 0,
        "model_dir": str(folder / "model"),
        "output_dir": str(folder / "output"),
        "output_data_dir": str(folder / "output" / "data"),
        "module_name": script.stem,
    }
    return {
        # A job has its own machine elsewhere. Here XGBoost's threads share the processors with the pods, and
        # those that spin while they wait for each other make training several times as slow.
        "OMP_WAIT_POLICY": "PASSIVE",
        **job.environment,
        **{key: str(path) for key, path in paths.items()},
        **{f"SM_CHANNEL_{name.upper()}": path for name, path in inputs.items()},
        **{f"SM_HP_{key.upper()}": _text(value) for key, value in hyperparameters.items()},
        "SM_CHANNELS": json.dumps(channels),
        "SM_HPS": json.dumps(hyperparameters),
        "SM_USER_ARGS": json.dumps(arguments),
        "SM_TRAINING_ENV": json.dumps(training),
        "SM_MODULE_NAME": script.stem,
        "SM_USER_ENTRY_POINT": script.name,
        "SM_CURRENT_HOST": host,
        "SM_HOSTS": json.dumps([host]),
        "SM_NUM_CPUS": str(cpus),
        "SM_NUM_GPUS": "0",
        "TRAINING_JOB_NAME": job.training_job_name,
        "TRAINING_JOB_ARN": job.arn,
    }


def _decode(value: str) -> Any:
    """Hyperparameters are strings on the wire; the toolkit decodes those that are JSON."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
