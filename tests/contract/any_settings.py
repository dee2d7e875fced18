"""Random settings of a stack that are valid: over all sections, with everything on or off.

Each section is drawn field by field, and what fields must satisfy together is seen to as they are drawn, so
that nothing is thrown away. A field that the settings have and this file has not is an error.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from hypothesis import strategies as st

from components import addresses
from components import infra_settings as infra
from components import operations_settings as operations
from components import settings as s
from components.names import DRAIN_MARGIN_S, PORT
from components.quantities import cpu_milli, memory_mib
from tests.contract.any_models import chosen, models, section

ID = "0a1b2c3d-0a1b-4a1b-8a1b-0a1b2c3d4e5f"
DATA = ["data/flights/2013-01.csv", "data/flights/2013-02.csv"]
# Models whose names the names of other resources might meet.
AMBIGUOUS = ["a", "a-request", "namespace", "on-demand", "policy", "queue", "release", "server"]
REGIONS = ["us-east-1", "eu-west-1", "ap-southeast-2"]
FAMILIES = ["m7i", "m7a", "m6i", "m6a", "c7i", "c7a", "c6i", "c6a", "r7i", "r6i", "m7i-flex", "t3"]
QUANTITIES = ["64Mi", "128Mi", "256Mi", "512Mi", "1Gi", "1536Mi", "4Gi"]
CPUS = ["50m", "100m", "250m", "500m", "1", "1.5", "2"]
PRIVATE = [ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
SEPARATE = {
    "namespace",
    "image_digest",
    "zone_spread",
    "grpc_port",
    "target_cpu_percent",
    "rollout_timeout_seconds",
}
"""Fields of the workload that no other field bounds."""

PERSON = "arn:aws:iam::123456789012:user/a+b@example.com"

Drawn = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AnyStack:
    """A stack file's content, and the stack that it is of."""

    name: str
    region: str
    sections: Drawn

    def config(self) -> dict[str, Any]:
        """The content as the engine hands it to the program."""
        found = {f"trainserve:{name}": section for name, section in self.sections.items()}
        return {"aws:region": self.region, **found}


def name(longest: int) -> st.SearchStrategy[str]:
    """Of a model, a pool or a namespace: no hyphens at the ends, and no two together."""
    rest = st.text("abz09-", max_size=longest - 1)
    return rest.map(lambda text: re.sub("-+", "-", f"m{text}").rstrip("-"))


@st.composite
def network(draw: st.DrawFn, longest: int, shortest: int = 8) -> str:
    """A private network."""
    outer = draw(st.sampled_from(PRIVATE))
    length = draw(st.integers(max(shortest, outer.prefixlen), longest))
    index = draw(st.integers(0, 2 ** (length - outer.prefixlen) - 1))
    return str(ipaddress.IPv4Network((int(outer[0]) + (index << (32 - length)), length)))


def public(count: int) -> st.SearchStrategy[list[str]]:
    """Networks that do not overlap, and are narrow enough for production."""
    return st.lists(st.integers(20, 99), max_size=count, unique=True).map(
        lambda firsts: [f"{first}.7.0.0/{16 + index % 17}" for index, first in enumerate(firsts)]
    )


def percent(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False) | st.integers(int(low) + 1, int(high)).map(float)


def environments(production: bool) -> st.SearchStrategy[dict[str, Any]]:
    retention = s.Environment.model_json_schema()["properties"]["logRetentionDays"]["enum"]
    email = st.sampled_from(["on-call@example.com", "a+b@c.d.example"])
    return section(
        s.Environment,
        ("alarmEmail",) if production else (),
        production=st.just(production),
        protect=st.just(value=True) if production else st.booleans(),
        logRetentionDays=st.sampled_from(retention),
        alarmEmail=email if production else email | st.none(),
        monthlyBudgetUsd=st.integers(1, 10_000_000),
    )


@st.composite
def networks(draw: st.DrawFn, production: bool, region: str) -> dict[str, Any]:
    own = draw(network(20, 16))
    vpc = ipaddress.IPv4Network(own)

    def goes_with(text: str) -> bool:
        peer = ipaddress.IPv4Network(text)
        return not peer.overlaps(vpc) and addresses.service_network([vpc, peer]) is not None

    apart = network(28).filter(goes_with)
    elsewhere = st.sampled_from([other for other in REGIONS if other != region])
    peering = section(
        infra.Peering,
        peerVpcId=st.from_regex(r"vpc-[0-9a-f]{17}", fullmatch=True),
        peerCidr=apart,
        peerAccount=st.from_regex(r"[0-9]{12}", fullmatch=True) | st.none(),
        peerRegion=elsewhere | st.none(),
    )
    fields = section(
        s.Network,
        ("cidr", "natPerZone"),
        cidr=st.just(own),
        availabilityZones=chosen([f"{region}{letter}" for letter in "abcdef"], 2, 3),
        natPerZone=st.just(value=True) if production else st.booleans(),
        interfaceEndpoints=chosen(list(get_args(infra.Endpoint))),
        flowLogs=st.sampled_from(["cloudwatch", "arn:aws:s3:::central-flow-logs"]),
        peering=peering | st.none(),
    )
    return draw(fields)


@st.composite
def clusters(draw: st.DrawFn, production: bool) -> dict[str, Any]:
    people = [f"arn:aws:iam::123456789012:role/{role}" for role in ("admin", "ops/on.call", "dev", "data")]
    logs = s.Cluster.model_json_schema(by_alias=True)["properties"]["logTypes"]["items"]["enum"]
    admins = draw(chosen(people))
    developers = draw(chosen([*(set(people) - set(admins)), PERSON]))
    fields = section(
        s.Cluster,
        ("admins", "developers", "logTypes"),
        version=st.sampled_from(["1.35", "1.36"]),
        publicAccessCidrs=public(5),
        logTypes=st.permutations(logs) if production else chosen(logs),
        admins=st.just(admins),
        developers=st.just(developers),
        developerNamespaces=st.lists(
            name(50).map("team-{}".format), max_size=2 if developers else 0, unique=True
        ),
    )
    return draw(fields)


@st.composite
def gpu_pools(draw: st.DrawFn) -> dict[str, Any]:
    partitioned = {f"{family}.24xlarge": gpu for family, gpu in infra.GPU_MODELS.items() if family[0] == "p"}
    sharing = draw(st.sampled_from(["exclusive", "time-sliced", "mig"]))
    types = draw(chosen([f"{family}.xlarge" for family in infra.GPU_MODELS], 1, 3))
    replicas: st.SearchStrategy[Any] = st.none()
    profile: st.SearchStrategy[Any] = st.none()
    if sharing == "time-sliced":
        replicas = st.integers(2, 48)
    if sharing == "mig":
        kind = draw(st.sampled_from(sorted(partitioned)))
        types, profile = [kind], st.sampled_from(infra.MIG_PROFILES[partitioned[kind]])
    least = min(infra.GPU_COUNTS.get(kind, 1) for kind in types)
    fields = section(
        infra.Gpu,
        ("sharing", "replicas", "migProfile", "maxGpus"),
        sharing=st.just(sharing),
        instanceTypes=st.just(types),
        capacity=st.sampled_from(["on-demand", "spot"]),
        maxGpus=st.integers(least, 1000),
        replicas=replicas,
        migProfile=profile,
    )
    return draw(fields)


def node_pools(fargate: bool) -> st.SearchStrategy[dict[str, Any]]:
    cpus = st.integers(2, 10_000)
    pools = name(20).filter(lambda text: text not in {"on-demand", "spot", "standard"})
    spot = section(infra.Spot, instanceFamilies=chosen(FAMILIES, 5), maxCpus=cpus)
    return section(
        infra.NodePools,
        # Some node must have room for the largest pod that is drawn.
        onDemand=section(
            infra.OnDemand, instanceFamilies=chosen(FAMILIES, 1), maxCpus=st.integers(4, 10_000)
        ),
        spot=spot | st.none(),
        gpu=st.just({}) if fargate else st.dictionaries(pools, gpu_pools(), max_size=3),
        volumeGb=st.integers(20, 1000),
        expireAfterHours=st.integers(24, 2160),
        consolidateAfterSeconds=st.integers(30, 3600),
        disruptionPercent=st.integers(1, 100),
        terminationGraceMinutes=st.integers(5, 1440),
    )


@st.composite
def load_balancers(draw: st.DrawFn, production: bool, region: str, stopping: int) -> dict[str, Any]:
    certificate = f"arn:aws:acm:{region}:123456789012:certificate/{ID}"
    firewall = f"arn:aws:wafv2:{region}:123456789012:regional/webacl/models/{ID}"
    secure = draw(st.booleans())
    facing = draw(st.booleans()) and secure
    fields = section(
        infra.LoadBalancer,
        ("scheme", "host", "certificateArn", "accessLogs", "deregistrationSeconds"),
        scheme=st.just("internet-facing" if facing else "internal"),
        host=st.sampled_from(["models.example.com", "m.example"]) if secure else st.none(),
        certificateArn=st.just(certificate) if secure else st.none(),
        wafAclArn=st.just(firewall) | st.none(),
        inboundCidrs=public(4) | st.just(["0.0.0.0/0"] if facing else []),
        accessLogs=st.just(value=True) if production else st.booleans(),
        deregistrationSeconds=st.integers(0, stopping),
    )
    return draw(fields)


@st.composite
def trainings(draw: st.DrawFn, region: str, first: Mapping[str, bool], captured: bool) -> dict[str, Any]:
    """`first`: the models, and whether there is data for their first training."""
    instance = st.sampled_from(["ml.m5.large", "ml.c7i.4xlarge", "ml.p4d.24xlarge"])
    digest = "sha256:" + "a" * 64
    limit = draw(st.integers(60, 432_000))
    data = {model: draw(chosen(DATA, 1)) for model, there in first.items() if there}
    tuning = section(
        operations.Tuning, ("maxJobs",), maxJobs=st.integers(10, 500), parallelJobs=st.integers(1, 10)
    )
    monitor = section(
        operations.ModelMonitor,
        scheduleHours=st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]),
        instanceType=instance,
    )
    fields = section(
        s.Training,
        ("maxRuntimeSeconds", "maxWaitSeconds", "bootstrapData"),
        image=st.just(f"123456789012.dkr.ecr.{region}.amazonaws.com/own/train@{digest}") | st.none(),
        tuning=tuning | st.none() if data else st.none(),
        pipeline=st.booleans(),
        modelMonitor=monitor | st.none() if captured else st.none(),
        instanceType=instance,
        volumeGb=st.integers(1, 16384),
        maxRuntimeSeconds=st.just(limit),
        spot=st.booleans(),
        maxWaitSeconds=st.integers(limit, 432_000),
        bootstrapData=st.just(data),
    )
    return draw(fields)


@st.composite
def workloads(draw: st.DrawFn, production: bool, fargate: bool) -> dict[str, Any]:
    low, wanted, high = sorted(draw(st.tuples(*[st.integers(2 if production else 1, 100)] * 3)))
    cpus = sorted(draw(st.tuples(*[st.sampled_from(CPUS)] * 2)), key=cpu_milli)
    memory = sorted(draw(st.tuples(*[st.sampled_from(QUANTITIES)] * 2)), key=memory_mib)
    stopping, secure = draw(st.integers(0, 290)), draw(st.booleans())
    capture = section(s.Capture, percentage=percent(1, 100), flushSeconds=st.integers(1, 3600))
    grpc = st.integers(1024, 65535).filter(lambda port: port != PORT)
    fields = section(
        s.Workload,
        [field.alias or label for label, field in s.Workload.model_fields.items() if label not in SEPARATE],
        namespace=name(63).filter(lambda text: text != "monitoring"),
        compute=st.just("fargate" if fargate else "nodes"),
        imageDigest=st.just("sha256:" + "b" * 64) | st.none(),
        capture=st.none() if fargate else capture | st.none(),
        zoneSpread=st.sampled_from(["prefer"] if fargate else ["prefer", "require"]),
        tls=st.just(secure),
        grpcPort=st.none() if secure else grpc | st.none(),
        replicas=st.just(wanted),
        minReplicas=st.just(low),
        maxReplicas=st.just(high),
        targetCpuPercent=st.integers(10, 95),
        cpuRequest=st.just(cpus[0]),
        cpuLimit=st.just(cpus[1]),
        memoryRequest=st.just(memory[1] if production else memory[0]),
        memoryLimit=st.just(memory[1]),
        preStopSeconds=st.just(stopping),
        gracePeriodSeconds=st.integers(stopping + DRAIN_MARGIN_S + 1, 600),
        rolloutTimeoutSeconds=st.integers(60, 3600),
    )
    return draw(fields)


def observabilities() -> st.SearchStrategy[dict[str, Any]]:
    prometheus = section(
        operations.Prometheus, retentionDays=st.integers(1, 90), volumeGb=st.integers(10, 2000)
    )
    return section(
        operations.Observability,
        prometheus=prometheus | st.none(),
        traceSamplePercent=percent(0, 100) | st.just(0),
        latencyP95Ms=percent(1, 60_000),
        errorRatePercent=percent(0.01, 99),
        driftPsi=percent(0.01, 9),
        pendingMinutes=st.integers(1, 120),
        spotInterruptionsPerHour=st.integers(1, 1000),
        loadBalancer=st.just("app/k8s-serving/50dc6c495c0c9188") | st.none(),
    )


def securities(production: bool, fargate: bool) -> st.SearchStrategy[dict[str, Any]]:
    schedule = st.sampled_from(["0 3 * * 0", "*/15 0-6,22 1 1-12/2 7"])
    return section(
        operations.Security,
        ("networkPolicies", "subjectKey"),
        accountBaseline=st.booleans(),
        networkPolicies=st.just(value=not fargate) if fargate or production else st.booleans(),
        subjectKey=st.just(value=False) if fargate else st.booleans(),
        kubeBench=section(operations.KubeBench, schedule=schedule) | st.none(),
    )


@st.composite
def any_stack(draw: st.DrawFn) -> AnyStack:
    """One stack, all of whose settings are valid together."""
    production, region = draw(st.booleans()), draw(st.sampled_from(REGIONS))
    fargate = draw(st.integers(0, 3)) == 0
    stack = draw(
        st.sampled_from(["prod", "eu-production"] if production else ["staging", "t", "of-sixteen-chars"])
    )
    models_named = name(20) | st.sampled_from(AMBIGUOUS)
    first = draw(st.dictionaries(models_named, st.booleans(), min_size=1, max_size=3))
    workload = draw(workloads(production, fargate))
    training = draw(trainings(region, first, workload["capture"] is not None))
    # An own image may report more.
    searched = training.get("tuning") is not None and training.get("image") is None
    key = st.sampled_from(
        ["Team", "cost:center", "Größe", "a b/c+d=e@f-g_h.i", *map("t-{}".format, range(36))]
    )
    tags = st.dictionaries(key, st.text(st.sampled_from("aé 0.:/=+@_-"), max_size=20), max_size=40)
    storage = section(
        s.Storage,
        noncurrentDays=st.integers(1, 3650),
        forceDestroy=st.just(value=False) if production else st.booleans(),
        keepImages=st.integers(5, 1000),
    )
    retraining = section(
        s.Retraining,
        batchDelaySeconds=st.integers(0, 900),
        maxAttempts=st.integers(1, 10),
        driftSchedule=st.sampled_from(["rate(1 hour)", "rate(30 minutes)", "rate(2 days)"]),
    )
    fields = section(
        s.Settings,
        # Left out, these would be what neither production, nor Fargate, nor short stopping allows.
        ("cluster", "training", "workload", "loadBalancer", "security"),
        environment=environments(production),
        network=networks(production, region),
        cluster=clusters(production),
        storage=storage,
        training=st.just(training),
        retraining=retraining,
        workload=st.just(workload),
        nodePools=node_pools(fargate),
        loadBalancer=load_balancers(production, region, workload["preStopSeconds"]),
        observability=observabilities(),
        security=securities(production, fargate),
        models=st.fixed_dictionaries(
            {model: models(there, there and searched) for model, there in first.items()}
        ),
        tags=tags,
    )
    return AnyStack(name=stack, region=region, sections=draw(fields))
