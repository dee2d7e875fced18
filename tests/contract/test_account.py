"""What guards the account, where a stack asks for it: present, in order, and able to write its records."""

import json
from collections.abc import Callable
from typing import Any

from tests.contract.recorder import ACCOUNT, Program, Registered

Run = Callable[[str], Program]
STATUS = "aws:cfg/recorderStatus:RecorderStatus"


def only(program: Program, type_: str) -> Registered:
    (found,) = program.of(type_)
    return found


def allowed(program: Program, service: str) -> dict[str, dict[str, Any]]:
    """Action → statement by which a service may do it to the bucket of the account's records."""
    policy = program.one("aws:s3/bucketPolicy:BucketPolicy", "trainserve-account-records-bucket-policy")
    return {
        action: statement
        for statement in json.loads(policy.inputs["policy"])["Statement"]
        if statement["Effect"] == "Allow" and statement["Principal"] == {"Service": service}
        for action in statement["Action"]
    }


def test_standards_are_checked_only_when_config_records_what_they_read(up: Run) -> None:
    program = up("prod")
    known = program.by_urn()
    standards = program.of("aws:securityhub/standardsSubscription:StandardsSubscription")
    assert {s.inputs["standardsArn"].split("/")[1] for s in standards} == {
        "cis-aws-foundations-benchmark",
        "aws-foundational-security-best-practices",
    }
    for standard in standards:
        needed = {known[urn].type for urn in standard.dependencies}
        assert {STATUS, "aws:securityhub/account:Account"} <= needed
    # A recorder can be started only with somewhere to deliver to, and that only where it may write.
    channel = only(program, "aws:cfg/deliveryChannel:DeliveryChannel")
    assert channel.urn in only(program, STATUS).dependencies
    assert {known[urn].type for urn in channel.dependencies} >= {
        "aws:cfg/recorder:Recorder",
        "aws:s3/bucketPolicy:BucketPolicy",
    }


def test_config_records_everything_once_a_day_by_its_own_role(up: Run) -> None:
    program = up("prod")
    assert only(program, STATUS).inputs["isEnabled"] is True
    recorder = only(program, "aws:cfg/recorder:Recorder").inputs
    role = only(program, "aws:iam/serviceLinkedRole:ServiceLinkedRole")
    assert role.inputs["awsServiceName"] == "config.amazonaws.com"
    assert recorder["roleArn"].endswith(role.name)
    assert recorder["recordingMode"] == {"recordingFrequency": "DAILY"}
    group = recorder["recordingGroup"]
    assert group["recordingStrategies"] == [{"useOnly": "EXCLUSION_BY_RESOURCE_TYPES"}]
    assert group["exclusionByResourceTypes"] == [{"resourceTypes": ["AWS::Config::ResourceCompliance"]}]


def test_trail_and_recorder_write_to_their_bucket_and_nobody_elses_do(up: Run) -> None:
    program = up("prod")
    config = allowed(program, "config.amazonaws.com")
    assert config.keys() == {"s3:GetBucketAcl", "s3:ListBucket", "s3:PutObject"}
    assert config["s3:PutObject"]["Resource"] == [
        f"arn:aws:s3:us-east-1:{ACCOUNT}:trainserve-account-records-bucket/AWSLogs/{ACCOUNT}/Config/*"
    ]
    trail = allowed(program, "cloudtrail.amazonaws.com")
    assert trail.keys() == {"s3:GetBucketAcl", "s3:PutObject"}
    for statement in config.values():
        assert statement["Condition"]["StringEquals"]["aws:SourceAccount"] == ACCOUNT
    for statement in trail.values():
        own = statement["Condition"]["StringEquals"]["aws:SourceArn"]
        assert own == f"arn:aws:cloudtrail:us-east-1:{ACCOUNT}:trail/trainserve-prod"
    key = json.loads(only(program, "aws:kms/key:Key").inputs["policy"])["Statement"]
    users = {
        str(service)
        for s in key
        if "kms:GenerateDataKey*" in s["Action"]
        for service in [s["Principal"].get("Service")]
    }
    assert {"config.amazonaws.com", "cloudtrail.amazonaws.com"} <= users


def test_the_account_is_left_alone_where_it_is_not_asked_for(up: Run) -> None:
    kinds = {r.type.split(":")[1].split("/")[0] for r in up("dev").resources if r.type.startswith("aws:")}
    assert not kinds & {"cfg", "cloudtrail", "guardduty", "securityhub"}
