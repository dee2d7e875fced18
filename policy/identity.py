"""Who may do what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from policy.model import Rule, Subject, each, listed, statements

_IDENTITY_POLICIES: Final = (
    "aws:iam/rolePolicy:RolePolicy",
    "aws:iam/policy:Policy",
    "aws:iam/userPolicy:UserPolicy",
    "aws:iam/groupPolicy:GroupPolicy",
)
WITHOUT_RESOURCE: Final = (
    "acm:DescribeCertificate",
    "acm:ListCertificates",
    "cloudwatch:GetMetricData",
    "cloudwatch:ListMetrics",
    "cloudwatch:PutMetricData",
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:Describe*",
    "ec2:GetSecurityGroupsForVpc",
    "ec2:UnassignPrivateIpAddresses",
    "ecr:GetAuthorizationToken",
    "elasticloadbalancing:Describe*",
    "elasticloadbalancing:SetWebAcl",
    "iam:ListInstanceProfiles",
    "iam:ListServerCertificates",
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
    "pricing:GetProducts",
    "sagemaker:ListModelPackages",
    "sagemaker:ListTrainingJobs",
    "arc-zonal-shift:GetManagedResource",
    "arc-zonal-shift:ListManagedResources",
    "arc-zonal-shift:ListZonalShifts",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
)
"""Actions that IAM gives no resource level, or whose lists have none (Service Authorization Reference)."""

_OTHERS_KINDS: Final = ("image/*", "snapshot/*")
"""Of EC2: machine images are other accounts' and have no tag of ours."""

_WILDCARD: Final = re.compile(r"[*?]")
_ONLY_A_KIND: Final = re.compile(r"([a-z0-9.-]+[/:])?")
_TAG_KEYS: Final = ("aws:ResourceTag/", "aws:RequestTag/", "ec2:ResourceTag/")
_ADMINISTRATORS: Final = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess")


def allowing(subject: Subject) -> list[Mapping[str, Any]]:
    """The Allow statements of an identity policy."""
    return [s for s in statements(subject.props.get("policy")) if s.get("Effect") == "Allow"]


def _name(statement: Mapping[str, Any]) -> str:
    return f"statement {statement.get('Sid', '?')}"


@each(*_IDENTITY_POLICIES)
def _actions(subject: Subject) -> Iterable[str]:
    for statement in allowing(subject):
        if "NotAction" in statement:
            yield f"{_name(statement)} allows everything but a list (NotAction)"
        for action in listed(statement.get("Action")):
            if "*" in str(action):
                yield f"{_name(statement)} allows {action}"


def without_resource(action: str) -> bool:
    """Whether this action may stand for every resource."""
    return any(fnmatchcase(action, pattern) for pattern in WITHOUT_RESOURCE)


@each(*_IDENTITY_POLICIES)
def _resources(subject: Subject) -> Iterable[str]:
    for statement in allowing(subject):
        if "NotResource" in statement:
            yield f"{_name(statement)} allows every resource but a list (NotResource)"
        wide = [str(arn) for arn in listed(statement.get("Resource")) if everything(str(arn))]
        if not wide or bound_by_tag(statement):
            continue
        for action in listed(statement.get("Action")):
            if not without_resource(str(action)):
                yield f"{_name(statement)} allows {action} on {', '.join(wide)}"


def everything(arn: str) -> bool:
    """Whether an ARN stands for all of AWS, of a service, or of a kind; a wildcard may be the rest of a name.

    What does not begin with `arn:` refers to a resource that is not made yet, and so names it.
    """
    if _WILDCARD.match(arn):
        return True
    if not arn.startswith("arn:") or not _WILDCARD.search(arn):
        return False
    parts = arn.split(":", 5)
    if len(parts) < 6 or any(_WILDCARD.search(part) for part in parts[1:3]):
        return True
    service, named = parts[2], parts[5]
    if service == "ec2" and named in _OTHERS_KINDS:
        return False
    return _ONLY_A_KIND.fullmatch(_WILDCARD.split(named)[0]) is not None


def bound_by_tag(statement: Mapping[str, Any]) -> bool:
    """Whether a condition narrows the statement to resources, or requests, whose tag has a certain value.

    That a tag has any value, or another one, or the right one if it is there, says little.
    """
    conditions: Mapping[str, Any] = statement.get("Condition", {})
    return any(
        str(key).startswith(_TAG_KEYS) and not any(_WILDCARD.match(str(value)) for value in listed(values))
        for operator in ("StringEquals", "StringLike")
        for key, values in conditions.get(operator, {}).items()
    )


@each("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "aws:iam/role:Role")
def _attachments(subject: Subject) -> Iterable[str]:
    attached = [subject.props.get("policyArn"), *listed(subject.props.get("managedPolicyArns"))]
    for arn in attached:
        if isinstance(arn, str) and arn.rsplit("/", 1)[-1] in _ADMINISTRATORS:
            yield f"attaches {arn.rsplit('/', 1)[-1]}"


@each("aws:iam/role:Role")
def _trust(subject: Subject) -> Iterable[str]:
    for statement in statements(subject.props.get("assumeRolePolicy")):
        principal: Any = statement.get("Principal")
        anyone = principal == "*" or (isinstance(principal, Mapping) and "*" in listed(principal.get("AWS")))
        if anyone and statement.get("Effect") == "Allow":
            yield f"{_name(statement)} lets anyone assume the role"


@each("aws:iam/userPolicy:UserPolicy", "aws:iam/user:User", "aws:iam/accessKey:AccessKey")
def _users(subject: Subject) -> Iterable[str]:
    yield f"gives long-lived credentials ({subject.type.rsplit(':', 1)[-1]})"


@each("kubernetes:rbac.authorization.k8s.io/v1:Role", "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole")
def _kubernetes(subject: Subject) -> Iterable[str]:
    for rule in listed(subject.props.get("rules")):
        for field in ("verbs", "resources", "apiGroups"):
            if "*" in listed(rule.get(field)):
                yield f"a rule allows every one of {field}"


RULES: Final = (
    Rule(
        id="iam-action-named",
        level="mandatory",
        advice="List the actions one by one.",
        check=_actions,
    ),
    Rule(
        id="iam-resource-named",
        level="mandatory",
        advice="Name the resource's ARN, or bind the statement to a tag by a condition.",
        check=_resources,
    ),
    Rule(
        id="iam-no-administrator",
        level="mandatory",
        advice="Attach a policy of what is needed.",
        check=_attachments,
    ),
    Rule(
        id="iam-trust-named",
        level="mandatory",
        advice="Name the service, account or identity provider that may assume the role.",
        check=_trust,
    ),
    Rule(
        id="iam-no-users",
        level="mandatory",
        advice="Use a role; let people and machines assume it.",
        check=_users,
    ),
    Rule(
        id="rbac-named",
        level="mandatory",
        advice="List API groups, resources and verbs one by one.",
        check=_kubernetes,
    ),
)
