"""Every rule of the pack lets the right thing pass and finds the wrong one."""

import json
from typing import Any

import pytest

from policy.model import Stack, Subject, findings
from policy.rules import RULES

Part = tuple[str, str, dict[str, Any]]
"""Type, logical name, properties; `protect` among them is the option of that name."""

BUCKET: Part = ("aws:s3/bucket:Bucket", "data", {})
ENCRYPTION = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
CONTAINER: dict[str, Any] = {
    "name": "server",
    "image": "repo@sha256:" + "a" * 64,
    "readinessProbe": {},
    "livenessProbe": {},
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    "securityContext": {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
POOL = {
    "limits": {"cpu": 10},
    "disruption": {"budgets": [{"nodes": "10%"}]},
    "template": {"spec": {"expireAfter": "720h"}},
}


def policy(**statement: Any) -> str:
    allowed = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::b/x/*"], **statement}
    return json.dumps({"Statement": [allowed]})


def deployment(**changes: Any) -> Part:
    container = {key: value for key, value in {**CONTAINER, **changes}.items() if value is not None}
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container]}}
    return (
        "kubernetes:apps/v1:Deployment",
        "a",
        {"metadata": {"namespace": "n"}, "spec": {"template": template}},
    )


def pool(name: str, *capacities: str, **changes: Any) -> Part:
    requirement = {"key": "karpenter.sh/capacity-type", "operator": "In", "values": list(capacities)}
    template = {"spec": {"expireAfter": "720h", "requirements": [requirement]}}
    return ("kubernetes:karpenter.sh/v1:NodePool", name, {"spec": {**POOL, "template": template, **changes}})


def node_class(**spec: Any) -> Part:
    return ("kubernetes:karpenter.k8s.aws/v1:EC2NodeClass", "c", {"spec": spec})


def ingress(**annotations: str) -> Part:
    names = {f"alb.ingress.kubernetes.io/{k.replace('_', '-')}": v for k, v in annotations.items()}
    return ("kubernetes:networking.k8s.io/v1:Ingress", "i", {"metadata": {"annotations": names}})


def role_policy(**statement: Any) -> Part:
    return ("aws:iam/rolePolicy:RolePolicy", "p", {"policy": policy(**statement)})


def trust(principal: Any) -> Part:
    return ("aws:iam/role:Role", "r", {"assumeRolePolicy": policy(Principal=principal)})


def role(*rules: dict[str, Any]) -> Part:
    return ("kubernetes:rbac.authorization.k8s.io/v1:Role", "r", {"rules": list(rules)})


def service(**spec: Any) -> Part:
    return ("kubernetes:core/v1:Service", "s", {"spec": spec})


def network_policy(**spec: Any) -> Part:
    return (
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        "p",
        {"metadata": {"namespace": "n"}, "spec": {"podSelector": {}, **spec}},
    )


def tls(secure: str) -> str:
    return policy(Effect="Deny", Principal="*", Condition={"Bool": {"aws:SecureTransport": secure}})


BLOCKED: dict[str, Any] = dict.fromkeys(
    ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True
)
EBS = {"deviceName": "/dev/xvda", "ebs": {"encrypted": True}}
TAGS = {"Project": "p", "Environment": "e", "ManagedBy": "m"}

CASES: dict[str, tuple[list[Part], list[Part]]] = {
    # Rule → what passes, what is found.
    "bucket-encrypted": (
        [
            BUCKET,
            (
                ENCRYPTION,
                "data-encryption",
                {"rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms"}}]},
            ),
        ],
        [BUCKET],
    ),
    "encrypted-at-rest": (
        [("aws:sns/topic:Topic", "t", {"kmsMasterKeyId": "k"})],
        [("aws:sns/topic:Topic", "t", {})],
    ),
    "cluster-secrets-encrypted": (
        [
            (
                "aws:eks/cluster:Cluster",
                "c",
                {
                    "vpcConfig": {"endpointPublicAccess": False},
                    "encryptionConfig": {"provider": {"keyArn": "arn:aws:kms:…"}},
                },
            )
        ],
        [("aws:eks/cluster:Cluster", "c", {"vpcConfig": {"endpointPublicAccess": False}})],
    ),
    "node-volumes-encrypted": (
        [node_class(blockDeviceMappings=[EBS])],
        [node_class(blockDeviceMappings=[{**EBS, "ebs": {"encrypted": False}}])],
    ),
    "bucket-tls-only": (
        [BUCKET, ("aws:s3/bucketPolicy:BucketPolicy", "data-tls", {"policy": tls("false")})],
        [BUCKET, ("aws:s3/bucketPolicy:BucketPolicy", "data-tls", {"policy": tls("true")})],
    ),
    "ingress-tls13": (
        [ingress(listen_ports='[{"HTTPS": 443}]', ssl_policy="ELBSecurityPolicy-TLS13-1-2-2021-06")],
        [ingress(listen_ports='[{"HTTPS": 443}]', ssl_policy="ELBSecurityPolicy-2016-08")],
    ),
    "bucket-not-public": (
        [BUCKET, ("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "data-private", BLOCKED)],
        [
            BUCKET,
            (
                "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
                "data-private",
                {**BLOCKED, "blockPublicAcls": False},
            ),
        ],
    ),
    "resource-policy-not-open": (
        [("aws:sqs/queuePolicy:QueuePolicy", "q", {"policy": policy(Principal={"Service": "events"})})],
        [("aws:sqs/queuePolicy:QueuePolicy", "q", {"policy": policy(Principal="*")})],
    ),
    "security-group-not-open": (
        [("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "g", {"cidrIpv4": "10.0.0.0/8"})],
        [("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "g", {"cidrIpv4": "0.0.0.0/0"})],
    ),
    "cluster-endpoint-not-open": (
        [("eks:index:Cluster", "c", {"endpointPublicAccess": True, "publicAccessCidrs": ["192.0.2.0/24"]})],
        [("eks:index:Cluster", "c", {"endpointPublicAccess": True, "publicAccessCidrs": ["0.0.0.0/0"]})],
    ),
    "ingress-with-certificate": (
        [ingress(scheme="internet-facing", certificate_arn="arn:aws:acm:…")],
        [ingress(scheme="internet-facing")],
    ),
    "service-not-open": ([service(type="ClusterIP")], [service(type="LoadBalancer")]),
    "iam-action-named": ([role_policy()], [role_policy(Action=["s3:*"])]),
    "iam-resource-named": (
        [role_policy(), role_policy(Action=["ecr:GetAuthorizationToken"], Resource=["*"])],
        [role_policy(Resource=["*"])],
    ),
    "iam-no-administrator": (
        [
            (
                "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
                "a",
                {"policyArn": "arn:aws:iam::aws:policy/X"},
            )
        ],
        [
            (
                "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
                "a",
                {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
            )
        ],
    ),
    "iam-trust-named": ([trust({"Service": "lambda.amazonaws.com"})], [trust({"AWS": "*"})]),
    "iam-no-users": ([], [("aws:iam/accessKey:AccessKey", "k", {})]),
    "rbac-named": (
        [role({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]})],
        [role({"apiGroups": ["apps"], "resources": ["*"], "verbs": ["get"]})],
    ),
    "tagged": (
        [("aws:sqs/queue:Queue", "q", {"tags": TAGS}), ("aws:iam/rolePolicy:RolePolicy", "p", {})],
        [("aws:sqs/queue:Queue", "q", {"tags": {"Project": "p"}})],
    ),
    "image-by-digest": ([deployment()], [deployment(image="repo:latest")]),
    "build-image-pinned": (
        [("aws:codebuild/project:Project", "b", {"environment": {"image": "aws/codebuild/x:6.0"}})],
        [("aws:codebuild/project:Project", "b", {"environment": {"image": "aws/codebuild/x:latest"}})],
    ),
    "image-tags-immutable": (
        [("aws:ecr/repository:Repository", "r", {"imageTagMutability": "IMMUTABLE"})],
        [("aws:ecr/repository:Repository", "r", {"imageTagMutability": "MUTABLE"})],
    ),
    "version-pinned": (
        [
            ("kubernetes:helm.sh/v3:Release", "c", {"version": "1.2.3"}),
            ("aws:eks/addon:Addon", "a", {"addonVersion": "v1.2.3-eksbuild.1"}),
        ],
        [("kubernetes:helm.sh/v3:Release", "c", {"version": "1.x"})],
    ),
    "machine-image-pinned": (
        [node_class(amiSelectorTerms=[{"alias": "al2023@v20261101"}])],
        [node_class(amiSelectorTerms=[{"alias": "al2023@latest"}])],
    ),
    "logs-retained": (
        [("aws:cloudwatch/logGroup:LogGroup", "l", {"retentionInDays": 7})],
        [("aws:cloudwatch/logGroup:LogGroup", "l", {})],
    ),
    "budget": ([("aws:budgets/budget:Budget", "b", {"notifications": [{}]})], []),
    "workload-probed": ([deployment()], [deployment(readinessProbe=None)]),
    "workload-limited": ([deployment()], [deployment(resources={"requests": {"cpu": "1"}})]),
    "workload-confined": ([deployment()], [deployment(securityContext={})]),
    "namespace-restricted": (
        [
            (
                "kubernetes:core/v1:Namespace",
                "n",
                {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
            )
        ],
        [("kubernetes:core/v1:Namespace", "n", {"metadata": {"labels": {}}})],
    ),
    "namespace-denies-by-default": (
        [deployment(), network_policy(policyTypes=["Ingress", "Egress"]), network_policy(ingress=[{}])],
        [deployment(), network_policy(ingress=[{}])],
    ),
    "workload-disruption-budget": (
        [
            deployment(),
            (
                "kubernetes:policy/v1:PodDisruptionBudget",
                "b",
                {"metadata": {"namespace": "n"}, "spec": {"selector": {"matchLabels": {"app": "a"}}}},
            ),
        ],
        [deployment()],
    ),
    "spot-fallback": ([pool("spot", "spot"), pool("sure", "on-demand")], [pool("spot", "spot")]),
    "node-pool-bounded": ([pool("a", "spot")], [pool("a", "spot", limits=None)]),
    "production-protected": (
        [("aws:kms/key:Key", "k", {"protect": True})],
        [("aws:kms/key:Key", "k", {})],
    ),
    "production-not-forced": (
        [("aws:s3/bucket:Bucket", "b", {"forceDestroy": False})],
        [("aws:s3/bucket:Bucket", "b", {"forceDestroy": True})],
    ),
    "bucket-versioned": (
        [
            BUCKET,
            (
                "aws:s3/bucketVersioning:BucketVersioning",
                "data-versions",
                {"versioningConfiguration": {"status": "Enabled"}},
            ),
        ],
        [BUCKET],
    ),
    "key-rotated": (
        [("aws:kms/key:Key", "k", {"enableKeyRotation": True})],
        [("aws:kms/key:Key", "k", {})],
    ),
    "table-recoverable": (
        [("aws:dynamodb/table:Table", "t", {"pointInTimeRecovery": {"enabled": True}})],
        [("aws:dynamodb/table:Table", "t", {})],
    ),
    "dead-letters": (
        [("aws:sqs/queue:Queue", "q", {"redrivePolicy": "{}"}), ("aws:sqs/queue:Queue", "dead", {})],
        [("aws:sqs/queue:Queue", "q", {})],
    ),
}
KNOWN = {rule.id: rule for rule in RULES}


def stack(parts: list[Part], name: str = "prod") -> Stack:
    subjects = [
        Subject(
            urn=f"urn:pulumi:{name}::t::{kind}::{logical}-{index}",
            type=kind,
            name=logical,
            props={key: value for key, value in props.items() if key != "protect"},
            protect=bool(props.get("protect")),
        )
        for index, (kind, logical, props) in enumerate(parts)
    ]
    return Stack(name=name, subjects=subjects)


def test_every_rule_has_its_cases_and_no_case_is_of_a_rule_that_is_gone() -> None:
    assert CASES.keys() == KNOWN.keys()
    assert len(KNOWN) == len(RULES)


@pytest.mark.parametrize("rule", CASES)
def test_what_is_right_passes(rule: str) -> None:
    assert findings([KNOWN[rule]], stack(CASES[rule][0])) == []


@pytest.mark.parametrize("rule", CASES)
def test_what_is_wrong_is_found(rule: str) -> None:
    found = findings([KNOWN[rule]], stack(CASES[rule][1]))
    assert {finding.rule for finding in found} == {rule}
    for finding in found:
        assert finding.message
        assert finding.advice[0].isupper()
        assert finding.advice.endswith(".")


@pytest.mark.parametrize("rule", ["production-protected", "production-not-forced"])
@pytest.mark.parametrize(("name", "count"), [("dev", 0), ("prod", 1), ("eu-production", 1)])
def test_what_production_asks_for_is_not_asked_of_others(rule: str, name: str, count: int) -> None:
    assert len(findings([KNOWN[rule]], stack(CASES[rule][1], name))) == count


@pytest.mark.parametrize("half", ["0.0.0.0/1", "128.0.0.0/1", "::/1"])
def test_the_internet_in_halves_is_the_internet(half: str) -> None:
    open_cluster = ("eks:index:Cluster", "c", {"endpointPublicAccess": True, "publicAccessCidrs": [half]})
    assert findings([KNOWN["cluster-endpoint-not-open"]], stack([open_cluster])) != []


def test_a_host_scanner_says_why_it_must_see_the_host() -> None:
    kind, name, props = deployment(securityContext={})
    annotated = {
        **props,
        "metadata": {"namespace": "n", "annotations": {"trainserve/privileged-reason": "…"}},
    }
    assert findings([KNOWN["workload-confined"]], stack([(kind, name, annotated)])) == []
    assert findings([KNOWN["workload-limited"]], stack([deployment(resources={})])) != []


def test_what_is_mandatory_comes_first() -> None:
    wrong = stack([*CASES["workload-disruption-budget"][1], *CASES["encrypted-at-rest"][1]])
    levels = [finding.level for finding in findings(RULES, wrong)]
    assert levels == sorted(levels, key=lambda level: level != "mandatory")
    assert {"mandatory", "advisory"} == set(levels)
