"""IAM policy documents as data, built by pure functions.

Leaves may be outputs of other resources; `document` turns the whole into JSON when they are known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi

VERSION: Final = "2012-10-17"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement; `resources` are ARNs, never a bare `*` where the action can name them."""

    sid: str
    actions: Sequence[str]
    resources: Sequence[pulumi.Input[str]]
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    principal: Mapping[str, Any] | str | None = None
    effect: str = "Allow"

    def __post_init__(self) -> None:
        if not self.actions or not self.resources:
            raise ValueError(f"{self.sid}: a statement needs actions and resources")

    def render(self) -> dict[str, Any]:
        """The statement in the policy language."""
        rendered: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": self.effect,
            "Action": list(self.actions),
            "Resource": list(self.resources),
        }
        if self.principal is not None:
            rendered["Principal"] = self.principal
        if self.conditions:
            rendered["Condition"] = {k: dict(v) for k, v in self.conditions.items()}
        return rendered


def document(*statements: Statement) -> pulumi.Output[str]:
    """The policy document of these statements as JSON."""
    return pulumi.Output.json_dumps(
        {"Version": VERSION, "Statement": [statement.render() for statement in statements]}, sort_keys=True
    )


def assume_role(service: str, account_id: pulumi.Input[str] | None = None) -> pulumi.Output[str]:
    """The trust policy by which an AWS service takes a role, on behalf of one account if that is given."""
    statement: dict[str, Any] = {
        "Sid": "Assume",
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": f"{service}.amazonaws.com"},
    }
    if account_id is not None:
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": account_id}}
    return pulumi.Output.json_dumps({"Version": VERSION, "Statement": [statement]}, sort_keys=True)


def assume_by_fargate(account_id: pulumi.Input[str], region: str, cluster_name: str) -> pulumi.Output[str]:
    """The trust policy of the role that starts pods on Fargate, for the profiles of one cluster."""
    profiles = pulumi.Output.concat(f"arn:aws:eks:{region}:", account_id, f":fargateprofile/{cluster_name}/*")
    statement = {
        "Sid": "Assume",
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": "eks-fargate-pods.amazonaws.com"},
        "Condition": {"ArnLike": {"aws:SourceArn": profiles}},
    }
    return pulumi.Output.json_dumps({"Version": VERSION, "Statement": [statement]}, sort_keys=True)


def assume_by_pods(account_id: pulumi.Input[str], cluster_arn: pulumi.Input[str]) -> pulumi.Output[str]:
    """The trust policy of a role for EKS Pod Identity: pods of one cluster, on nodes with the agent."""
    statement = {
        "Sid": "Pods",
        "Effect": "Allow",
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Condition": {
            "StringEquals": {"aws:SourceAccount": account_id},
            "ArnEquals": {"aws:SourceArn": cluster_arn},
        },
    }
    return pulumi.Output.json_dumps({"Version": VERSION, "Statement": [statement]}, sort_keys=True)


def assume_by_service_account(
    provider_arn: pulumi.Input[str], issuer: pulumi.Input[str], namespace: str, account: str
) -> pulumi.Output[str]:
    """The trust policy of a role for one service account through the cluster's OIDC provider (IRSA).

    For pods on Fargate, where Pod Identity does not work.
    """
    host = pulumi.Output.from_input(issuer).apply(lambda url: url.removeprefix("https://"))
    subject = f"system:serviceaccount:{namespace}:{account}"
    conditions = host.apply(lambda name: {f"{name}:aud": "sts.amazonaws.com", f"{name}:sub": subject})
    statement = {
        "Sid": "ServiceAccount",
        "Effect": "Allow",
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": provider_arn},
        "Condition": {"StringEquals": conditions},
    }
    return pulumi.Output.json_dumps({"Version": VERSION, "Statement": [statement]}, sort_keys=True)


def rules_may_send(
    queue_arn: pulumi.Input[str], rule_arns: Sequence[pulumi.Input[str]]
) -> pulumi.Output[str]:
    """The queue policy by which exactly these rules deliver, over TLS only."""
    return document(
        Statement(
            sid="Rules",
            principal={"Service": "events.amazonaws.com"},
            actions=["sqs:SendMessage"],
            resources=[queue_arn],
            conditions={"ArnEquals": {"aws:SourceArn": list(rule_arns)}},
        ),
        Statement(
            sid="TlsOnly",
            effect="Deny",
            principal="*",
            actions=["sqs:*"],
            resources=[queue_arn],
            conditions={"Bool": {"aws:SecureTransport": "false"}},
        ),
    )


def read_objects(sid: str, bucket_arn: pulumi.Input[str], *prefixes: str) -> Statement:
    """Reading objects, and their versions, under some prefixes of one bucket."""
    return Statement(
        sid=sid,
        actions=["s3:GetObject", "s3:GetObjectVersion"],
        resources=[pulumi.Output.concat(bucket_arn, "/", prefix, "*") for prefix in prefixes],
    )


def write_objects(sid: str, bucket_arn: pulumi.Input[str], *prefixes: str) -> Statement:
    """Writing objects under some prefixes of one bucket."""
    return Statement(
        sid=sid,
        actions=["s3:PutObject", "s3:AbortMultipartUpload"],
        resources=[pulumi.Output.concat(bucket_arn, "/", prefix, "*") for prefix in prefixes],
    )


def list_bucket(sid: str, bucket_arn: pulumi.Input[str]) -> Statement:
    """Listing one bucket's keys.

    Not narrowed to prefixes: S3 says "not there" (404) instead of "not allowed" only to who may list, and a
    condition on the prefix is never met when an object is read.
    """
    return Statement(sid=sid, actions=["s3:ListBucket", "s3:ListBucketVersions"], resources=[bucket_arn])


def write_logs(log_group_arn: pulumi.Input[str]) -> Statement:
    """Writing to one log group that exists."""
    return Statement(
        sid="WriteLogs",
        actions=["logs:CreateLogStream", "logs:PutLogEvents"],
        resources=[pulumi.Output.concat(log_group_arn, ":*")],
    )


def use_key(sid: str, key_arn: pulumi.Input[str]) -> Statement:
    """Encrypting and decrypting with one KMS key."""
    return Statement(
        sid=sid,
        actions=[
            "kms:Decrypt",
            "kms:DescribeKey",
            "kms:Encrypt",
            "kms:GenerateDataKey",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
        ],
        resources=[key_arn],
    )


def send_traces(sid: str) -> Statement:
    """Writing to X-Ray, which has no resource level for it."""
    return Statement(
        sid=sid,
        actions=[
            "xray:GetSamplingRules",
            "xray:GetSamplingTargets",
            "xray:PutTelemetryRecords",
            "xray:PutTraceSegments",
        ],
        resources=["*"],
    )


def deliver_logs(sid: str) -> Statement:
    """Setting up a service's log delivery to CloudWatch; none of it has a resource level."""
    return Statement(
        sid=sid,
        actions=[
            "logs:CreateLogDelivery",
            "logs:DeleteLogDelivery",
            "logs:DescribeLogGroups",
            "logs:DescribeResourcePolicies",
            "logs:GetLogDelivery",
            "logs:ListLogDeliveries",
            "logs:PutResourcePolicy",
            "logs:UpdateLogDelivery",
        ],
        resources=["*"],
    )
