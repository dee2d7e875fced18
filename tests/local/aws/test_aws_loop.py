"""From an upload to a state machine, through everything in between: nothing is called directly."""

from __future__ import annotations

import json
import tarfile
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

START = """
import json, os, boto3

def handle(event, context):
    boto = boto3.client("sagemaker")
    failures = []
    for record in event["Records"]:
        body = json.loads(record["body"])
        key = body["detail"]["object"]["key"]
        name = "loop-" + body["detail"]["object"]["version-id"][:8]
        print("upload", key, boto3.client("sts").get_caller_identity()["Arn"])
        boto.create_training_job(
            TrainingJobName=name,
            HyperParameters={"sagemaker_program": "train.py",
                             "sagemaker_submit_directory": os.environ["SOURCE"],
                             "rounds": "3", "steps": '[{"op": "log"}]', "name": "flights"},
            AlgorithmSpecification={
                "TrainingImage": "xgboost", "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "auc", "Regex": "auc=([-+0-9.eE]+);"}]},
            RoleArn=os.environ["ROLE"],
            InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": {
                "S3DataType": "S3Prefix", "S3Uri": "s3://loop-data/incoming/flights/"}}}],
            OutputDataConfig={"S3OutputPath": "s3://loop-artifacts/models"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
            StoppingCondition={"MaxRuntimeInSeconds": 60},
            Environment={"COLOUR": "blue"},
        )
    return {"batchItemFailures": failures}
"""

TRAIN = """
import json, os, pathlib, sys
for name in os.environ:
    assert not name.startswith("AWS_") or name in {
        "AWS_EC2_METADATA_DISABLED", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}, name
rows = [path.read_text() for path in pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).rglob("*.csv")]
print("auc=0.5;")
print(f"auc=0.{len(rows)}1;")
model = {"rows": rows, "hps": json.loads(os.environ["SM_HPS"]), "args": sys.argv[1:],
         "colour": os.environ["COLOUR"], "job": os.environ["TRAINING_JOB_NAME"], "home": os.environ["HOME"]}
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.json").write_text(json.dumps(model))
"""

RELEASE = """
import boto3, json

def handle(event, context):
    detail = event["event"]["detail"]
    if event["step"] == "claim":
        table = boto3.client("dynamodb")
        try:
            table.put_item(TableName="loop", Item={"pk": {"S": detail["TrainingJobName"]}},
                           ConditionExpression="attribute_not_exists(pk)")
        except table.exceptions.ConditionalCheckFailedException:
            return {"claimed": False}
        return {"claimed": True, "artifacts": detail["ModelArtifacts"]["S3ModelArtifacts"]}
    return {"released": detail["TrainingJobName"], "metrics": detail["FinalMetricDataList"]}
"""


def definition(function: str) -> dict[str, Any]:
    def step(name: str, **rest: Any) -> dict[str, Any]:
        parameters = {"FunctionName": function, "Payload": {"step": name, "event.$": "$.event"}}
        return {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": parameters,
            "ResultSelector": {"answer.$": "$.Payload"},
            "ResultPath": f"$.{name}",
            **rest,
        }

    return {
        "StartAt": "Wrap",
        "States": {
            "Wrap": {"Type": "Pass", "Parameters": {"event.$": "$"}, "Next": "Claim"},
            "Claim": step("claim", Next="Claimed"),
            "Claimed": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.claim.answer.claimed", "BooleanEquals": True, "Next": "Pause"}],
                "Default": "Twice",
            },
            "Pause": {"Type": "Wait", "Seconds": 1, "Next": "Release"},
            "Release": step("release", End=True),
            "Twice": {"Type": "Succeed"},
        },
    }


@pytest.fixture(scope="module")
def chain(aws: Any) -> str:
    """The whole chain, wired; the state machine's ARN."""
    aws.bucket("loop-data", events=True)
    aws.bucket("loop-artifacts")
    source = aws.source_archive("loop-artifacts", "source.tar.gz", train=TRAIN)
    start = aws.function("loop-start", START, SOURCE=source, ROLE=aws.role("loop-training"))
    release = aws.function("loop-release", RELEASE)
    aws.client("dynamodb").create_table(
        TableName="loop",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    machine = aws.client("stepfunctions").create_state_machine(
        name="loop", definition=json.dumps(definition(release)), roleArn=aws.role("loop-states")
    )["stateMachineArn"]
    _, queue = aws.queue("loop.fifo", ContentBasedDeduplication="true", DelaySeconds="1")
    aws.client("lambda").create_event_source_mapping(
        EventSourceArn=queue, FunctionName=start, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    aws.rule(
        "loop-upload",
        {
            "source": ["aws.s3"],
            "detail-type": ["Object Created"],
            "detail": {
                "bucket": {"name": ["loop-data"]},
                "object": {"key": [{"prefix": "incoming/flights/"}]},
            },
        },
        {"Arn": queue, "SqsParameters": {"MessageGroupId": "flights"}},
    )
    aws.rule(
        "loop-trained",
        {
            "source": ["aws.sagemaker"],
            "detail-type": ["SageMaker Training Job State Change"],
            "detail": {
                "TrainingJobName": [{"prefix": "loop-"}],
                "TrainingJobStatus": ["Completed", "Failed"],
            },
        },
        {"Arn": machine, "RoleArn": aws.role("loop-events")},
    )
    return machine


def executions(aws: Any, machine: str) -> list[dict[str, Any]]:
    client = aws.client("stepfunctions")
    found = client.list_executions(stateMachineArn=machine)["executions"]
    return [client.describe_execution(executionArn=each["executionArn"]) for each in found]


def test_upload_to_release(aws: Any, chain: str, tmp_path: Path) -> None:
    s3, sagemaker = aws.client("s3"), aws.client("sagemaker")
    s3.put_object(Bucket="loop-data", Key="elsewhere/x.csv", Body=b"no")
    started = time.monotonic()
    version = s3.put_object(Bucket="loop-data", Key="incoming/flights/a b.csv", Body=b"1,2")["VersionId"]
    assert time.monotonic() - started < 0.5, "an upload does not wait for what follows"
    name = f"loop-{version[:8]}"

    def both_ended() -> Any:
        found = executions(aws, chain)
        return found if len(found) == 2 and all(each["status"] != "RUNNING" for each in found) else None

    end = time.monotonic() + 20
    while not (found := both_ended()):
        assert time.monotonic() < end, aws.log()
        time.sleep(0.1)
    assert [each["status"] for each in found] == ["SUCCEEDED", "SUCCEEDED"], found
    outputs = [json.loads(each["output"]) for each in found]
    assert sorted(each["claim"]["answer"]["claimed"] for each in outputs) == [False, True], (
        "sent twice, done once"
    )
    released = next(each["release"]["answer"] for each in outputs if "release" in each)
    assert released["released"] == name
    assert [(each["MetricName"], each["Value"]) for each in released["metrics"]] == [("auc", 0.11)]

    job = sagemaker.describe_training_job(TrainingJobName=name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    assert [each["Status"] for each in job["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert job["TrainingStartTime"] <= job["TrainingEndTime"]
    assert job["BillableTimeInSeconds"] >= 1
    uri = f"s3://loop-artifacts/models/{name}/output/model.tar.gz"
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == uri
    s3.download_file("loop-artifacts", uri.removeprefix("s3://loop-artifacts/"), str(tmp_path / "m"))
    with tarfile.open(tmp_path / "m") as tar:
        model = json.load(tar.extractfile("model.json"))  # pyright: ignore[reportArgumentType]
    assert model["rows"] == ["1,2"]
    assert model["hps"] == {"rounds": 3, "steps": [{"op": "log"}], "name": "flights"}
    assert model["args"] == ["--rounds", "3", "--steps", '[{"op": "log"}]', "--name", "flights"]
    assert (model["colour"], model["job"]) == ("blue", name)
    assert str(aws.run_dir) in model["home"]

    listed = sagemaker.list_training_jobs(NameContains="loop-", StatusEquals="Completed", MaxResults=1)
    assert [each["TrainingJobName"] for each in listed["TrainingJobSummaries"]] == [name]
    text = (aws.run_dir / "functions" / "loop-start.log").read_text()
    assert (
        "upload incoming/flights/a b.csv arn:aws:sts::123456789012:assumed-role/loop-start-role/loop-start"
        in text
    )
    assert "elsewhere" not in text
    streams = aws.client("logs").describe_log_streams(logGroupName="/aws/lambda/loop-start")["logStreams"]
    assert streams
    history = aws.client("stepfunctions").get_execution_history(executionArn=found[0]["executionArn"])[
        "events"
    ]
    assert history[0]["type"] == "ExecutionStarted"
