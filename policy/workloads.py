"""What runs in the cluster, and on which machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from policy.hygiene import containers, pod_spec
from policy.model import Complaint, Rule, Stack, Subject, each, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONG_RUNNING: Final = ("kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet")
_PODS: Final = (
    *_LONG_RUNNING,
    "kubernetes:apps/v1:DaemonSet",
    "kubernetes:batch/v1:CronJob",
    "kubernetes:batch/v1:Job",
    "kubernetes:core/v1:Pod",
)
_REASON: Final = "trainserve/privileged-reason"
"""Annotation of what must see its host: a scanner of it."""

_ENFORCE: Final = "pod-security.kubernetes.io/enforce"
_LEVELS: Final = ("restricted", "baseline")
_CAPACITY: Final = "karpenter.sh/capacity-type"
_NODE_POOL: Final = "kubernetes:karpenter.sh/v1:NodePool"


@each(*_LONG_RUNNING)
def _probes(subject: Subject) -> Iterable[str]:
    for container in containers(subject):
        for probe in ("readinessProbe", "livenessProbe"):
            if probe not in container:
                yield f"the container {container.get('name')} has no {probe}"


@each(*_PODS)
def _resources(subject: Subject) -> Iterable[str]:
    for container in containers(subject):
        resources = container.get("resources", {})
        for kind, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
            if what not in resources.get(kind, {}):
                yield f"the container {container.get('name')} has no {what} in {kind}"


def _confined(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterable[str]:
    own: Mapping[str, Any] = container.get("securityContext", {})
    shared: Mapping[str, Any] = pod.get("securityContext", {})
    if not own.get("runAsNonRoot", shared.get("runAsNonRoot")):
        yield "may run as root"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "may write to its own root"
    if own.get("privileged"):
        yield "is privileged"
    capabilities: Mapping[str, Any] = own.get("capabilities", {})
    if "ALL" not in listed(capabilities.get("drop")):
        yield "keeps capabilities"
    if capabilities.get("add"):
        yield f"adds the capabilities {', '.join(listed(capabilities.get('add')))}"
    profile: Mapping[str, Any] = own.get("seccompProfile") or shared.get("seccompProfile") or {}
    if profile.get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "has no seccomp profile"


def _on_its_host(pod: Mapping[str, Any]) -> Iterable[str]:
    for name in ("hostPID", "hostIPC", "hostNetwork"):
        if pod.get(name):
            yield f"sets {name}"
    for volume in pod.get("volumes", []):
        if "hostPath" in volume:
            yield f"the volume {volume.get('name')} is a path of the host"


@each(*_PODS)
def _security_context(subject: Subject) -> Iterable[str]:
    pod = pod_spec(subject) or {}
    if (subject.at("metadata.annotations") or {}).get(_REASON):
        return  # a host scanner says why it must see the host
    yield from _on_its_host(pod)
    for container in containers(subject):
        for fault in _confined(container, pod):
            yield f"the container {container.get('name')} {fault}"


@each("kubernetes:core/v1:Namespace")
def _namespaces(subject: Subject) -> Iterable[str]:
    labels: Mapping[str, Any] = subject.at("metadata.labels") or {}
    level = labels.get(_ENFORCE)
    if level not in _LEVELS and not (subject.at("metadata.annotations") or {}).get(_REASON):
        yield f"enforces {f'the level {level}' if level else 'no Pod Security level'}"


def _denied(policy: Subject) -> set[str]:
    """The directions in which a NetworkPolicy lets nothing through, for every pod of its namespace."""
    spec: Mapping[str, Any] = policy.at("spec") or {}
    if spec.get("podSelector") or spec.get("ingress") or spec.get("egress"):
        return set()
    return set(listed(spec.get("policyTypes"))) or {"Ingress"}


def _denying(stack: Stack) -> Iterable[Complaint]:
    """Where there are no policies at all, nothing may enforce them: on Fargate, or by the settings."""
    denied: dict[Any, set[str]] = {}
    for policy in stack.of("kubernetes:networking.k8s.io/v1:NetworkPolicy"):
        denied.setdefault(policy.at("metadata.namespace"), set()).update(_denied(policy))
    for workload in stack.of(*_LONG_RUNNING):
        place = workload.at("metadata.namespace")
        open_ways = {"Ingress", "Egress"} - denied.get(place, {"Ingress", "Egress"})
        if open_ways:
            yield workload, f"no NetworkPolicy of {place} denies all {' and '.join(sorted(open_ways))}"


def _budgets(stack: Stack) -> Iterable[Complaint]:
    budgets = [
        (budget.at("metadata.namespace"), budget.at("spec.selector.matchLabels") or {})
        for budget in stack.of("kubernetes:policy/v1:PodDisruptionBudget")
    ]
    for workload in stack.of("kubernetes:apps/v1:Deployment"):
        labels: Mapping[str, Any] = workload.at("spec.template.metadata.labels") or {}
        place = workload.at("metadata.namespace")
        if not any(
            place == namespace and chosen and chosen.items() <= labels.items()
            for namespace, chosen in budgets
        ):
            yield workload, "has no PodDisruptionBudget"


def _capacities(pool: Subject) -> set[str]:
    for requirement in listed(pool.at("spec.template.spec.requirements")):
        if requirement.get("key") == _CAPACITY:
            return set(listed(requirement.get("values")))
    return {"on-demand"}  # Karpenter's default


def _spot(stack: Stack) -> Iterable[Complaint]:
    pools = stack.of(_NODE_POOL)
    plain = [p for p in pools if not listed(p.at("spec.template.spec.taints"))]
    if any("spot" in _capacities(p) for p in plain) and not any("on-demand" in _capacities(p) for p in plain):
        for pool in plain:
            if "spot" in _capacities(pool):
                yield pool, "has no on-demand pool to fall back on"


@each(_NODE_POOL)
def _pools(subject: Subject) -> Iterable[str]:
    if not subject.at("spec.limits"):
        yield "may grow without limit"
    if not subject.at("spec.disruption.budgets"):
        yield "sets no disruption budget"
    if not subject.at("spec.template.spec.expireAfter"):
        yield "never renews its nodes"


RULES: Final = (
    Rule(
        id="workload-probed",
        level="mandatory",
        advice="Give the container a readiness and a liveness probe.",
        check=_probes,
    ),
    Rule(
        id="workload-limited",
        level="mandatory",
        advice="Set CPU and memory requests and a memory limit.",
        check=_resources,
    ),
    Rule(
        id="workload-confined",
        level="mandatory",
        advice=(
            "Set runAsNonRoot, allowPrivilegeEscalation: false, readOnlyRootFilesystem, drop ALL "
            "capabilities, set a seccomp profile, and use nothing of the host; or say why not in the "
            f"annotation {_REASON}."
        ),
        check=_security_context,
    ),
    Rule(
        id="namespace-restricted",
        level="mandatory",
        advice=f"Label the namespace with {_ENFORCE}: {' or '.join(_LEVELS)}.",
        check=_namespaces,
    ),
    Rule(
        id="namespace-denies-by-default",
        level="mandatory",
        advice="Add a NetworkPolicy for all pods, with both policy types and no rule.",
        check=_denying,
    ),
    Rule(
        id="workload-disruption-budget",
        level="advisory",
        advice="Give the Deployment a PodDisruptionBudget.",
        check=_budgets,
    ),
    Rule(
        id="spot-fallback",
        level="mandatory",
        advice="Keep an on-demand NodePool of lower weight beside the spot pool.",
        check=_spot,
    ),
    Rule(
        id="node-pool-bounded",
        level="mandatory",
        advice="Set limits, disruption budgets and expireAfter on the NodePool.",
        check=_pools,
    ),
)
