"""What the scanner is given, and what is made of its answer; checkov itself runs in `make scan` only."""

import json
from typing import Any

import pytest

from policy.scan import Excepted, Failed, Scanned, complaints, exceptions, manifests, read
from policy.terraform import configuration, terraform_type
from tests.contract.recorder import run

BUCKET = "urn:pulumi:dev::trainserve::trainserve:storage:Storage$aws:s3/bucket:Bucket::data"


def resource(type_: str, name: str, inputs: dict[str, Any], **references: list[str]) -> dict[str, Any]:
    return {
        "kind": "resource",
        "type": type_,
        "name": name,
        "inputs": inputs,
        "property_dependencies": references,
    }


def converted(*resources: dict[str, Any]) -> dict[str, Any]:
    return configuration(resources)["resource"]


@pytest.mark.parametrize(
    ("type_", "expected"),
    {
        "aws:cloudtrail/trail:Trail": "aws_cloudtrail",
        "aws:cloudwatch/eventRule:EventRule": "aws_cloudwatch_event_rule",
        "aws:ec2/vpc:Vpc": "aws_vpc",
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": "aws_default_security_group",
        "aws:kms/key:Key": "aws_kms_key",
        "aws:lambda/function:Function": "aws_lambda_function",
        "aws:s3/bucketObjectv2:BucketObjectv2": "aws_s3_object",
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": "aws_s3_bucket_public_access_block",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": "aws_vpc_security_group_ingress_rule",
        "eks:index:Cluster": "aws_eks_cluster",
    }.items(),
)
def test_types_have_terraforms_names(type_: str, expected: str) -> None:
    assert terraform_type(type_) == expected


def test_blocks_are_singular_and_keys_are_snake_case() -> None:
    inputs = {
        "rules": [
            {"bucketKeyEnabled": True, "applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}
        ]
    }
    kind = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    (found,) = converted(resource(kind, "a", inputs)).values()
    default = {"sse_algorithm": "AES256"}
    assert found["a"] == {
        "rule": [{"bucket_key_enabled": True, "apply_server_side_encryption_by_default": default}]
    }


def test_maps_keep_their_keys() -> None:
    inputs = {"tags": {"CostCentre": "a"}, "environment": {"variables": {"POWERTOOLS_LOG_LEVEL": "INFO"}}}
    found = converted(resource("aws:lambda/function:Function", "a", inputs))["aws_lambda_function"]["a"]
    assert found == inputs


def test_references_stay_references() -> None:
    block = resource(
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "private",
        {"bucket": "${data.id}", "other": "${unknown.id}"},
        bucket=[BUCKET],
    )
    found = converted(block)["aws_s3_bucket_public_access_block"]["private"]
    assert found == {"bucket": "${aws_s3_bucket.data.id}", "other": "${unknown.id}"}


def test_the_cluster_shows_what_is_open_and_what_is_encrypted() -> None:
    inputs = {"name": "a", "endpointPublicAccess": False, "encryptionConfigKeyArn": "arn:k"}
    found = converted(resource("eks:index:Cluster", "a", inputs))["aws_eks_cluster"]["a"]
    assert found["vpc_config"]["endpoint_public_access"] is False
    assert found["encryption_config"] == {"resources": ["secrets"], "provider": {"key_arn": "arn:k"}}


def test_every_aws_resource_of_the_program_is_in_it() -> None:
    program = run("prod", like="prod")
    resources = [resource(r.type, r.name, dict(r.inputs)) for r in program.resources if r.custom or r.remote]
    found = converted(*resources)
    count = sum(len(named) for named in found.values())
    assert count == sum(r["type"].startswith(("aws:", "eks:")) for r in resources) > 150
    assert all(type_.islower() and "__" not in type_ for type_ in found)


def test_charts_are_left_out_of_the_manifests() -> None:
    chart = resource("kubernetes:helm.sh/v3:Release", "a", {"chart": "a"})
    pods = resource("kubernetes:apps/v1:Deployment", "b", {"kind": "Deployment"})
    assert manifests([chart, pods]) == [{"kind": "Deployment"}]


REPORT = {
    "summary": {"passed": 3, "parsing_errors": 0},
    "results": {"failed_checks": [{"check_id": "C1", "check_name": "No.", "resource": "aws_s3_bucket.data"}]},
}


def test_reports_of_several_frameworks_are_one() -> None:
    scanned = read([REPORT, REPORT])
    assert scanned.passed == 6
    assert scanned.failed == [Failed(check="C1", title="No.", resource="data")] * 2


@pytest.mark.parametrize(
    "report",
    [
        {"passed": 0, "failed": 0, "resource_count": 0},
        {**REPORT, "summary": {"parsing_errors": 1, "passed": 3}},
    ],
)
def test_a_scan_that_read_nothing_is_no_success(report: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="could not read"):
        read([REPORT, report])


def test_a_finding_is_excepted_by_check_name_and_stack_and_else_reported() -> None:
    known = [
        Excepted(check="C1", resources=["data-*"], reason="because"),
        Excepted(check="C2", resources=["*"], reason="because", stacks=["dev"]),
    ]
    found = [
        Failed(check="C1", title="No.", resource="data-a"),
        Failed(check="C1", title="No.", resource="other"),
        Failed(check="C2", title="No.", resource="data-a"),
    ]
    stacks = {"dev": Scanned(passed=1, failed=found), "prod": Scanned(passed=1, failed=found)}
    assert list(complaints(stacks, known)) == [
        "dev: C1 other: No.",
        "prod: C1 other: No.",
        "prod: C2 data-a: No.",
    ]


def test_an_exception_that_is_not_needed_any_more_is_reported() -> None:
    known = [Excepted(check="C9", resources=["*"], reason="because")]
    assert list(complaints({"dev": Scanned(passed=1, failed=[])}, known)) == [
        "exceptions.yaml: C9 is no longer found: take it out"
    ]


def test_every_exception_has_a_reason_in_a_sentence() -> None:
    known = exceptions()
    assert len(known) > 5
    for excepted in known:
        assert excepted.reason.endswith("."), excepted.check
        assert len(excepted.reason.split()) > 8, excepted.check
    assert len({json.dumps([e.check, list(e.stacks)]) for e in known}) == len(known)
