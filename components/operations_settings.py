"""Settings of what watches, guards and tunes: observability, security, and SageMaker's optional parts."""

from typing import Annotated, Literal

from pydantic import Field

from components.section import Section, text

InstanceType = Annotated[
    str, text(r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", "a SageMaker instance type like ml.m5.large", 40)
]
Digest = Annotated[
    str, text(r"^sha256:[0-9a-f]{64}$", "an image's digest: sha256: and 64 hexadecimal digits", 71)
]
RegistryImage = Annotated[
    str,
    text(
        r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/[a-z0-9][a-z0-9._/-]*@sha256:[0-9a-f]{64}$",
        "an image in ECR by digest, like 123456789012.dkr.ecr.us-east-1.amazonaws.com/name@sha256:…",
        400,
    ),
]
LoadBalancerName = Annotated[
    str,
    text(
        r"^app/[A-Za-z0-9-]{1,32}/[0-9a-f]{16}$",
        "an ALB as its metrics name it, like app/k8s-serving/50dc6c495c0c9188",
        60,
    ),
]
Rate = Annotated[
    str,
    text(
        r"^rate\((1 (minute|hour|day)|([2-9]|[1-9]\d{1,3}) (minutes|hours|days))\)$",
        "a rate like rate(1 hour) or rate(6 hours)",
        24,
    ),
]
CronSchedule = Annotated[
    str, text(r"^([0-9*,/-]+ ){4}[0-9*,/-]+$", "a cron schedule of five fields like 0 3 * * 0", 60)
]


class Tuning(Section):
    """A search for hyperparameters over the bootstrap data."""

    max_jobs: Annotated[int, Field(ge=1, le=500)] = 10
    parallel_jobs: Annotated[int, Field(ge=1, le=100)] = 2


class ModelMonitor(Section):
    """SageMaker's own monitor over captured data; closed to accounts that did not use it before."""

    schedule_hours: Literal[1, 2, 3, 4, 6, 8, 12, 24] = 24
    instance_type: InstanceType = "ml.m5.large"


class Prometheus(Section):
    """kube-prometheus-stack: Prometheus, Alertmanager and Grafana in the cluster."""

    retention_days: Annotated[int, Field(ge=1, le=90)] = 15
    volume_gb: Annotated[int, Field(ge=10, le=2000)] = 50


class Observability(Section):
    """What is watched, and from where on people are told."""

    prometheus: Prometheus | None = Prometheus()
    trace_sample_percent: Annotated[float, Field(ge=0, le=100)] = 5
    latency_p95_ms: Annotated[float, Field(ge=1, le=60000)] = 250
    error_rate_percent: Annotated[float, Field(gt=0, lt=100)] = 1
    drift_psi: Annotated[float, Field(gt=0, lt=10)] = 0.25
    pending_minutes: Annotated[int, Field(ge=1, le=120)] = 15
    spot_interruptions_per_hour: Annotated[int, Field(ge=1, le=1000)] = 5
    load_balancer: LoadBalancerName | None = Field(
        default=None,
        description="The ALB as its metrics name it, known after the first `up`; the alarm on p95 needs it.",
    )


class KubeBench(Section):
    """The CIS benchmark of the nodes, on a schedule."""

    schedule: CronSchedule = "0 3 * * 0"


class Security(Section):
    """What guards the account, the cluster and the workload."""

    account_baseline: bool = Field(
        default=False,
        description="GuardDuty, Security Hub, CloudTrail and Config: on in one environment per account.",
    )
    network_policies: bool = True
    subject_key: bool = Field(
        default=True, description="A secret key, mounted in the pods, that hashes data subjects in captures."
    )
    kube_bench: KubeBench | None = KubeBench()
