"""What confines the workload in the cluster: network policies, a quota, its AWS rights, its one secret."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components import addresses, iam, names, versions
from components import settings as s
from components.base import PlatformComponent
from components.quantities import cpu_milli, memory_mib

_AGENT: Final = "169.254.170.23/32"
"""Where the Pod Identity agent answers on every node."""

_INSIDE: Final = (*map(str, addresses.PRIVATE), "169.254.0.0/16")
_OTLP_PORT: Final = 4316
_SURGE: Final = 1


@dataclass(frozen=True, kw_only=True)
class PodRightsArgs:
    """Whose pods, and what they may touch."""

    namespace: str
    with_subject_key: bool
    account_id: pulumi.Input[str]
    cluster_name: str
    cluster_arn: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    data_bucket_arn: pulumi.Input[str]
    nodes: Sequence[pulumi.Resource]
    """What an add-on with a pod on every node waits for."""


class PodRights(PlatformComponent):
    """What the workload's pods may do in AWS, given to them on nodes; pods come after `ready`."""

    TYPE = "trainserve:security:PodRights"
    subject_key_arn: pulumi.Output[str] | None
    secrets_driver: list[pulumi.Resource]
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: PodRightsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        self.subject_key_arn, self.secrets_driver, self.ready = None, [], []
        if args.with_subject_key:
            self.subject_key_arn = self._subject_key()
        self._rights()
        self.finish("subject_key_arn")

    def _subject_key(self) -> pulumi.Output[str]:
        """The key by which captures name data subjects; made once, kept for as long as the captures."""
        args = self._args
        secret = aws.secretsmanager.Secret(
            f"{self._name}-subject-key",
            description="Hashes data subjects in captured requests",
            kms_key_id=args.key_arn,
            recovery_window_in_days=7,
            opts=self.child(),
        )
        version = aws.secretsmanager.SecretVersion(
            f"{self._name}-subject-key",
            secret_id=secret.id,
            # Every run makes another; the first one stays.
            secret_string=pulumi.Output.secret(secrets.token_hex(32)),
            opts=self.child(ignore_changes=["secretString"]),
        )
        driver = aws.eks.Addon(
            f"{self._name}-secrets-driver",
            cluster_name=args.cluster_name,
            addon_name="aws-secrets-store-csi-driver-provider",
            addon_version=versions.SECRETS_STORE_ADDON,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            opts=self.child(depends_on=args.nodes),
        )
        self.secrets_driver = [driver]
        self.ready = [version, driver]
        return secret.arn

    def _rights(self) -> None:
        """Pods write captures and read their key; nothing else of AWS is open to them."""
        args = self._args
        statements = [
            iam.write_objects("WriteCaptures", args.data_bucket_arn, names.CAPTURES),
            iam.Statement(
                sid="UseKey", actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[args.key_arn]
            ),
        ]
        if self.subject_key_arn is not None:
            statements.append(
                iam.Statement(
                    sid="ReadSubjectKey",
                    actions=["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
                    resources=[self.subject_key_arn],
                )
            )
        role = aws.iam.Role(
            f"{self._name}-role",
            assume_role_policy=iam.assume_by_pods(args.account_id, args.cluster_arn),
            opts=self.child(),
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-policy", role=role.id, policy=iam.document(*statements), opts=self.child()
        )
        association = aws.eks.PodIdentityAssociation(
            f"{self._name}-pods",
            cluster_name=args.cluster_name,
            namespace=args.namespace,
            service_account=names.CONTAINER,
            role_arn=role.arn,
            opts=self.child(depends_on=[policy]),
        )
        self.ready.append(association)


@dataclass(frozen=True, kw_only=True)
class GuardsArgs:
    """What a caller decides, and the namespace that is guarded."""

    network_policies: bool
    workload: s.Workload
    models: Sequence[str]
    region: str
    vpc_cidr: str
    subject_key_arn: pulumi.Output[str] | None
    secrets_driver: Sequence[pulumi.Resource]
    namespace: pulumi.Resource


class Guards(PlatformComponent):
    """What confines the workload's namespace, and the file of its secret."""

    TYPE = "trainserve:security:Guards"

    def __init__(self, name: str, args: GuardsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        self._limits()
        if args.network_policies:
            self._network_policies()
        if args.subject_key_arn is not None:
            self._secret_file(args.subject_key_arn)
        self.finish()

    def _secret_file(self, arn: pulumi.Output[str]) -> None:
        k8s.apiextensions.CustomResource(
            f"{self._name}-subject-key",
            api_version="secrets-store.csi.x-k8s.io/v1",
            kind="SecretProviderClass",
            metadata=self._metadata(names.SUBJECT_KEY),
            spec={
                "provider": "aws",
                "parameters": {
                    "region": self._args.region,
                    "usePodIdentity": "true",
                    "objects": arn.apply(secret_objects),
                },
            },
            opts=self._inside(*self._args.secrets_driver),
        )

    def _inside(self, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        return self.child(depends_on=[self._args.namespace, *after])

    def _metadata(self, name: str) -> k8s.meta.v1.ObjectMetaArgsDict:
        return {"name": name, "namespace": self._args.workload.namespace}

    def _limits(self) -> None:
        """Room for every model at its most, one surging pod each, and nothing beside."""
        k8s.core.v1.ResourceQuota(
            f"{self._name}-quota",
            metadata=self._metadata("workload"),
            spec={"hard": quota(self._args.workload, len(self._args.models))},
            opts=self._inside(),
        )
        k8s.core.v1.LimitRange(
            f"{self._name}-limits",
            metadata=self._metadata("workload"),
            spec={
                "limits": [
                    {
                        "type": "Container",
                        "default": {"cpu": "500m", "memory": "256Mi"},
                        "default_request": {"cpu": "100m", "memory": "128Mi"},
                    }
                ]
            },
            opts=self._inside(),
        )

    def _network_policies(self) -> None:
        for name, spec in network_policies(self._args.vpc_cidr, self._args.workload.grpc_port).items():
            k8s.networking.v1.NetworkPolicy(
                f"{self._name}-{name}", metadata=self._metadata(name), spec=spec, opts=self._inside()
            )


def secret_objects(arn: str) -> str:
    """What AWS's provider mounts: one file, named as the pods expect it."""
    entry = {"objectName": arn, "objectType": "secretsmanager", "objectAlias": names.SUBJECT_KEY}
    return json.dumps([entry], sort_keys=True)


def quota(workload: s.Workload, models: int) -> dict[str, str]:
    """The most that all models' pods can ask for at once: in a rollout, twice what is wanted.

    Pods that are ending count until they are gone, and each takes its grace period: without room for them,
    the new ones would come one by one, and not within the time that a rollout has.
    """
    pods = models * (2 * workload.max_replicas + _SURGE)
    return {
        "pods": str(pods),
        "requests.cpu": f"{pods * cpu_milli(workload.cpu_request)}m",
        "requests.memory": f"{pods * memory_mib(workload.memory_request)}Mi",
        "limits.cpu": f"{pods * cpu_milli(workload.cpu_limit)}m",
        "limits.memory": f"{pods * memory_mib(workload.memory_limit)}Mi",
    }


def network_policies(vpc_cidr: str, grpc_port: int | None) -> dict[str, Any]:
    """Nothing comes in and nothing goes out, but for what is named."""
    ports = [names.PORT] if grpc_port is None else [names.PORT, grpc_port]
    server = {"match_labels": {"app.kubernetes.io/component": names.CONTAINER}}
    return {
        "default-deny": {"pod_selector": {}, "policy_types": ["Ingress", "Egress"]},
        "requests": {
            "pod_selector": server,
            "policy_types": ["Ingress"],
            # Load balancers, and the release function's colleagues in the VPC: they have its addresses.
            "ingress": [{"from": [{"ip_block": {"cidr": vpc_cidr}}], "ports": _tcp(*ports)}],
        },
        "scrape": {
            "pod_selector": server,
            "policy_types": ["Ingress"],
            "ingress": [{"from": [_namespace(names.MONITORING_NAMESPACE)], "ports": _tcp(names.PORT)}],
        },
        "names": {
            "pod_selector": {},
            "policy_types": ["Egress"],
            "egress": [
                {
                    "to": [{**_namespace(names.KUBE_SYSTEM), **_pods({"k8s-app": "kube-dns"})}],
                    "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
                }
            ],
        },
        "aws": {
            "pod_selector": server,
            "policy_types": ["Egress"],
            "egress": [
                {"to": [{"ip_block": {"cidr": _AGENT}}], "ports": _tcp(80)},
                # S3 comes through the gateway endpoint with public addresses, which no policy can list.
                {"to": [{"ip_block": {"cidr": "0.0.0.0/0", "except_": list(_INSIDE)}}], "ports": _tcp(443)},
                {"to": [{"ip_block": {"cidr": vpc_cidr}}], "ports": _tcp(443)},
            ],
        },
        "traces": {
            "pod_selector": server,
            "policy_types": ["Egress"],
            "egress": [{"to": [_namespace("amazon-cloudwatch")], "ports": _tcp(_OTLP_PORT)}],
        },
    }


def _tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _namespace(name: str) -> dict[str, Any]:
    return {"namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": name}}}


def _pods(labels: dict[str, str]) -> dict[str, Any]:
    return {"pod_selector": {"match_labels": labels}}
