"""The EKS cluster with its access entries, and Kubernetes objects, all given to the local cluster's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from local.emulators import ACCOUNT
from local.plausible import cluster_name, eks_outputs
from local.realisers.base import Realised, Realiser, Resource, Site

if TYPE_CHECKING:
    from collections.abc import Mapping

_APPLY: Final = "application/apply-patch+yaml"

# What the local cluster acts on or at least keeps: kind → plural. Charts, custom resources and their
# definitions belong to controllers that do not run here.
KINDS: Final[dict[str, str]] = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Namespace": "namespaces",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
}
_CLUSTER_WIDE: Final = {"ClusterRole", "ClusterRoleBinding", "Namespace"}


def _eks(site: Site, resource: Resource) -> Realised:
    api = site.emulators.cluster
    name = cluster_name(resource)
    site.client("eks").create_cluster(
        name=name,
        roleArn=f"arn:aws:iam::{ACCOUNT}:role/{name}",
        resourcesVpcConfig={"subnetIds": list(resource.inputs.get("privateSubnetIds") or [])},
    )
    api.call("PUT", "/_local/cluster", {"name": name})
    return Realised("", eks_outputs(resource, endpoint=api.endpoint, ca_data=api.ca_data))


def _access_entry(site: Site, resource: Resource) -> Realised:
    inputs = resource.inputs
    entry = {
        "cluster_name": inputs["clusterName"],
        "principal_arn": inputs["principalArn"],
        "kubernetes_groups": inputs.get("kubernetesGroups") or [],
        "username": inputs.get("userName") or "",
    }
    site.emulators.cluster.call("POST", "/_local/access-entries", entry)
    return Realised(f"{inputs['clusterName']}:{inputs['principalArn']}", {})


def _pod_identity(site: Site, resource: Resource) -> Realised:
    """Pods of the service account get the role's credentials, as the agent on a node would give them."""
    inputs = resource.inputs
    session = f"{inputs['namespace']}-{inputs['serviceAccount']}"
    sts = site.client("sts")
    credentials = sts.assume_role(RoleArn=inputs["roleArn"], RoleSessionName=session)["Credentials"]
    identity = {
        "namespace": inputs["namespace"],
        "service_account": inputs["serviceAccount"],
        "access_key_id": credentials["AccessKeyId"],
        "secret_access_key": credentials["SecretAccessKey"],
        "session_token": credentials["SessionToken"],
        "region": sts.meta.region_name,
    }
    site.emulators.cluster.call("PUT", "/_local/pod-identities", identity)
    return Realised(session, {"associationId": session})


def realise_object(site: Site, resource: Resource) -> Realised | None:
    """Apply one Kubernetes object; None if its kind has no meaning on this machine."""
    kind = str(resource.inputs.get("kind", ""))
    if kind not in KINDS or resource.type.rpartition(":")[2] != kind:
        return None
    _, made_up = site.plausible.declare(resource)
    metadata: dict[str, Any] = made_up["metadata"]
    namespace = None if kind in _CLUSTER_WIDE else metadata.get("namespace") or "default"
    body = {**resource.inputs, "metadata": metadata}
    applied = site.emulators.cluster.call(
        "PATCH",
        object_path(str(resource.inputs["apiVersion"]), kind, str(metadata["name"]), namespace)
        + "?fieldManager=pulumi",
        body,
        content_type=_APPLY,
    )
    name = metadata["name"]
    outputs = {"metadata": applied["metadata"], "status": applied.get("status") or {}}
    return Realised(f"{namespace}/{name}" if namespace else name, outputs)


def object_path(api_version: str, kind: str, name: str, namespace: str | None) -> str:
    """The REST path of one object."""
    root = "/apis" if "/" in api_version else "/api"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}/{api_version}{scope}/{KINDS[kind]}/{name}"


REALISERS: Mapping[str, Realiser] = {
    "aws:eks/accessEntry:AccessEntry": _access_entry,
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": _pod_identity,
    "eks:index:Cluster": _eks,
}
