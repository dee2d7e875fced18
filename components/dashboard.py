"""CloudWatch's dashboard as data: requests, pods, the loop, and the alarms above them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from components import names

_WIDTH: Final = 24
_COLUMNS: Final = 3


@dataclass(frozen=True, kw_only=True)
class DashboardFacts:
    """What the dashboard shows."""

    stack: str
    region: str
    models: Sequence[str]
    cluster_name: str
    load_balancer: str | None
    queues: Mapping[str, pulumi.Input[str]]
    functions: Mapping[str, pulumi.Input[str]]
    state_machine_arn: pulumi.Input[str]
    build_project: pulumi.Input[str]
    alarm_arns: Sequence[pulumi.Input[str]]


def dashboard(facts: DashboardFacts) -> dict[str, Any]:
    """The dashboard's body; metrics of what does not exist yet draw nothing."""
    alarms = {
        "type": "alarm",
        "x": 0,
        "y": 0,
        "width": _WIDTH,
        "height": 3,
        "properties": {"title": "Alarms", "alarms": list(facts.alarm_arns)},
    }
    width, height = _WIDTH // _COLUMNS, 6
    graphs = [
        {
            "type": "metric",
            "x": width * (index % _COLUMNS),
            "y": 3 + height * (index // _COLUMNS),
            "width": width,
            "height": height,
            "properties": {
                "title": title,
                "region": facts.region,
                "view": "timeSeries",
                "period": 60,
                "metrics": metrics,
            },
        }
        for index, (title, metrics) in enumerate(_graphs(facts).items())
    ]
    return {"widgets": [alarms, *graphs]}


def _graphs(facts: DashboardFacts) -> dict[str, list[list[Any]]]:
    """Title → metrics in the dashboard's own form: namespace, name, dimensions, how to draw it."""
    return {**_serving(facts), **_loop(facts)}


def _serving(facts: DashboardFacts) -> dict[str, list[list[Any]]]:
    """What the models are asked, and what they run on."""
    cluster = ["ClusterName", facts.cluster_name]
    return {
        "Requests": [_balancer(facts, "RequestCount", "Sum", "requests")],
        "Latency (s)": [
            _balancer(facts, "TargetResponseTime", statistic, statistic)
            for statistic in ("p50", "p95", "p99")
        ],
        "5xx": [
            _balancer(facts, "HTTPCode_Target_5XX_Count", "Sum", "pods"),
            _balancer(facts, "HTTPCode_ELB_5XX_Count", "Sum", "load balancer"),
        ],
        "Pods": [
            # Every pod says 0 or 1 each minute.
            ["ContainerInsights", name, *cluster, {"stat": "Sum", "label": label}]
            for name, label in (("pod_status_running", "running"), ("pod_status_pending", "pending"))
        ],
        "Nodes": [
            ["ContainerInsights", name, *cluster, {"stat": "Average", "label": label}]
            for name, label in (
                ("node_cpu_utilization", "CPU, percent"),
                ("node_memory_utilization", "memory, percent"),
                ("node_gpu_utilization", "GPU, percent"),
            )
        ],
    }


def _loop(facts: DashboardFacts) -> dict[str, list[list[Any]]]:
    """How new data becomes a model in service."""
    return {
        "Drift (PSI)": [
            [names.METRICS, "DriftPsi", "Stack", facts.stack, "Model", model, {"stat": "Maximum"}]
            for model in facts.models
        ],
        "Queues": [
            [
                "AWS/SQS",
                "ApproximateNumberOfMessagesVisible",
                "QueueName",
                queue,
                {"stat": "Maximum", "label": label},
            ]
            for label, queue in facts.queues.items()
        ],
        "Functions' errors": [
            ["AWS/Lambda", "Errors", "FunctionName", function, {"stat": "Sum", "label": label}]
            for label, function in facts.functions.items()
        ],
        "Releases": [
            ["AWS/States", name, "StateMachineArn", facts.state_machine_arn, {"stat": "Sum", "label": label}]
            for name, label in (("ExecutionsSucceeded", "ended"), ("ExecutionsFailed", "failed"))
        ],
        "Builds": [
            ["AWS/CodeBuild", name, "ProjectName", facts.build_project, {"stat": "Sum", "label": label}]
            for name, label in (("SucceededBuilds", "built"), ("FailedBuilds", "failed"))
        ],
    }


def _balancer(facts: DashboardFacts, metric: str, statistic: str, label: str) -> list[Any]:
    """One ALB if it is named, else a search over all of the region's: dashboards can, alarms cannot."""
    if facts.load_balancer is not None:
        dimension = ["LoadBalancer", facts.load_balancer]
        return ["AWS/ApplicationELB", metric, *dimension, {"stat": statistic, "label": label}]
    schema = "{AWS/ApplicationELB,LoadBalancer}"
    query = f"""SEARCH('{schema} MetricName="{metric}"', '{statistic}', 60)"""
    return [{"expression": query, "label": label}]
