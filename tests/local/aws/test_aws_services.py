"""What the program, the functions and the cluster need of other services."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import pytest
import urllib3


def test_a_presigned_identity_tells_the_assumed_role(aws: Any) -> None:
    role = aws.role("deployer")
    keys = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="release")["Credentials"]
    client = aws.client(
        "sts",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    expected = "arn:aws:sts::123456789012:assumed-role/deployer/release"
    assert client.get_caller_identity()["Arn"] == expected

    def add_cluster(request: Any, **_: Any) -> None:
        request.headers["x-k8s-aws-id"] = "cluster"

    client.meta.events.register("before-sign.sts.GetCallerIdentity", add_cluster)
    url = client.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
    assert "x-k8s-aws-id" in urllib.parse.unquote(url)
    answer = urllib3.request("GET", url, headers={"x-k8s-aws-id": "cluster"})
    assert answer.status == 200
    assert f"<Arn>{expected}</Arn>" in answer.data.decode()


def test_presigned_objects(aws: Any) -> None:
    s3 = aws.client("s3")
    aws.bucket("presigned")
    s3.put_object(Bucket="presigned", Key="a/b", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "presigned", "Key": "a/b"})
    assert urllib3.request("GET", url).data == b"x"


def test_object_versions_and_conditions(aws: Any) -> None:
    s3 = aws.client("s3")
    aws.bucket("versions")
    first = s3.put_object(Bucket="versions", Key="k", Body=b"1", IfNoneMatch="*")["VersionId"]
    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="versions", Key="k", Body=b"2", IfNoneMatch="*")
    second = s3.put_object(Bucket="versions", Key="k", Body=b"2")["VersionId"]
    assert first != second
    assert s3.get_object(Bucket="versions", Key="k", VersionId=first)["Body"].read() == b"1"
    source = {"Bucket": "versions", "Key": "k", "VersionId": first}
    s3.copy_object(Bucket="versions", Key="copy", CopySource=source)
    assert s3.get_object(Bucket="versions", Key="copy")["Body"].read() == b"1"
    s3.delete_object(Bucket="versions", Key="k")
    assert s3.list_object_versions(Bucket="versions", Prefix="k")["DeleteMarkers"][0]["IsLatest"]


def test_conditional_items(aws: Any) -> None:
    client = aws.client("dynamodb")
    client.create_table(
        TableName="state",
        KeySchema=[
            {"AttributeName": "model", "KeyType": "HASH"},
            {"AttributeName": "record", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "model", "AttributeType": "S"},
            {"AttributeName": "record", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    key = {"model": {"S": "flights"}, "record": {"S": "counter"}}
    increment: dict[str, Any] = {
        "TableName": "state",
        "Key": key,
        "UpdateExpression": "ADD #n :one",
        "ExpressionAttributeNames": {"#n": "n"},
        "ExpressionAttributeValues": {":one": {"N": "1"}},
        "ReturnValues": "UPDATED_NEW",
    }
    assert [client.update_item(**increment)["Attributes"]["n"]["N"] for _ in range(2)] == ["1", "2"]
    item = {**key, "record": {"S": "lease"}, "owner": {"S": "a"}}
    condition = "attribute_not_exists(#r)"
    names = {"#r": "record"}
    client.put_item(
        TableName="state", Item=item, ConditionExpression=condition, ExpressionAttributeNames=names
    )
    with pytest.raises(client.exceptions.ConditionalCheckFailedException):
        client.put_item(
            TableName="state", Item=item, ConditionExpression=condition, ExpressionAttributeNames=names
        )
    with pytest.raises(client.exceptions.TransactionCanceledException):
        client.transact_write_items(
            TransactItems=[
                {
                    "Put": {
                        "TableName": "state",
                        "Item": item,
                        "ConditionExpression": condition,
                        "ExpressionAttributeNames": names,
                    }
                }
            ]
        )


def test_model_packages_count_up(aws: Any) -> None:
    client = aws.client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName="flights")
    for status in ("Approved", "Rejected"):
        client.create_model_package(
            ModelPackageGroupName="flights",
            ModelApprovalStatus=status,
            CustomerMetadataProperties={"digest": "sha256:1"},
            InferenceSpecification={
                "Containers": [{"Image": "repo@sha256:1", "ModelDataUrl": "s3://b/m.tar.gz"}],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
            },
        )
    found = client.list_model_packages(ModelPackageGroupName="flights")["ModelPackageSummaryList"]
    assert sorted((each["ModelPackageVersion"], each["ModelApprovalStatus"]) for each in found) == [
        (1, "Approved"),
        (2, "Rejected"),
    ]


def test_the_rest_answers(aws: Any) -> None:
    key = aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
    aws.client("kms").encrypt(KeyId=key, Plaintext=b"x")
    aws.client("secretsmanager").create_secret(Name="s", SecretString="x")
    topic = aws.client("sns").create_topic(Name="alarms")["TopicArn"]
    aws.client("cloudwatch").put_metric_alarm(
        AlarmName="a",
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        MetricName="m",
        Namespace="n",
        Period=60,
        Statistic="Sum",
        Threshold=1,
        AlarmActions=[topic],
    )
    aws.client("logs").create_log_group(logGroupName="/x")
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    name = aws.role("r").rpartition("/")[2]
    aws.client("iam").put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)


def test_a_cluster_is_the_local_one_once_that_runs(aws: Any) -> None:
    eks = aws.client("eks")
    eks.create_cluster(name="c", roleArn=aws.role("c"), resourcesVpcConfig={"subnetIds": ["subnet-1"]})
    assert eks.describe_cluster(name="c")["cluster"]["endpoint"].endswith("eks.amazonaws.com/")
    ready = aws.run_dir / "cluster.json"
    ready.write_text(json.dumps({"endpoint": "https://127.0.0.1:1", "ca": "Q0E=", "admin_token": "t"}))
    found = eks.describe_cluster(name="c")["cluster"]
    assert (found["endpoint"], found["certificateAuthority"]["data"]) == ("https://127.0.0.1:1", "Q0E=")
    assert found["name"] == "c"
    ready.unlink()
