"""kube-bench: the CIS benchmark of a node, on a schedule; Container Insights keeps what it prints."""

from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_kubernetes as k8s

from components import names, versions
from components.base import PlatformComponent

_REASON: Final = "Reads the kubelet's and the host's configuration, which only root on the host may"
_PATHS: Final = {
    "var-lib-kubelet": "/var/lib/kubelet",
    "etc-systemd": "/etc/systemd",
    "etc-kubernetes": "/etc/kubernetes",
}


@dataclass(frozen=True, kw_only=True)
class BenchmarkArgs:
    """When it runs."""

    schedule: str


class Benchmark(PlatformComponent):
    """A namespace that may look at its host, shut off from the network, and the job in it."""

    TYPE = "trainserve:security:Benchmark"

    def __init__(self, name: str, args: BenchmarkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": names.BENCH_NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
                "annotations": {"trainserve/privileged-reason": _REASON},
            },
            opts=self.child(),
        )
        k8s.networking.v1.NetworkPolicy(
            f"{name}-alone",
            metadata={"name": "default-deny", "namespace": names.BENCH_NAMESPACE},
            spec={"pod_selector": {}, "policy_types": ["Ingress", "Egress"]},
            opts=self.child(depends_on=[namespace]),
        )
        k8s.batch.v1.CronJob(
            f"{name}-job",
            metadata={
                "name": "kube-bench",
                "namespace": names.BENCH_NAMESPACE,
                "annotations": {"trainserve/privileged-reason": _REASON},
            },
            spec={
                "schedule": args.schedule,
                "time_zone": "Etc/UTC",
                "concurrency_policy": "Forbid",
                "successful_jobs_history_limit": 3,
                "failed_jobs_history_limit": 3,
                "job_template": {
                    "spec": {
                        "backoff_limit": 1,
                        "active_deadline_seconds": 600,
                        "ttl_seconds_after_finished": 7 * 24 * 3600,
                        "template": {"spec": pod_spec()},
                    }
                },
            },
            opts=self.child(depends_on=[namespace]),
        )
        self.finish()


def pod_spec() -> Any:  # noqa: ANN401  # the SDK's own dictionary
    """Root and the host's processes, because that is what is looked at; read-only, without capabilities."""
    return {
        "host_pid": True,
        "restart_policy": "Never",
        "security_context": {"seccomp_profile": {"type": "RuntimeDefault"}},
        "automount_service_account_token": False,
        "containers": [
            {
                "name": "kube-bench",
                "image": versions.KUBE_BENCH_IMAGE,
                "command": ["kube-bench", "run", "--targets", "node"],
                "args": ["--benchmark", versions.KUBE_BENCH_BENCHMARK, "--json"],
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": "500m", "memory": "256Mi"},
                },
                "security_context": {
                    "allow_privilege_escalation": False,
                    "read_only_root_filesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volume_mounts": [
                    {"name": name, "mount_path": path, "read_only": True} for name, path in _PATHS.items()
                ],
            }
        ],
        "volumes": [{"name": name, "host_path": {"path": path}} for name, path in _PATHS.items()],
    }
