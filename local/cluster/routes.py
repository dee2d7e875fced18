"""Kubernetes' REST paths: which resource, namespace, name and subresource a path means."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from local.cluster.errors import ApiError

_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})

KINDS = {
    "clusterrolebindings": "ClusterRoleBinding",
    "clusterroles": "ClusterRole",
    "configmaps": "ConfigMap",
    "customresourcedefinitions": "CustomResourceDefinition",
    "deployments": "Deployment",
    "endpoints": "Endpoints",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "ingresses": "Ingress",
    "namespaces": "Namespace",
    "networkpolicies": "NetworkPolicy",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "pods": "Pod",
    "rolebindings": "RoleBinding",
    "roles": "Role",
    "secrets": "Secret",
    "serviceaccounts": "ServiceAccount",
    "services": "Service",
}


@dataclass(frozen=True)
class Resource:
    """A kind of object by its plural, as in RBAC rules: `deployments` of group `apps`."""

    group: str
    version: str
    plural: str

    @property
    def qualified(self) -> str:
        """`deployments.apps`; core resources have no suffix."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """What objects carry as `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True)
class Target:
    """What a path names: a collection if `name` is None; of all namespaces if `namespace` is None too."""

    resource: Resource
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None


def parse(path: str) -> Target:
    """Read `/api/v1/…` or `/apis/<group>/<version>/…`; ApiError 404 for any other path."""
    parts = [unquote(part) for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise ApiError(404, "the server could not find the requested resource")
    namespace = None
    names_a_namespace = len(rest) < 3 or (len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES)
    if rest[0] == "namespaces" and not names_a_namespace:
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        raise ApiError(404, "the server could not find the requested resource")
    plural, name, subresource = (*rest, None, None)[:3]
    if plural is None:  # pragma: no cover - rest is never empty
        raise ApiError(404, "the server could not find the requested resource")
    if plural == "namespaces" and name is not None:
        namespace = None
    return Target(Resource(group, version, plural), namespace, name, subresource)
