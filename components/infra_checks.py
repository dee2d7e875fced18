"""What the settings of network, cluster, node pools and load balancer must satisfy together."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from components import addresses
from components.infra_settings import GPU_COUNTS, GPU_MODELS, MIG_PROFILES, Gpu, LoadBalancer
from components.names import PORT
from components.settings import Settings

_ARM: Final = re.compile(r"a1|[a-z]+\d+g[a-z]*")
_SPECIAL: Final = re.compile(r"(p|g|gr|inf|trn|dl|vt|f|mac)\d.*")
"""Families with GPUs and other accelerators, and Apple's machines."""

_LOG_TYPES: Final = 5


def problems(settings: Settings, region: str) -> list[str]:
    """Everything that is wrong, as sentences that name the keys."""
    return [
        *_network(settings, region),
        *_cluster(settings),
        *_pools(settings),
        *(line for name, pool in settings.node_pools.gpu.items() for line in _gpu(name, pool)),
        *_load_balancer(settings, region),
        *_production(settings),
    ]


def _repeated(place: str, values: Sequence[str]) -> Iterator[str]:
    if len(set(values)) != len(values):
        yield f"trainserve:{place}: want each once, got {', '.join(values)}"


def _network(settings: Settings, region: str) -> Iterator[str]:
    network = settings.network
    yield from _repeated("network.interfaceEndpoints", network.interface_endpoints)
    peering = network.peering
    if peering is None:
        return
    place, own, peer = (
        "trainserve:network.peering",
        addresses.network(network.cidr),
        addresses.network(peering.peer_cidr),
    )
    if peer is None:
        yield f"{place}.peerCidr: {addresses.fault(peering.peer_cidr)}"
    elif not addresses.is_private(peer):
        yield f"{place}.peerCidr: want a private network, got {peer}"
    elif own is not None and own.overlaps(peer):
        yield f"{place}.peerCidr: {peer} overlaps trainserve:network.cidr {own}, so nothing could be routed"
    elif own is not None and addresses.service_network([own, peer]) is None:
        yield (
            f"{place}.peerCidr: {peer} and trainserve:network.cidr {own} leave neither 172.20.0.0/16 nor "
            "10.100.0.0/16 free, and the cluster's Services need one of them"
        )
    if peering.peer_region == region:
        yield f"{place}.peerRegion: leave it out where the peer is in aws:region ({region}) too"


def _cluster(settings: Settings) -> Iterator[str]:
    cluster = settings.cluster
    yield from _repeated("cluster.admins", cluster.admins)
    yield from _repeated("cluster.developers", cluster.developers)
    for index, principal in enumerate(cluster.developers):
        if principal in cluster.admins:
            yield (
                f"trainserve:cluster.developers[{index}]: {principal} is among cluster.admins: "
                "a principal has one access entry"
            )
    yield from _repeated(
        "cluster.developerNamespaces", [settings.workload.namespace, *cluster.developer_namespaces]
    )
    if cluster.developer_namespaces and not cluster.developers:
        yield "trainserve:cluster.developerNamespaces: nobody is in cluster.developers"


def _pools(settings: Settings) -> Iterator[str]:
    pools = settings.node_pools
    chosen = {"onDemand": pools.on_demand.instance_families}
    if pools.spot is not None:
        chosen["spot"] = pools.spot.instance_families
    for label, families in chosen.items():
        place = f"nodePools.{label}.instanceFamilies"
        yield from _repeated(place, families)
        for index, family in enumerate(families):
            if family in GPU_MODELS:
                yield f"trainserve:{place}[{index}]: {family} has GPUs: give it a pool in nodePools.gpu"
            elif _SPECIAL.fullmatch(family):
                yield f"trainserve:{place}[{index}]: {family} is no family of general machines, like m7i"
            elif _ARM.fullmatch(family):
                yield f"trainserve:{place}[{index}]: {family} is arm64, and the serving image is amd64"
    for name in pools.gpu:
        if name in {"on-demand", "spot", "standard"}:
            yield f"trainserve:nodePools.gpu.{name}: this name is taken: choose another"


def _gpu(name: str, pool: Gpu) -> Iterator[str]:
    place = f"trainserve:nodePools.gpu.{name}"
    yield from _repeated(f"nodePools.gpu.{name}.instanceTypes", pool.instance_types)
    models: dict[str, str] = {}
    for index, kind in enumerate(pool.instance_types):
        family = kind.partition(".")[0]
        if family in GPU_MODELS:
            models[kind] = GPU_MODELS[family]
        else:
            known = ", ".join(GPU_MODELS)
            yield f"{place}.instanceTypes[{index}]: {kind} has no GPU that is known here: want one of {known}"
    least = min(GPU_COUNTS.get(kind, 1) for kind in pool.instance_types)
    if pool.max_gpus < least:
        yield (
            f"{place}.maxGpus: want at least {least}, for each machine of instanceTypes has that many, "
            f"got {pool.max_gpus}"
        )
    if pool.replicas is not None and pool.sharing != "time-sliced":
        yield f"{place}.replicas: only where sharing is time-sliced, and it is {pool.sharing}"
    if pool.replicas is None and pool.sharing == "time-sliced":
        yield f"{place}.replicas is missing: sharing is time-sliced, so want how many pods share a GPU"
    if pool.mig_profile is not None and pool.sharing != "mig":
        yield f"{place}.migProfile: only where sharing is mig, and it is {pool.sharing}"
    if pool.sharing == "mig":
        yield from _mig(place, pool, models)


def _mig(place: str, pool: Gpu, models: dict[str, str]) -> Iterator[str]:
    for kind, model in models.items():
        if model not in MIG_PROFILES:
            able = ", ".join(family for family, gpu in GPU_MODELS.items() if gpu in MIG_PROFILES)
            yield f"{place}.sharing: {kind} cannot be partitioned (MIG): want one of {able}"
            return
    if pool.mig_profile is None:
        yield f"{place}.migProfile is missing: sharing is mig, so want a MIG profile like 1g.5gb"
        return
    for model in sorted(set(models.values())):
        if pool.mig_profile not in MIG_PROFILES[model]:
            known = ", ".join(MIG_PROFILES[model])
            yield f"{place}.migProfile: want one of {known} for {model}, got {pool.mig_profile}"


def _load_balancer(settings: Settings, region: str) -> Iterator[str]:
    place, balancer = "trainserve:loadBalancer", settings.load_balancer
    if balancer.certificate_arn is not None and balancer.host is None:
        yield f"{place}.certificateArn: want loadBalancer.host too: the name that the certificate is for"
    if balancer.host is not None and balancer.certificate_arn is None:
        yield f"{place}.host: want loadBalancer.certificateArn too: a named host is served over TLS only"
    if balancer.scheme == "internet-facing" and balancer.certificate_arn is None:
        yield f"{place}.scheme: internet-facing wants loadBalancer.certificateArn and loadBalancer.host"
    for key, arn in (("certificateArn", balancer.certificate_arn), ("wafAclArn", balancer.waf_acl_arn)):
        if arn is not None and arn.split(":")[3] != region:
            yield f"{place}.{key}: want one in aws:region {region}, got {arn.split(':')[3]}"
    yield from _inbound(place, balancer)
    if balancer.deregistration_seconds > settings.workload.pre_stop_seconds:
        yield (
            f"{place}.deregistrationSeconds: want at most workload.preStopSeconds "
            f"({settings.workload.pre_stop_seconds}), so that no request meets a stopped pod, "
            f"got {balancer.deregistration_seconds}"
        )
    grpc = settings.workload.grpc_port
    if grpc == PORT:
        yield f"trainserve:workload.grpcPort: {grpc} is the HTTP server's: want another port"
    if grpc is not None and settings.workload.tls:
        yield "trainserve:workload.tls: covers HTTP only, so leave trainserve:workload.grpcPort out"


def _inbound(place: str, balancer: LoadBalancer) -> Iterator[str]:
    yield from _repeated("loadBalancer.inboundCidrs", balancer.inbound_cidrs)
    for index, text in enumerate(balancer.inbound_cidrs):
        network = addresses.network(text)
        if network is None:
            yield f"{place}.inboundCidrs[{index}]: {addresses.fault(text)}"
        elif addresses.is_everybody(network) and balancer.scheme == "internal":
            yield f"{place}.inboundCidrs[{index}]: {text} is everybody, and the load balancer is internal"


def _production(settings: Settings) -> Iterator[str]:
    if not settings.environment.production:
        return
    suffix = "where trainserve:environment.production is true"
    if len(settings.cluster.log_types) < _LOG_TYPES:
        yield f"trainserve:cluster.logTypes: want all five {suffix}"
    if not settings.load_balancer.access_logs:
        yield f"trainserve:loadBalancer.accessLogs: want true {suffix}"
