"""NodePools and NodeClasses as data, built by pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from components.infra_settings import GPU_MODELS, Gpu, NodePools
from components.names import DISCOVERY

CLASS_API: Final = "karpenter.k8s.aws/v1"
POOL_API: Final = "karpenter.sh/v1"
STANDARD_CLASS: Final = "standard"
GPU_TAINT: Final = "nvidia.com/gpu"
SHARING_LABEL: Final = "trainserve/gpu-sharing"

CAPACITY: Final = "karpenter.sh/capacity-type"
_CPUS: Final = ("2", "4", "8", "16")
_SPOT_WEIGHT: Final = 50
_ON_DEMAND_WEIGHT: Final = 10


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What all machines have in common."""

    cluster_name: str
    instance_profile: pulumi.Input[str]
    volume_gb: int
    tags: Mapping[str, str]


def node_class(machine: Machine, image: str, user_data: str | None = None) -> dict[str, Any]:
    """An EC2NodeClass: pinned image, encrypted volumes, IMDSv2 for the node itself and for no pod."""
    own = [{"tags": {DISCOVERY: machine.cluster_name}}]
    spec: dict[str, Any] = {
        "amiSelectorTerms": [{"alias": image}],
        "instanceProfile": machine.instance_profile,
        "subnetSelectorTerms": own,
        "securityGroupSelectorTerms": own,
        "associatePublicIPAddress": False,
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpProtocolIPv6": "disabled",
            "httpPutResponseHopLimit": 1,
            "httpTokens": "required",
        },
        "blockDeviceMappings": _volumes(machine, image),
        "tags": dict(machine.tags),
    }
    if user_data is not None:
        spec["userData"] = user_data
    return spec


def _volumes(machine: Machine, image: str) -> list[dict[str, Any]]:
    """Bottlerocket keeps its system on a small first volume, and everything else on the second."""
    sizes = (
        {"/dev/xvda": 4, "/dev/xvdb": machine.volume_gb}
        if image.startswith("bottlerocket@")
        else {"/dev/xvda": machine.volume_gb}
    )
    return [
        {
            "deviceName": device,
            "ebs": {
                "volumeSize": f"{size}Gi",
                "volumeType": "gp3",
                "encrypted": True,
                "deleteOnTermination": True,
            },
        }
        for device, size in sizes.items()
    ]


def gpu_user_data(gpu: Gpu) -> str | None:
    """Bottlerocket's settings by which its own device plugin shares a GPU."""
    if gpu.sharing == "time-sliced":
        return (
            "[settings.kubelet-device-plugins.nvidia]\n"
            'device-sharing-strategy = "time-slicing"\n'
            "[settings.kubelet-device-plugins.nvidia.time-slicing]\n"
            f"replicas = {gpu.replicas}\n"
            "rename-by-default = false\n"
        )
    if gpu.sharing == "mig":
        models = sorted({GPU_MODELS[kind.partition(".")[0]] for kind in gpu.instance_types})
        profiles = "".join(f'"{model}" = "{gpu.mig_profile}"\n' for model in models)
        return (
            "[settings.kubelet-device-plugins.nvidia]\n"
            'device-partitioning-strategy = "mig"\n'
            "[settings.kubelet-device-plugins.nvidia.mig.profile]\n" + profiles
        )
    return None


def node_pools(settings: NodePools) -> dict[str, dict[str, Any]]:
    """Name to spec: spot before on-demand where there is spot, and a pool for each way to share a GPU."""
    on_demand = settings.on_demand
    found = {
        "on-demand": _pool(
            settings,
            node_class=STANDARD_CLASS,
            requirements=_general("on-demand", on_demand.instance_families),
            limits={"cpu": str(on_demand.max_cpus)},
            weight=_ON_DEMAND_WEIGHT,
        )
    }
    if settings.spot is not None:
        found["spot"] = _pool(
            settings,
            node_class=STANDARD_CLASS,
            requirements=_general("spot", settings.spot.instance_families),
            limits={"cpu": str(settings.spot.max_cpus)},
            weight=_SPOT_WEIGHT,
        )
    return {**found, **{name: _gpu_pool(settings, name, gpu) for name, gpu in settings.gpu.items()}}


def _in(key: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}


def _general(capacity: str, families: Sequence[str]) -> list[dict[str, Any]]:
    return [
        _in(CAPACITY, [capacity]),
        _in("kubernetes.io/arch", ["amd64"]),
        _in("kubernetes.io/os", ["linux"]),
        _in("karpenter.k8s.aws/instance-family", families),
        _in("karpenter.k8s.aws/instance-cpu", _CPUS),
    ]


def _gpu_pool(settings: NodePools, name: str, gpu: Gpu) -> dict[str, Any]:
    """Only what asks for a GPU, shared in this way, comes here."""
    pool = _pool(
        settings,
        node_class=name,
        requirements=[
            _in(CAPACITY, [gpu.capacity]),
            _in("kubernetes.io/arch", ["amd64"]),
            _in("kubernetes.io/os", ["linux"]),
            _in("node.kubernetes.io/instance-type", gpu.instance_types),
        ],
        limits={GPU_TAINT: str(gpu.max_gpus)},
        weight=None,
    )
    template = pool["template"]
    template["metadata"] = {"labels": {SHARING_LABEL: gpu.sharing}}
    template["spec"]["taints"] = [{"key": GPU_TAINT, "value": gpu.sharing, "effect": "NoSchedule"}]
    # A shared GPU looks half empty to Karpenter, which counts whole ones: it takes back empty nodes only.
    pool["disruption"]["consolidationPolicy"] = "WhenEmpty"
    return pool


def _pool(
    settings: NodePools,
    *,
    node_class: str,
    requirements: Sequence[Mapping[str, Any]],
    limits: Mapping[str, str],
    weight: int | None,
) -> dict[str, Any]:
    group, _, _ = CLASS_API.partition("/")
    spec: dict[str, Any] = {
        "template": {
            "spec": {
                "nodeClassRef": {"group": group, "kind": "EC2NodeClass", "name": node_class},
                "requirements": list(requirements),
                "expireAfter": f"{settings.expire_after_hours}h",
                "terminationGracePeriod": f"{settings.termination_grace_minutes}m",
            }
        },
        "disruption": {
            "consolidationPolicy": "WhenEmptyOrUnderutilized",
            "consolidateAfter": f"{settings.consolidate_after_seconds}s",
            "budgets": [{"nodes": f"{settings.disruption_percent}%"}],
        },
        "limits": dict(limits),
    }
    return spec if weight is None else {**spec, "weight": weight}
