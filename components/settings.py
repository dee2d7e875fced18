"""One environment's settings: a frozen, typed model of `Pulumi.<stack>.yaml`, read and checked once.

Keys are camelCase in the stack file and snake_case here. `checks.py` holds what no single field can say,
`complaints.py` turns every failure into a sentence that names the key, the file and the accepted values.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from components import versions
from components.infra_settings import Endpoint, FlowLogs, LoadBalancer, NodePools, Peering
from components.operations_settings import (
    Digest,
    InstanceType,
    ModelMonitor,
    Observability,
    Rate,
    RegistryImage,
    Security,
    Tuning,
)
from components.section import NAME_PATTERN, Cidr, ColumnName, Section, text
from components.steps import Step

NAMESPACE: Final = "trainserve"
MAX_STACK_LENGTH: Final = 16
MAX_MODEL_LENGTH: Final = 20
MAX_HYPERPARAMETER_LENGTH: Final = 2500
"""SageMaker's limit on one hyperparameter's value."""


Zone = Annotated[str, text(r"^[a-z]{2}-[a-z]+-\d[a-z]$", "an availability zone like us-east-1a", 20)]
Cpu = Annotated[
    str,
    text(r"^([1-9]\d*m|[1-9]\d*(\.\d{1,3})?|0\.\d{0,2}[1-9]\d{0,2})$", "a CPU quantity like 100m or 2", 8),
]
Memory = Annotated[str, text(r"^[1-9]\d*(Mi|Gi)$", "a memory quantity like 128Mi or 1Gi", 8)]
RoleArn = Annotated[
    str, text(r"^arn:aws:iam::\d{12}:(role|user)/[\w+=,.@/-]+$", "the ARN of an IAM role or user", 200)
]
Name = Annotated[
    str,
    text(
        NAME_PATTERN, "at most 63 lower-case letters, digits and single hyphens, starting with a letter", 63
    ),
]
# Keys of maps: their form stands in words beside the map, for a schema keeps the pattern only.
MODEL_NAMES: Final = (
    f"at most {MAX_MODEL_LENGTH} lower-case letters, digits and single hyphens, starting with a letter"
)
HYPERPARAMETER_NAMES: Final = "a parameter of XGBoost's, like max_depth"
TAG_NAMES: Final = "a tag's name of at most 128 letters, digits, spaces or any of . : / = + @ _ -"
ModelName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=MAX_MODEL_LENGTH)]
HyperparameterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
TagKey = Annotated[str, Field(pattern=r"^[\w.:/=+@-][\w .:/=+@-]*$", max_length=128)]
Hyperparameter = Annotated[
    str | int | float | bool, Field(json_schema_extra={"accepts": "text, a number, true or false"})
]
TagValue = Annotated[
    str, text(r"^[\w .:/=+@-]*$", "at most 256 letters, digits, spaces or any of . : / = + @ _ -", 256)
]
Email = Annotated[str, text(r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "an e-mail address", 254)]


class Environment(Section):
    """What kind of place this is."""

    production: bool
    protect: bool = Field(description="Refuse to delete what holds state: buckets, keys, images, cluster.")
    log_retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731] = 30
    alarm_email: Email | None = None
    monthly_budget_usd: Annotated[int, Field(ge=1, le=10_000_000)] = 500


class Network(Section):
    """The VPC."""

    cidr: Cidr = "10.0.0.0/16"
    availability_zones: tuple[Zone, ...] = Field(min_length=2, max_length=3)
    nat_per_zone: bool = False
    interface_endpoints: tuple[Endpoint, ...] = Field(
        default=("ecr.api", "ecr.dkr", "sts"),
        description="AWS services reached without NAT; each costs about $7 a zone and month.",
    )
    flow_logs: FlowLogs = "cloudwatch"
    peering: Peering | None = None


class Cluster(Section):
    """The EKS cluster."""

    version: Literal["1.35", "1.36"] = versions.KUBERNETES
    public_access_cidrs: tuple[Cidr, ...] = Field(
        default=(),
        max_length=40,
        description="Networks that reach the API from outside; none means the private endpoint only.",
    )
    log_types: tuple[Literal["api", "audit", "authenticator", "controllerManager", "scheduler"], ...] = (
        "api",
        "audit",
        "authenticator",
    )
    admins: tuple[RoleArn, ...] = Field(
        default=(),
        description="May do everything. Not who makes the cluster: EKS lets that one in itself.",
    )
    developers: tuple[RoleArn, ...] = Field(
        default=(), description="May look at the workload's namespace, and at developerNamespaces."
    )
    developer_namespaces: tuple[Name, ...] = ()


class Storage(Section):
    """Buckets and images."""

    noncurrent_days: Annotated[int, Field(ge=1, le=3650)] = 90
    force_destroy: bool = False
    keep_images: Annotated[int, Field(ge=5, le=1000)] = 50


class Training(Section):
    """How models are trained."""

    image: RegistryImage | None = Field(
        default=None,
        description="Another training image that keeps script mode and the bundle; else the built-in one.",
    )
    tuning: Tuning | None = None
    pipeline: bool = False
    model_monitor: ModelMonitor | None = None
    instance_type: InstanceType = "ml.m5.large"
    volume_gb: Annotated[int, Field(ge=1, le=16384)] = 30
    max_runtime_seconds: Annotated[int, Field(ge=60, le=432000)] = 3600
    spot: bool = True
    max_wait_seconds: Annotated[int, Field(ge=60, le=432000)] = 7200
    bootstrap_data: Mapping[ModelName, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Model → files that the program uploads and trains the first model on.",
        json_schema_extra={"keys": MODEL_NAMES, "accepts": "a map from model to list of files"},
    )


class Retraining(Section):
    """How new data becomes a new model."""

    batch_delay_seconds: Annotated[int, Field(ge=0, le=900)] = 60
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    drift_schedule: Rate = "rate(1 hour)"


class Capture(Section):
    """A sample of requests and predictions, in the data bucket: what drift is found in."""

    percentage: Annotated[float, Field(gt=0, le=100)] = 100
    flush_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=60, description="A record waits no longer in a pod's memory."
    )


class Workload(Section):
    """The pods that serve a model; every model has the same."""

    namespace: Name = "serving"
    compute: Literal["nodes", "fargate"] = "nodes"
    image_digest: Digest | None = Field(
        default=None,
        description="Another server in this stack's repository that keeps the protocol; else the built one.",
    )
    zone_spread: Literal["prefer", "require"] = "prefer"
    tls: bool = Field(
        default=False,
        description="Encrypts the way from the ALB to the pods too; each pod makes its own certificate.",
    )
    grpc_port: Annotated[int, Field(ge=1024, le=65535)] | None = Field(
        default=None, description="A port of the serving image's for gRPC, behind an NLB of its own."
    )
    capture: Capture | None = None
    replicas: Annotated[int, Field(ge=1, le=100)] = 2
    min_replicas: Annotated[int, Field(ge=1, le=100)] = 2
    max_replicas: Annotated[int, Field(ge=1, le=100)] = 10
    target_cpu_percent: Annotated[int, Field(ge=10, le=95)] = 50
    cpu_request: Cpu = "100m"
    cpu_limit: Cpu = "500m"
    memory_request: Memory = "128Mi"
    memory_limit: Memory = "256Mi"
    pre_stop_seconds: Annotated[int, Field(ge=0, le=300)] = 10
    grace_period_seconds: Annotated[int, Field(ge=5, le=600)] = 45
    rollout_timeout_seconds: Annotated[int, Field(ge=60, le=3600)] = 600


class Model(Section):
    """One model: what it predicts, from what, and how good a successor must be."""

    target: ColumnName
    task: Literal["binary", "multiclass", "regression"]
    drop: tuple[ColumnName, ...] = ()
    categorical: tuple[ColumnName, ...] | None = None
    unknown_category: Literal["missing", "refuse"] = "missing"
    steps: tuple[Step, ...] = ()
    metric: Annotated[str, text(r"^[a-z0-9]+$", "a metric of XGBoost's like auc", 30)] | None = None
    holdout_fraction: Annotated[float, Field(gt=0, lt=0.9)] = 0.2
    hyperparameters: Mapping[HyperparameterName, Hyperparameter] = Field(
        default_factory=dict, max_length=60, json_schema_extra={"keys": HYPERPARAMETER_NAMES}
    )
    gate_margin: Annotated[float, Field(ge=0)] = 0.005


class Settings(Section):
    """Everything that a stack file decides."""

    environment: Environment
    network: Network
    cluster: Cluster = Cluster()
    storage: Storage = Storage()
    training: Training = Training()
    retraining: Retraining = Retraining()
    workload: Workload = Workload()
    node_pools: NodePools = NodePools()
    load_balancer: LoadBalancer = LoadBalancer()
    observability: Observability = Observability()
    security: Security = Security()
    models: Mapping[ModelName, Model] = Field(
        min_length=1,
        max_length=20,
        json_schema_extra={
            "keys": MODEL_NAMES,
            "accepts": "a map from 1 to 20 models' names to their settings",
        },
    )
    tags: Mapping[TagKey, TagValue] = Field(
        default_factory=dict,
        max_length=40,
        json_schema_extra={"keys": TAG_NAMES, "accepts": "a map of at most 40 tags"},
    )
