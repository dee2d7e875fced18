"""Which resource types cost what: fixed charges, assumed use, paid by use and not priced, and free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from local.plan.tables import HOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.plan.cost import Assumptions
    from local.plan.snapshot import Item, Snapshot

INGRESS: Final = "kubernetes:networking.k8s.io/v1:Ingress"
WEB_ACL: Final = "aws:wafv2/webAcl:WebAcl"
_OBJECT: Final = "aws:s3/bucketObjectv2:BucketObjectv2"


@dataclass(frozen=True)
class Charge:
    """A quantity at a price of the table."""

    price: str
    quantity: float
    kind: Literal["fixed", "usage"] = "fixed"


def _cluster(item: Item, _a: Assumptions) -> Iterator[Charge]:
    policy: Any = item.inputs.get("upgradePolicy") or {}
    extended = isinstance(policy, Mapping) and policy.get("supportType") == "EXTENDED"
    yield Charge("eks-cluster-extended" if extended else "eks-cluster", HOURS)


def _nat(_item: Item, a: Assumptions) -> Iterator[Charge]:
    yield Charge("nat-gateway", HOURS)
    yield Charge("nat-data", a.nat_gb, "usage")


def _endpoint(item: Item, _a: Assumptions) -> Iterator[Charge]:
    if item.inputs.get("vpcEndpointType") == "Interface":
        yield Charge("endpoint", HOURS * max(1, len(item.inputs.get("subnetIds") or [])))


def _service(item: Item, _a: Assumptions) -> Iterator[Charge]:
    spec: Any = item.inputs.get("spec") or {}
    if isinstance(spec, Mapping) and spec.get("type") == "LoadBalancer":
        yield Charge("nlb", HOURS)
        yield Charge("nlb-lcu", HOURS, "usage")


def _load_balancer(item: Item, _a: Assumptions) -> Iterator[Charge]:
    network = item.inputs.get("loadBalancerType") == "network"
    yield Charge("nlb" if network else "alb", HOURS)


def _web_acl(item: Item, _a: Assumptions) -> Iterator[Charge]:
    yield Charge("waf-acl", 1)
    yield Charge("waf-rule", len(item.inputs.get("rules") or []))


def _alarm(item: Item, _a: Assumptions) -> Iterator[Charge]:
    queries: list[Any] = item.inputs.get("metricQueries") or []
    metrics = sum(1 for query in queries if isinstance(query, Mapping) and query.get("metric"))
    yield Charge("alarm", max(1, metrics))


def _volume(item: Item, _a: Assumptions) -> Iterator[Charge]:
    yield Charge("ebs-gp3", float(item.inputs.get("size") or 0))


def _build(_item: Item, a: Assumptions) -> Iterator[Charge]:
    yield Charge("codebuild-small", a.builds * 5, "usage")


def _flow_log(_item: Item, a: Assumptions) -> Iterator[Charge]:
    yield Charge("log-ingest", a.flow_log_gb, "usage")


_CHARGES: Final[dict[str, Callable[[Item, Assumptions], Iterator[Charge]]]] = {
    "eks:index:Cluster": _cluster,
    "aws:eks/cluster:Cluster": _cluster,
    "aws:ec2/natGateway:NatGateway": _nat,
    "aws:ec2/eip:Eip": lambda _i, _a: iter([Charge("ipv4", HOURS)]),
    "aws:ec2/vpcEndpoint:VpcEndpoint": _endpoint,
    "aws:ec2/flowLog:FlowLog": _flow_log,
    "aws:lb/loadBalancer:LoadBalancer": _load_balancer,
    "kubernetes:core/v1:Service": _service,
    "aws:kms/key:Key": lambda _i, _a: iter([Charge("kms-key", 1)]),
    "aws:secretsmanager/secret:Secret": lambda _i, _a: iter([Charge("secret", 1)]),
    "aws:cloudwatch/metricAlarm:MetricAlarm": _alarm,
    "aws:cloudwatch/dashboard:Dashboard": lambda _i, _a: iter([Charge("dashboard", 1)]),
    "aws:cloudwatch/logGroup:LogGroup": lambda _i, a: iter([Charge("log-ingest", a.log_gb, "usage")]),
    "aws:s3/bucket:Bucket": lambda _i, a: iter([Charge("s3-standard", a.storage_gb, "usage")]),
    "aws:ecr/repository:Repository": lambda _i, a: iter([Charge("ecr-storage", a.image_gb, "usage")]),
    "aws:codebuild/project:Project": _build,
    "aws:ebs/volume:Volume": _volume,
    WEB_ACL: _web_acl,
}

PRICED: Final = frozenset(
    {
        *_CHARGES,
        INGRESS,
        "kubernetes:apps/v1:Deployment",
        "kubernetes:apps/v1:StatefulSet",
        "kubernetes:helm.sh/v3:Release",
        "aws:eks/addon:Addon",
        "eks:index:Addon",
        "aws:sagemaker/trainingJob:TrainingJob",
    }
)
"""Types with a price, their pods' included."""

USAGE_ONLY: Final = (
    "aws:budgets/*",
    "aws:cfg/*",
    "aws:cloudtrail/*",
    "aws:cloudwatch/event*",
    "aws:cloudwatch/*Filter:*",
    "aws:dynamodb/*",
    "aws:guardduty/*",
    "aws:inspector2/*",
    "aws:lambda/*",
    "aws:sagemaker/*",
    "aws:scheduler/*",
    "aws:securityhub/*",
    "aws:sfn/*",
    "aws:sns/*",
    "aws:sqs/*",
    "aws:xray/*",
    "aws:athena/*",
    "aws:ec2/vpcPeeringConnection:*",
    "aws:s3/bucketObject*",
)

FREE: Final = (
    "aws:acm/*",
    "aws:appautoscaling/*",
    "aws:cloudwatch/composite*",
    "aws:cloudwatch/logResourcePolicy:*",
    "aws:ec2/*",
    "aws:ecr/*",
    "aws:eks/*",
    "aws:iam/*",
    "aws:kms/*",
    "aws:s3/*",
    "aws:secretsmanager/*",
    "aws:ssm/*",
    "aws:vpc/*",
    "aws:wafv2/*",
    "aws:lb/*",
    "eks:index:*",
    "kubernetes:*",
    "random:*",
    "tls:*",
)
"""Types without a price of their own; what they lead to, such as nodes, is priced where it is used."""


def charges(item: Item, assumptions: Assumptions) -> Iterator[Charge]:
    """What `item` costs by itself."""
    rule = _CHARGES.get(item.type)
    if rule is not None:
        yield from rule(item, assumptions)


def training_jobs(snapshot: Snapshot) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Component and training job, in SageMaker's shape, of each model's configuration."""
    component = next(
        (item.component for item in snapshot.of("aws:sagemaker/modelPackageGroup:ModelPackageGroup")), ""
    )
    for item in snapshot.of(_OBJECT):
        if not str(item.inputs.get("key", "")).startswith("config/"):
            continue
        try:
            document: Any = json.loads(item.inputs.get("content") or "")
        except (TypeError, ValueError):
            continue
        job: Any = document.get("training_job") if isinstance(document, Mapping) else None
        if isinstance(job, Mapping):
            yield component or item.component, job
