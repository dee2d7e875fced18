"""The server as a process: it comes up knowing nobody, and takes everything with it when it goes."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

SCRIPT = "import time\ntime.sleep(60)\n"
HANDLER = "import time\ndef handle(event, context): time.sleep(event['seconds'])\n"


def children(pid: int) -> list[int]:
    command = ["ps", "-o", "pid=", "--ppid", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(each) for each in listed.stdout.split()]


def busy(server: Any, pid: int) -> list[int]:
    """Keep the server's processes busy; their ids."""
    server.function("sleeper", HANDLER, timeout=60)
    assert server.invoke("sleeper", {"seconds": 0})[1] is None
    server.client("lambda").invoke(FunctionName="sleeper", InvocationType="Event", Payload=b'{"seconds": 60}')
    server.bucket("bucket")
    server.client("sagemaker").create_training_job(
        TrainingJobName="sleeps",
        HyperParameters={
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": server.source_archive("bucket", "s.tar.gz", train=SCRIPT),
        },
        AlgorithmSpecification={"TrainingImage": "x", "TrainingInputMode": "File"},
        RoleArn=server.role("training"),
        OutputDataConfig={"S3OutputPath": "s3://bucket/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    end = time.monotonic() + 10
    while len(started := children(pid)) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(started) == 2, "one process of the function, one of the training job"
    return started


def alive(pids: list[int], seconds: float = 3.0) -> list[int]:
    """Those that have not ended in time."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def test_a_signal_ends_everything(tmp_path: Path, start_server: Any) -> None:
    process, server = start_server(tmp_path)
    assert server.endpoint.startswith("http://127.0.0.1:")
    assert (tmp_path / "aws.json").stat().st_mode & 0o777 == 0o600
    started = busy(server, process.pid)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0
    assert time.monotonic() - began < 2.5
    assert alive(started) == []
    assert not (tmp_path / "aws.json").exists()
    assert "Traceback" not in (tmp_path / "aws.log").read_text()


def test_its_processes_notice_that_it_was_killed(tmp_path: Path, start_server: Any) -> None:
    process, server = start_server(tmp_path)
    started = busy(server, process.pid)
    process.kill()
    process.wait(timeout=5)
    assert alive(started) == []
