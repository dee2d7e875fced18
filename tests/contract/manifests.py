"""The Kubernetes objects of a program, as they are sent to the cluster."""

from collections.abc import Mapping
from typing import Any

from pulumi.runtime import rpc

from tests.contract.recorder import Program

CORE = {
    "admissionregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "core",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
}
"""API groups that Kubernetes itself brings; the others' kinds come from their CRDs."""
_CHART = "kubernetes:helm.sh/v3:Release"


def plain(value: Any) -> Any:
    """A value without the marks of what is secret."""
    if isinstance(value, Mapping):
        if rpc._special_sig_key in value:
            return plain(value["value"])
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def manifest(resource_type: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The object of a resource whose type is like kubernetes:apps/v1:Deployment."""
    api, _, kind = resource_type.removeprefix("kubernetes:").rpartition(":")
    return {**plain(inputs), "apiVersion": api.removeprefix("core/"), "kind": kind}


def manifests(program: Program) -> list[dict[str, Any]]:
    """Every object that the program itself declares; what charts bring is theirs."""
    return [
        manifest(resource.type, resource.inputs)
        for resource in program.resources
        if resource.type.startswith("kubernetes:") and resource.type != _CHART
    ]


def chart_values(program: Program) -> dict[str, dict[str, Any]]:
    """Chart → the values that the program gives it."""
    return {
        release.inputs["chart"].rpartition("/")[2]: plain(release.inputs.get("values") or {})
        for release in program.of(_CHART)
    }


def group_of(document: Mapping[str, Any]) -> str:
    """The object's API group."""
    group, slash, _ = document["apiVersion"].partition("/")
    return group if slash else "core"
