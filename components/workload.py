"""What runs in the cluster: a Deployment for each model, and the right to release into it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_kubernetes as k8s

from components import names, pools, teardown
from components import settings as s
from components.base import PlatformComponent
from components.entrance import READINESS_GATE, Door, Entrance, EntranceArgs
from components.quantities import cpu_milli, memory_mib

SKIP_AWAIT: Final = {"pulumi.com/skipAwait": "true"}
"""No image and no model is there at the first `up`: the pods come when they can."""

RELEASE_CHANGES: Final = ["spec.replicas", "spec.template.spec.containers[0].image"]
"""What the autoscaler and releases own; all else of a Deployment is the program's.

The provider finds nothing within a list, so it would apply the image that the state has: over a newer one of
a release's that is a conflict. Therefore Pulumi.yaml has every run refresh the state first.
"""

USER: Final = 65532


@dataclass(frozen=True, kw_only=True)
class WorkloadArgs:
    """What a caller decides, and the image that pods start from before the first release."""

    settings: s.Workload
    models: Sequence[str]
    image: pulumi.Input[str]
    data_bucket: pulumi.Input[str]
    stack: str
    trace_sample_percent: float
    subject_key: bool
    rights: Sequence[pulumi.Resource]
    """What gives the pods their rights and their secret: there before them."""

    door: Door
    order: teardown.Order


class Workload(PlatformComponent):
    """A restricted namespace, and for each model what serves it and keeps it available."""

    TYPE = "trainserve:workload:Workload"
    namespace: str
    namespace_object: k8s.core.v1.Namespace
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: WorkloadArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        self.namespace = args.settings.namespace
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": self.namespace,
                "labels": {
                    **{
                        f"pod-security.kubernetes.io/{mode}": "restricted"
                        for mode in ("enforce", "audit", "warn")
                    },
                    **READINESS_GATE,
                },
            },
            opts=self.child(),
        )
        self._namespace = self.namespace_object = namespace
        account = k8s.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=self._metadata(names.CONTAINER),
            automount_service_account_token=False,
            opts=self._inside(),
        )
        self.ready = [*self._release_rights()]
        for model in args.models:
            self.ready += self._model(model, account)
        self.finish("namespace")

    def _inside(self) -> pulumi.ResourceOptions:
        return self.child(depends_on=[self._namespace])

    def _metadata(self, name: str, *, wait: bool = True) -> k8s.meta.v1.ObjectMetaArgsDict:
        if wait:
            return {"name": name, "namespace": self.namespace}
        return {"name": name, "namespace": self.namespace, "annotations": SKIP_AWAIT}

    def _release_rights(self) -> list[pulumi.Resource]:
        """The release function may read and patch these Deployments and look at pods, and no more."""
        role = k8s.rbac.v1.Role(
            f"{self._name}-release",
            metadata=self._metadata("release"),
            rules=[
                {
                    "api_groups": ["apps"],
                    "resources": ["deployments"],
                    "resource_names": list(self._args.models),
                    "verbs": ["get", "patch"],
                },
                {"api_groups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
            ],
            opts=self._inside(),
        )
        binding = k8s.rbac.v1.RoleBinding(
            f"{self._name}-release",
            metadata=self._metadata("release"),
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": "release"},
            subjects=[
                {"api_group": "rbac.authorization.k8s.io", "kind": "Group", "name": names.RELEASE_GROUP}
            ],
            opts=self.child(depends_on=[role]),
        )
        return [role, binding]

    def _model(self, model: str, account: k8s.core.v1.ServiceAccount) -> list[pulumi.Resource]:
        name, settings = f"{self._name}-{model}", self._args.settings
        labels = {"app.kubernetes.io/name": model, "app.kubernetes.io/component": names.CONTAINER}
        # The Service is there before the pods, so that whatever watches pods through it sees them come up.
        service = k8s.core.v1.Service(
            name,
            # Prometheus finds it, and names its job, by these labels.
            metadata={**self._metadata(model, wait=False), "labels": labels},
            spec={
                "selector": labels,
                # The same port outside and in: a network policy knows the container's only.
                "ports": [{"name": "http", "port": names.PORT, "target_port": names.PORT}],
            },
            opts=self._inside(),
        )
        before = self._args.order.before(teardown.WORKLOAD)
        # The Ingress too: a pod gets its readiness gate only where a target group knows its Service.
        entrance = Entrance(
            name,
            EntranceArgs(
                model=model,
                namespace=self.namespace,
                door=self._args.door,
                selector=labels,
                grpc_port=settings.grpc_port,
                after=[self._namespace, service, *before],
            ),
            self.child(),
        )
        deployment = k8s.apps.v1.Deployment(
            name,
            metadata=self._metadata(model, wait=False),
            spec=deployment_spec(self._args, labels),
            opts=self.child(
                depends_on=[service, account, entrance.ingress, *self._args.rights, *before],
                ignore_changes=list(RELEASE_CHANGES),
            ),
        )
        self._keep_available(name, model, labels, deployment)
        return [service, deployment]

    def _keep_available(
        self, name: str, model: str, labels: dict[str, str], deployment: pulumi.Resource
    ) -> None:
        """As many pods as the load wants, and no more than one of them taken away at a time."""
        settings = self._args.settings
        k8s.autoscaling.v2.HorizontalPodAutoscaler(
            name,
            metadata=self._metadata(model),
            spec={
                "scale_target_ref": {"api_version": "apps/v1", "kind": "Deployment", "name": model},
                "min_replicas": settings.min_replicas,
                "max_replicas": settings.max_replicas,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {
                                "type": "Utilization",
                                "average_utilization": settings.target_cpu_percent,
                            },
                        },
                    }
                ],
            },
            opts=self.child(depends_on=[deployment]),
        )
        k8s.policy.v1.PodDisruptionBudget(
            name,
            metadata=self._metadata(model),
            spec={
                "max_unavailable": 1,
                "selector": {"match_labels": labels},
                # A pod that has no model yet serves nobody, and must not keep its node from being drained.
                "unhealthy_pod_eviction_policy": "AlwaysAllow",
            },
            opts=self._inside(),
        )


def deployment_spec(args: WorkloadArgs, labels: dict[str, str]) -> k8s.apps.v1.DeploymentSpecArgsDict:
    """One more pod before one fewer, and none goes before its successor answers."""
    settings = args.settings
    return {
        "replicas": settings.replicas,
        "selector": {"match_labels": labels},
        "progress_deadline_seconds": settings.rollout_timeout_seconds,
        "revision_history_limit": 5,
        "strategy": {
            "type": "RollingUpdate",
            "rolling_update": {"max_surge": 1, "max_unavailable": 0},
        },
        "template": {"metadata": {"labels": labels}, "spec": pod_spec(args, labels)},
    }


def spread(
    settings: s.Workload, labels: dict[str, str]
) -> list[k8s.core.v1.TopologySpreadConstraintArgsDict]:
    """Over zones and over hosts, and each version by itself: a rollout must not skew its successor.

    On nodes, over spot and on-demand too: what AWS takes back at once is at most half of a model's pods.
    """
    zone = "DoNotSchedule" if settings.zone_spread == "require" else "ScheduleAnyway"
    spread_over = [("topology.kubernetes.io/zone", zone), ("kubernetes.io/hostname", "ScheduleAnyway")]
    if settings.compute == "nodes":
        spread_over.append((pools.CAPACITY, "ScheduleAnyway"))
    return [
        {
            "topology_key": key,
            "max_skew": 1,
            "when_unsatisfiable": otherwise,
            "label_selector": {"match_labels": labels},
            "match_label_keys": ["pod-template-hash"],
        }
        for key, otherwise in spread_over
    ]


def environment(args: WorkloadArgs, labels: dict[str, str]) -> dict[str, pulumi.Input[str]]:
    """The server's variables, and OpenTelemetry's own, by which it traces."""
    settings = args.settings
    drain = settings.grace_period_seconds - settings.pre_stop_seconds - names.DRAIN_MARGIN_S
    variables: dict[str, pulumi.Input[str]] = {
        "SERVING_PORT": str(names.PORT),
        "SERVING_WORKERS": str(_workers(settings)),
        "SERVING_DRAIN_SECONDS": str(drain),
    }
    if settings.grpc_port is not None:
        variables["SERVING_GRPC_PORT"] = str(settings.grpc_port)
    if args.trace_sample_percent > 0:
        variables |= {
            "OTEL_SERVICE_NAME": labels["app.kubernetes.io/name"],
            "OTEL_RESOURCE_ATTRIBUTES": f"deployment.environment.name={args.stack}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": names.TRACES,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": f"{args.trace_sample_percent / 100:g}",
        }
    if settings.capture is not None:
        variables |= _capture(settings, settings.capture, args.data_bucket)
    if settings.tls:
        variables |= {
            "SERVING_TLS_CERT_FILE": f"{names.TLS_PATH}/tls.crt",
            "SERVING_TLS_KEY_FILE": f"{names.TLS_PATH}/tls.key",
            # The ALB checks no certificate: a key that never leaves its pod needs no care.
            "SERVING_TLS_SELF_SIGNED": "on",
        }
    if args.subject_key:
        variables["SERVING_SUBJECT_KEY_FILE"] = f"{names.SUBJECT_KEY_PATH}/{names.SUBJECT_KEY}"
    return variables


def _capture(
    settings: s.Workload, capture: s.Capture, bucket: pulumi.Input[str]
) -> dict[str, pulumi.Input[str]]:
    """Where to, how much of it, and how much of the pod's memory it may take while S3 does not answer."""
    share = memory_mib(settings.memory_limit) // 8 // _workers(settings)
    return {
        "SERVING_CAPTURE_TO": pulumi.Output.concat("s3://", bucket, "/", names.CAPTURES),
        "SERVING_CAPTURE_PERCENTAGE": f"{capture.percentage:g}",
        "SERVING_CAPTURE_FLUSH_SECONDS": str(capture.flush_seconds),
        "SERVING_CAPTURE_MEMORY_BYTES": str(min(max(4, share), 32) << 20),
    }


def _workers(settings: s.Workload) -> int:
    # Said, not found out: where no control group holds the limit, a whole machine would be counted.
    return max(1, cpu_milli(settings.cpu_limit) // 1000)


def volumes(args: WorkloadArgs) -> dict[str, k8s.core.v1.VolumeArgsDict]:
    """Where in the container → what lies there."""
    found: dict[str, k8s.core.v1.VolumeArgsDict] = {
        "/tmp": {"name": "tmp", "empty_dir": {"size_limit": "64Mi"}}  # noqa: S108
    }
    if args.settings.tls:
        found[names.TLS_PATH] = {"name": "tls", "empty_dir": {"medium": "Memory", "size_limit": "1Mi"}}
    if args.subject_key:
        found[names.SUBJECT_KEY_PATH] = {
            "name": names.SUBJECT_KEY,
            "csi": {
                "driver": "secrets-store.csi.k8s.io",
                "read_only": True,
                "volume_attributes": {"secretProviderClass": names.SUBJECT_KEY},
            },
        }
    return found


def pod_spec(args: WorkloadArgs, labels: dict[str, str]) -> k8s.core.v1.PodSpecArgsDict:
    """The pod: non-root, read-only, without privileges or a token, drained before it stops."""
    settings, mounted = args.settings, volumes(args)
    return {
        "service_account_name": names.CONTAINER,
        "automount_service_account_token": False,
        "enable_service_links": False,
        "termination_grace_period_seconds": settings.grace_period_seconds,
        "topology_spread_constraints": spread(settings, labels),
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": USER,
            "run_as_group": USER,
            "fs_group": USER,
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "containers": [container_spec(args, labels, mounted)],
        "volumes": list(mounted.values()),
    }


def container_spec(
    args: WorkloadArgs, labels: dict[str, str], mounted: dict[str, k8s.core.v1.VolumeArgsDict]
) -> k8s.core.v1.ContainerArgsDict:
    """The server, and how one sees whether it lives and can answer."""
    settings = args.settings
    grpc: list[k8s.core.v1.ContainerPortArgsDict] = (
        [] if settings.grpc_port is None else [{"name": "grpc", "container_port": settings.grpc_port}]
    )
    return {
        "name": names.CONTAINER,
        "image": args.image,
        "ports": [{"name": "http", "container_port": names.PORT}, *grpc],
        "env": [{"name": key, "value": value} for key, value in environment(args, labels).items()],
        "resources": {
            "requests": {"cpu": settings.cpu_request, "memory": settings.memory_request},
            "limits": {"cpu": settings.cpu_limit, "memory": settings.memory_limit},
        },
        "security_context": {
            "allow_privilege_escalation": False,
            "read_only_root_filesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "readiness_probe": readiness(settings),
        # Alive means only that it answers, for a server without a model is as it should be.
        "liveness_probe": {
            "tcp_socket": {"port": names.PORT},
            "period_seconds": 10,
            "timeout_seconds": 2,
            "failure_threshold": 3,
        },
        "startup_probe": {
            "tcp_socket": {"port": names.PORT},
            "period_seconds": 1,
            "failure_threshold": 60,
        },
        # Time for all that send requests to learn that this pod goes, before it takes none.
        "lifecycle": {"pre_stop": {"sleep": {"seconds": settings.pre_stop_seconds}}},
        "volume_mounts": [
            {"name": volume["name"], "mount_path": path, "read_only": "csi" in volume}
            for path, volume in mounted.items()
        ],
    }


def readiness(settings: s.Workload) -> k8s.core.v1.ProbeArgsDict:
    """Ready means: it has reproduced its golden predictions."""
    scheme = "HTTPS" if settings.tls else "HTTP"
    return {
        "http_get": {"path": "/ping", "port": names.PORT, "scheme": scheme},
        "period_seconds": 1,
        "timeout_seconds": 1,
        "failure_threshold": 3,
    }
