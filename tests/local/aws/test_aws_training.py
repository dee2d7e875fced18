"""SageMaker training jobs: inputs, ends and their reasons."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

SCRIPT = """
import json, os, pathlib, signal, sys, time
hps = json.loads(os.environ["SM_HPS"])
print("auc=0.75;", flush=True)
match hps["do"]:
    case "list":
        seen = {}
        for name in json.loads(os.environ["SM_CHANNELS"]):
            folder = pathlib.Path(os.environ["SM_CHANNEL_" + name.upper()])
            seen[name] = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
        pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "seen.json").write_text("{}")
        print("seen=" + json.dumps(seen))
        pathlib.Path(os.environ["SM_MODEL_DIR"], "model").write_text("m")
    case "refuse":
        failure = pathlib.Path(os.environ["SM_OUTPUT_DIR"], "failure")
        failure.write_text('DataRefused: REFUSED={"a.csv":"empty"}')
        sys.exit(1)
    case "crash":
        raise ValueError("x" * 5000)
    case "wait":
        def leave(*_):
            print("leaving")
            pathlib.Path(os.environ["SM_MODEL_DIR"], "model").write_text("half")
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        print("waiting", flush=True)
        time.sleep(60)
"""


@pytest.fixture(scope="module")
def source(aws: Any) -> str:
    aws.bucket("training")
    return aws.source_archive("training", "code/source.tar.gz", train=SCRIPT)


def create(aws: Any, source: str, name: str, do: str, **rest: Any) -> None:
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "HyperParameters": {"sagemaker_program": "train.py", "sagemaker_submit_directory": source, "do": do},
        "AlgorithmSpecification": {
            "TrainingImage": "xgboost:3.2-0",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "auc", "Regex": "auc=([-+0-9.eE]+);"}],
        },
        "RoleArn": aws.role("training"),
        "OutputDataConfig": {"S3OutputPath": "s3://training/out/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **rest,
    }
    aws.client("sagemaker").create_training_job(**request)


def channel(name: str, kind: str, uri: str) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri}}}


def log_of(aws: Any, name: str) -> str:
    return (aws.run_dir / "jobs" / name / "log").read_text()


def test_channels(aws: Any, source: str) -> None:
    s3 = aws.client("s3")
    for key in ("objects/f/v1/a.csv", "objects/f/v2/a.csv", "objects/f/v3/b.csv", "champion/model.tar.gz"):
        s3.put_object(Bucket="training", Key=key, Body=key.encode())
    manifest = json.dumps([{"prefix": "s3://training/objects/f/"}, "v1/a.csv", "v3/b.csv"])
    s3.put_object(Bucket="training", Key="m.json", Body=manifest)
    channels = [
        channel("train", "ManifestFile", "s3://training/m.json"),
        channel("all", "S3Prefix", "s3://training/objects/f"),
        channel("champion", "S3Prefix", "s3://training/champion/model.tar.gz"),
    ]
    create(aws, source, "channels", "list", InputDataConfig=channels)
    job = aws.job_done("channels")
    assert job["TrainingJobStatus"] == "Completed", job
    seen = json.loads(log_of(aws, "channels").partition("seen=")[2].splitlines()[0])
    assert seen["train"] == {"v1/a.csv": "objects/f/v1/a.csv", "v3/b.csv": "objects/f/v3/b.csv"}
    assert set(seen["all"]) == {"v1/a.csv", "v2/a.csv", "v3/b.csv"}
    assert seen["champion"] == {"model.tar.gz": "champion/model.tar.gz"}
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="training", Prefix="out/")["Contents"]]
    assert keys == ["out/channels/output/model.tar.gz", "out/channels/output/output.tar.gz"]
    assert job["FinalMetricDataList"][0]["Value"] == 0.75
    assert job["AlgorithmSpecification"]["MetricDefinitions"][0]["Name"] == "auc"


def test_a_name_is_used_once(aws: Any, source: str) -> None:
    create(aws, source, "once", "list")
    client = aws.client("sagemaker")
    with pytest.raises(client.exceptions.ResourceInUse):
        create(aws, source, "once", "list")
    assert aws.job_done("once")["TrainingJobStatus"] == "Completed"
    with pytest.raises(client.exceptions.ResourceInUse):
        create(aws, source, "once", "list")


def test_the_reason_that_the_script_leaves(aws: Any, source: str) -> None:
    create(aws, source, "refuses", "refuse")
    job = aws.job_done("refuses")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"] == 'AlgorithmError: DataRefused: REFUSED={"a.csv":"empty"}, exit code: 1'


def test_the_reason_of_a_crash_is_its_last_lines(aws: Any, source: str) -> None:
    create(aws, source, "crashes", "crash")
    reason = aws.job_done("crashes")["FailureReason"]
    assert reason.startswith("AlgorithmError: ")
    assert len(reason) <= 1024


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (
            "no-input",
            {"InputDataConfig": [channel("t", "S3Prefix", "s3://training/none/")]},
            "No S3 objects found",
        ),
        ("no-bucket", {"InputDataConfig": [channel("t", "S3Prefix", "s3://nobucket/x")]}, "NoSuchBucket"),
        ("no-manifest", {"InputDataConfig": [channel("t", "ManifestFile", "s3://training/no")]}, "NoSuchKey"),
        ("no-script", {"HyperParameters": {"do": "list"}}, "sagemaker_program"),
    ],
)
def test_inputs_that_are_not_there(
    aws: Any, source: str, name: str, change: dict[str, Any], reason: str
) -> None:
    create(aws, source, name, "list", **change)
    found = aws.job_done(name)["FailureReason"]
    assert found.startswith("ClientError: ")
    assert reason in found


def test_a_path_that_leads_out_of_the_channel(aws: Any, source: str) -> None:
    manifest = json.dumps([{"prefix": "s3://training/"}, "../../../../../../tmp/x"])
    aws.client("s3").put_object(Bucket="training", Key="evil.json", Body=manifest)
    channels = [channel("t", "ManifestFile", "s3://training/evil.json")]
    create(aws, source, "evil", "list", InputDataConfig=channels)
    assert "not a path below its channel" in aws.job_done("evil")["FailureReason"]


def test_stop(aws: Any, source: str) -> None:
    create(aws, source, "stops", "wait")
    end = time.monotonic() + 10
    log = aws.run_dir / "jobs" / "stops" / "log"
    while not (log.exists() and "waiting" in log.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    client = aws.client("sagemaker")
    client.stop_training_job(TrainingJobName="stops")
    job = aws.job_done("stops")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "leaving" in log_of(aws, "stops")
    client.stop_training_job(TrainingJobName="stops")
    with pytest.raises(client.exceptions.ClientError, match="Could not find training job"):
        client.stop_training_job(TrainingJobName="never-was")


def test_the_time_limit(aws: Any, source: str) -> None:
    create(aws, source, "overdue", "wait", StoppingCondition={"MaxRuntimeInSeconds": 1})
    job = aws.job_done("overdue")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert "leaving" in log_of(aws, "overdue")
