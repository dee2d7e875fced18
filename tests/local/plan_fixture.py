"""Small stacks made by hand, for the plan's tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local.plan import bill, changes, deployment, tables
from local.plan.cost import Assumptions
from local.plan.plan import Plan
from local.plan.snapshot import Item, Snapshot

if TYPE_CHECKING:
    from policy.model import Finding

ROOT = "urn:pulumi:dev::t::t:platform:Platform::t"


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:dev::t::t:platform:Platform${kind}::{name}"


def item(of_type: str, name: str, inputs: dict[str, Any] | None = None, **more: Any) -> Item:
    of: dict[str, Any] = {"urn": urn(of_type, name), "component": "part", "parent": ROOT, **more}
    return Item(type=of_type, name=name, inputs=inputs or {}, **of)


def stack(*items: Item, name: str = "dev", findings: tuple[Finding, ...] = (), **more: Any) -> Snapshot:
    root = Item(urn=ROOT, type="t:platform:Platform", name="t", kind="component", component="platform")
    return Snapshot(stack=name, items=[root, *items], findings=findings, **more)


def role_policy(name: str, *statements: dict[str, Any]) -> Item:
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return item("aws:iam/rolePolicy:RolePolicy", name, {"policy": document})


def allow(action: Any, resource: Any, **more: Any) -> dict[str, Any]:
    return {"Sid": "S", "Effect": "Allow", "Action": action, "Resource": resource, **more}


def deployment_item(cpu: str = "250m", memory: str = "512Mi", replicas: int = 2, **more: Any) -> Item:
    container = {"name": "server", "resources": {"requests": {"cpu": cpu, "memory": memory}, **more}}
    template = {"metadata": {"labels": {"app": "m"}}, "spec": {"containers": [container]}}
    return item(
        "kubernetes:apps/v1:Deployment",
        "m",
        {
            "metadata": {"name": "m", "namespace": "serving"},
            "spec": {"replicas": replicas, "template": template},
        },
    )


def scaler(low: int = 2, high: int = 10, percent: int = 50) -> Item:
    target = {"type": "Utilization", "averageUtilization": percent}
    return item(
        "kubernetes:autoscaling/v2:HorizontalPodAutoscaler",
        "m",
        {
            "metadata": {"name": "m", "namespace": "serving"},
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "m"},
                "minReplicas": low,
                "maxReplicas": high,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            },
        },
    )


def pool(name: str, *capacity: str, weight: int = 1, gpu: bool = False, **requirements: list[str]) -> Item:
    keys = {"family": "karpenter.k8s.aws/instance-family", "size": "karpenter.k8s.aws/instance-size"}
    rules = [{"key": keys[key], "operator": "In", "values": values} for key, values in requirements.items()]
    rules.append({"key": "karpenter.sh/capacity-type", "operator": "In", "values": list(capacity)})
    inside: dict[str, Any] = {"requirements": rules}
    if gpu:
        inside["taints"] = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
    spec = {"weight": weight, "template": {"spec": inside}}
    return item("kubernetes:karpenter.sh/v1:NodePool", name, {"metadata": {"name": name}, "spec": spec})


def plan(after: Snapshot, before: Snapshot | None = None) -> Plan:
    cost = bill.estimate(after, tables.prices(), Assumptions())
    found = None
    if before is not None:
        was = bill.estimate(before, tables.prices(), Assumptions())
        found = changes.compare(before, after, costs=(was, cost), against=before.stack)
    path = deployment.critical_path(after, tables.durations())
    return Plan(snapshot=after, cost=cost, path=path, changes=found)
