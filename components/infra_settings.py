"""Settings of the network's extras, the node pools and the load balancer."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from components.section import NAME_PATTERN, Cidr, Section, text

GPU_MODELS: Final[dict[str, str]] = {
    "g4dn": "t4",
    "g5": "a10g",
    "g6": "l4",
    "gr6": "l4",
    "g6e": "l40s",
    "p4d": "a100.40gb",
    "p4de": "a100.80gb",
    "p5": "h100.80gb",
    "p5e": "h200.141gb",
    "p5en": "h200.141gb",
}
"""Instance family to GPU, as Bottlerocket names those that can be partitioned."""

GPU_COUNTS: Final[dict[str, int]] = {
    **{
        f"{family}.{size}": 1
        for family in ("g4dn", "g5", "g6", "g6e")
        for size in ("xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")
    },
    **{f"{family}.12xlarge": 4 for family in ("g4dn", "g5", "g6", "g6e")},
    **{f"{family}.24xlarge": 4 for family in ("g5", "g6", "g6e")},
    **{f"{family}.48xlarge": 8 for family in ("g5", "g6", "g6e", "p5", "p5e", "p5en")},
    "g4dn.metal": 8,
    "gr6.4xlarge": 1,
    "gr6.8xlarge": 1,
    "p4d.24xlarge": 8,
    "p4de.24xlarge": 8,
    "p5.4xlarge": 1,
}
"""Instance type to the GPUs of one machine; a type that is not here may be newer than this table."""

NODE_CPUS: Final = (2, 4, 8, 16)
"""The CPUs of a general pool's machines."""

GIB_PER_CPU: Final[dict[str, float]] = {"c": 2.625, "m": 4, "r": 8, "t": 4}
MOST_GIB_PER_CPU: Final = 32
"""Instance category to the memory beside each CPU, in its family with most; no other category has more."""

MIG_PROFILES: Final[dict[str, tuple[str, ...]]] = {
    "a100.40gb": ("1g.5gb", "2g.10gb", "3g.20gb", "7g.40gb"),
    "a100.80gb": ("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb"),
    "h100.80gb": ("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb"),
    "h200.141gb": ("1g.18gb", "2g.35gb", "3g.71gb", "7g.141gb"),
}

POOL_NAMES: Final = "at most 20 lower-case letters, digits and single hyphens, starting with a letter"
Endpoint = Literal[
    "ecr.api",
    "ecr.dkr",
    "sts",
    "logs",
    "monitoring",
    "sagemaker.api",
    "sagemaker.runtime",
    "sqs",
    "ssm",
    "ec2",
    "eks",
    "eks-auth",
    "secretsmanager",
    "kms",
    "elasticloadbalancing",
    "autoscaling",
    "xray",
]
FlowLogs = Annotated[
    str,
    text(
        r"^(cloudwatch|arn:aws:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])$",
        "cloudwatch, or the ARN of an S3 bucket",
        80,
    ),
]
VpcId = Annotated[str, text(r"^vpc-([0-9a-f]{8}|[0-9a-f]{17})$", "a VPC's id like vpc-0a1b2c3d4e5f60718", 21)]
AccountId = Annotated[str, text(r"^\d{12}$", "an AWS account's number of 12 digits, in quotes", 12)]
Region = Annotated[str, text(r"^[a-z]{2}-[a-z]+-\d$", "a region like us-east-1", 20)]
Family = Annotated[str, text(r"^[a-z]+\d+[a-z-]*$", "an EC2 instance family like m7i", 12)]
Ec2Type = Annotated[str, text(r"^[a-z]+\d+[a-z-]*\.[a-z0-9-]+$", "an EC2 instance type like g6.xlarge", 24)]
MigProfile = Annotated[str, text(r"^\dg\.\d+gb$", "a MIG profile like 1g.5gb", 9)]
PoolName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=20)]
Host = Annotated[
    str,
    text(
        r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
        "a host name in lower case like models.example.com",
        200,
    ),
]
CertificateArn = Annotated[
    str,
    text(
        r"^arn:aws:acm:[a-z0-9-]+:\d{12}:certificate/[0-9a-f-]{36}$",
        "the ARN of a certificate in ACM",
        120,
    ),
]
WafArn = Annotated[
    str,
    text(
        r"^arn:aws:wafv2:[a-z0-9-]+:\d{12}:regional/webacl/[\w-]+/[0-9a-f-]{36}$",
        "the ARN of a regional WAFv2 web ACL",
        250,
    ),
]


class Peering(Section):
    """Another VPC that this one can talk to; its own routes and rules are the other side's business."""

    peer_vpc_id: VpcId
    peer_cidr: Cidr = Field(
        description="Services of the cluster keep clear of it; one over 172.20.0.0/16 that comes later moves "
        "them, for which EKS replaces the cluster."
    )
    peer_account: AccountId | None = None
    peer_region: Region | None = None


class OnDemand(Section):
    """The pool that is always to be had: what spot falls back on."""

    instance_families: tuple[Family, ...] = Field(default=("m7i", "m7a", "m6i"), min_length=1, max_length=30)
    max_cpus: Annotated[int, Field(ge=2, le=10000)] = 64


class Spot(Section):
    """The pool that is tried first: cheaper, and taken away at two minutes' notice."""

    instance_families: tuple[Family, ...] = Field(
        default=("m7i", "m7a", "m6i", "m6a", "c7i", "c7a", "c6i", "c6a", "r7i", "r6i"),
        min_length=5,
        max_length=30,
        description="Many, so that one family's shortage does not take all nodes at once.",
    )
    max_cpus: Annotated[int, Field(ge=2, le=10000)] = 64


class Gpu(Section):
    """A pool of GPU nodes, all shared in one way: Karpenter counts whole GPUs only."""

    sharing: Literal["exclusive", "time-sliced", "mig"] = "exclusive"
    instance_types: tuple[Ec2Type, ...] = Field(min_length=1, max_length=20)
    capacity: Literal["on-demand", "spot"] = "on-demand"
    max_gpus: Annotated[int, Field(ge=1, le=1000)] = 4
    replicas: Annotated[int, Field(ge=2, le=48)] | None = Field(
        default=None, description="Pods that share one GPU, where sharing is time-sliced."
    )
    mig_profile: MigProfile | None = None


class NodePools(Section):
    """The machines that Karpenter may start."""

    on_demand: OnDemand = OnDemand()
    spot: Spot | None = Spot()
    gpu: Mapping[PoolName, Gpu] = Field(
        default_factory=dict, max_length=10, json_schema_extra={"keys": POOL_NAMES}
    )
    volume_gb: Annotated[int, Field(ge=20, le=1000)] = 50
    expire_after_hours: Annotated[int, Field(ge=24, le=2160)] = 720
    consolidate_after_seconds: Annotated[int, Field(ge=30, le=3600)] = 300
    disruption_percent: Annotated[int, Field(ge=1, le=100)] = 10
    termination_grace_minutes: Annotated[int, Field(ge=5, le=1440)] = 30


class LoadBalancer(Section):
    """How requests from outside the cluster reach the models."""

    scheme: Literal["internal", "internet-facing"] = "internal"
    host: Host | None = Field(default=None, description="Each model answers under <model>.<host>.")
    certificate_arn: CertificateArn | None = None
    waf_acl_arn: WafArn | None = None
    inbound_cidrs: tuple[Cidr, ...] = Field(
        default=(), max_length=20, description="Who may connect; none means the VPC where it is internal."
    )
    access_logs: bool = False
    deregistration_seconds: Annotated[int, Field(ge=0, le=300)] = 5
