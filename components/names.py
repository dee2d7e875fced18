"""Names that two parts of the system must agree on; everything else is named by the engine."""

from typing import Final

RELEASE_GROUP: Final = "trainserve-release"
"""The release function's group: the access entry puts it there, the workload's RoleBinding names it."""

INCOMING: Final = "incoming/"
OBJECTS: Final = "objects/"
BOOTSTRAP: Final = "bootstrap/"
CONFIG: Final = "config/"
ENVIRONMENT: Final = "environment.json"
"""What this stack's parts are called, in the artifact bucket."""

DATASETS: Final = "datasets/"
TRAINING_OUTPUT: Final = "training/"
CHECKPOINTS: Final = "checkpoints/"
SOURCES: Final = "sources/"
CAPTURES: Final = "captures/"
MONITORING: Final = "monitoring/"

METRICS: Final = "trainserve"
"""CloudWatch's namespace for what the loop itself measures; dimensions are Stack and Model."""


MONITORING_NAMESPACE: Final = "monitoring"
BENCH_NAMESPACE: Final = "kube-bench"
SUBJECT_KEY: Final = "subject-key"
"""The SecretProviderClass, and the file in it, of the key that hashes data subjects."""

SUBJECT_KEY_PATH: Final = "/etc/trainserve/subject-key"

TLS_PATH: Final = "/etc/trainserve/tls"
"""Where a pod keeps its own certificate, in memory."""

TRACES: Final = "http://cloudwatch-agent.amazon-cloudwatch:4316/v1/traces"
"""Where the CloudWatch add-on takes OpenTelemetry's traces, for X-Ray."""

DRAIN_MARGIN_S: Final = 12
"""Of a pod's grace period, what is left when its server's drain period ends: it stops by itself, unkilled.

5 s for what is half-way then, 4 for the last captures, 2 for traces and the log.
"""

CONTAINER: Final = "server"
PORT: Final = 8080


def job_prefix(stack: str) -> str:
    """What every training job of one stack starts with; `--` occurs in no stack's and no model's name."""
    return f"ts-{stack}--"


def stack_metrics(stack: str) -> str:
    """CloudWatch's namespace for what is counted in one stack's logs, which have no dimension for it."""
    return f"{METRICS}/{stack}"


def cluster_name(stack: str) -> str:
    """The EKS cluster: the release function, subnets' tags and kubeconfigs refer to it."""
    return f"trainserve-{stack}"


def incoming(model: str) -> str:
    """The prefix under which a model's new data is uploaded."""
    return f"{INCOMING}{model}/"


def grpc_service(model: str) -> str:
    """The Service of a model's gRPC port, beside the one that is called like the model itself."""
    return f"{model}-grpc"


DISCOVERY: Final = "karpenter.sh/discovery"
"""Tag, with the cluster's name as its value, of the subnets and the security group that nodes get."""

KUBE_SYSTEM: Final = "kube-system"
KARPENTER: Final = "karpenter"
LOAD_BALANCER_CONTROLLER: Final = "aws-load-balancer-controller"
INGRESS_CLASS: Final = "alb"
