"""What is watched exists: every metric of a dashboard, an alarm or a rule is one that somebody publishes."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from components import names
from components.alert_rules import rules
from components.grafana import dashboard
from components.operations_settings import Observability
from serving import tracing
from serving.metrics import Metrics, ModelMetrics
from tests.contract.recorder import ROOT, Program, run

Run = Callable[[str], Program]
STACKS = ["dev", "prod"]
# From kube-state-metrics and from Kubernetes' own documentation.
KUBERNETES = {
    "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_horizontalpodautoscaler_status_current_replicas",
    "kube_pod_container_status_restarts_total",
    "kube_pod_status_phase",
}
PUBLISHED = {
    # CloudWatch namespace → the metrics of it that are used here, each in its publisher's documentation.
    "AWS/ApplicationELB": {
        "HTTPCode_ELB_5XX_Count",
        "HTTPCode_Target_5XX_Count",
        "RequestCount",
        "TargetResponseTime",
    },
    "AWS/CodeBuild": {"FailedBuilds", "SucceededBuilds"},
    "AWS/Events": {"TriggeredRules"},
    "AWS/Lambda": {"Errors"},
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible"},
    "AWS/States": {"ExecutionsAborted", "ExecutionsFailed", "ExecutionsSucceeded", "ExecutionsTimedOut"},
    "ContainerInsights": {
        "node_cpu_utilization",
        "node_gpu_memory_utilization",
        "node_gpu_utilization",
        "node_memory_utilization",
        "pod_status_pending",
        "pod_status_running",
    },
    # Ours: the drift function publishes it; the other one is counted in the release function's log.
    names.METRICS: {"DriftPsi"},
    names.stack_metrics("dev"): {"ReleasesUndone"},
}
# With capture and traces; tests/serving/test_metrics.py looks for them in a server that has both.
OPTIONAL = {
    "trainserve_captures_dropped_total",
    "trainserve_log_lines_dropped_total",
    "trainserve_spans_dropped_total",
}
NAME = re.compile(r"\b(?:trainserve|process|kube)_[a-z0-9_]+")


def counting(status: int) -> Metrics:
    """A server's metrics after one answer of one model."""
    metrics = Metrics()
    metrics.requests["invocations", status] += 1
    metrics.models["a"] = ModelMetrics({"name": "a", "version": "1", "digest": "sha256:0"})
    metrics.models["a"].seconds("json").observe(0.001)
    return metrics


def served() -> set[str]:
    """The names of every sample that the server's /metrics has."""
    metrics = counting(200)
    text = metrics.render(in_flight=0, connections=0, ready=True).decode()
    names_here = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    return names_here | OPTIONAL


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def board() -> dict[str, Any]:
    return json.loads(dashboard("dev", "us-east-1", "trainserve-dev", ["flights"]))


def queries() -> list[str]:
    alerts = [rule["expr"] for rule in rules(Observability(), "serving")]
    panels = [
        target["expr"] for panel in board()["panels"] for target in panel["targets"] if "expr" in target
    ]
    return [*alerts, *panels]


def test_every_series_of_rules_and_panels_is_published() -> None:
    used = {name for query in queries() for name in NAME.findall(query)}
    assert used <= served() | KUBERNETES
    assert len(used & served()) > 10


def test_labels_that_are_asked_for_are_there() -> None:
    metrics = counting(500)
    text = metrics.render(in_flight=0, connections=0, ready=True).decode()
    assert 'trainserve_requests_total{route="invocations",status="500"} 1' in text
    assert re.search(r'trainserve_model_info\{.*version="1",digest="sha256:0"', text)


def test_the_dashboard_shows_what_was_asked_for() -> None:
    titles = {panel["title"] for panel in board()["panels"]}
    assert {"Latency", "Success rate", "Predictions a second", "Drift (PSI)", "GPU use"} <= titles
    assert any("version" in title for title in titles)
    assert len({panel["id"] for panel in board()["panels"]}) == len(board()["panels"])
    for metric in (t for p in board()["panels"] for t in p["targets"] if "metricName" in t):
        assert metric["metricName"] in PUBLISHED[metric["namespace"]]


@pytest.mark.parametrize("balancer", [None, "app/k8s-serving/50dc6c495c0c9188"])
def test_alarms_and_the_cloudwatch_dashboard_use_metrics_that_exist(balancer: str | None) -> None:
    program = run("dev", like="dev", changes={"trainserve:observability": {"loadBalancer": balancer}})
    alarms = program.of("aws:cloudwatch/metricAlarm:MetricAlarm")
    for alarm in alarms:
        assert alarm.inputs["alarmActions"], alarm.name
        for part in walk(alarm.inputs):
            if "metricName" in part:
                assert part["metricName"] in PUBLISHED[part["namespace"]], alarm.name
            for metric in re.findall(r"SELECT SUM\((\w+)\)", str(part.get("expression", ""))):
                assert metric in PUBLISHED["AWS/ApplicationELB"]
        # CloudWatch evaluates one query of all metrics for an alarm, and no more.
        assert json.dumps(alarm.inputs, default=str).count("SELECT ") <= 1, alarm.name
    names_of = {alarm.name.removeprefix("trainserve-observability-") for alarm in alarms}
    expected = {"builds", "errors", "failed-jobs", "spot-warnings", "drift-flights", "pending", "releases"}
    assert {*expected, "undone"} <= names_of
    assert ("latency" in names_of) == (balancer is not None)
    assert ("refusals" in names_of) == (balancer is None)
    (shown,) = program.of("aws:cloudwatch/dashboard:Dashboard")
    for widget in json.loads(shown.inputs["dashboardBody"])["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], str):
                assert metric[1] in PUBLISHED[metric[0]]


@pytest.mark.parametrize("stack", STACKS)
def test_a_build_or_a_release_that_does_not_succeed_is_told(up: Run, stack: str) -> None:
    program = up(stack)
    build = program.one("aws:cloudwatch/metricAlarm:MetricAlarm", "trainserve-observability-builds").inputs
    assert build["dimensions"] == {"ProjectName": "trainserve-registry-build"}
    releases = program.one("aws:cloudwatch/metricAlarm:MetricAlarm", "trainserve-observability-releases")
    (machine,) = program.of("aws:sfn/stateMachine:StateMachine")
    counted = {
        query["metric"]["metricName"]: query["metric"]["dimensions"]["StateMachineArn"]
        for query in releases.inputs["metricQueries"]
        if "metric" in query
    }
    assert counted.keys() == {"ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"}
    assert {arn.rpartition(":")[2] for arn in counted.values()} == {machine.name}
    topics = {arn for alarm in (build, releases.inputs) for arn in alarm["alarmActions"]}
    assert [topic.rpartition(":")[2] for topic in topics] == ["trainserve-alerts-topic"]
    assert all(alarm["threshold"] == 0 for alarm in (build, releases.inputs))


@pytest.mark.parametrize("stack", STACKS)
def test_one_pod_without_a_node_is_seen_among_many_that_run(up: Run, stack: str) -> None:
    program = up(stack)
    alarm = program.one("aws:cloudwatch/metricAlarm:MetricAlarm", "trainserve-observability-pending").inputs
    # Container Insights publishes a 0 or a 1 of every pod under the cluster's name, once a minute.
    samples = {"Maximum": max, "Minimum": min}[alarm["statistic"]]
    assert samples([0, 0, 1, 0]) > alarm["threshold"]
    assert not samples([0, 0, 0, 0]) > alarm["threshold"]
    assert alarm["period"] == 60
    (shown,) = program.of("aws:cloudwatch/dashboard:Dashboard")
    (pods,) = [
        widget["properties"]["metrics"]
        for widget in json.loads(shown.inputs["dashboardBody"])["widgets"]
        if widget["properties"]["title"] == "Pods"
    ]
    assert {metric[-1]["stat"] for metric in pods} == {"Sum"}


def test_a_release_that_puts_nothing_in_service_is_told(up: Run) -> None:
    program = up("dev")
    (counting_filter,) = program.of("aws:cloudwatch/logMetricFilter:LogMetricFilter")
    inputs = counting_filter.inputs
    function = program.one(
        "aws:lambda/function:Function", "trainserve-releases-release-model-function"
    ).inputs
    assert inputs["logGroupName"] == function["loggingConfig"]["logGroup"]
    made = inputs["metricTransformation"]
    alarm = program.one("aws:cloudwatch/metricAlarm:MetricAlarm", "trainserve-observability-undone").inputs
    assert (alarm["namespace"], alarm["metricName"]) == (made["namespace"], made["name"])
    # The function's own words: the fields that it logs, and the outcomes that it knows.
    handler = (ROOT / "functions/release_model/handler.py").read_text(encoding="utf-8")
    assert "append_keys(step=step)" in handler
    assert 'extra={"result": result}' in handler
    settle = (ROOT / "functions/release_model/settle.py").read_text(encoding="utf-8")
    outcomes = set(re.findall(r'return "(\w+)", ', settle))
    undone = set(re.findall(r'outcome = "(\w+)"', inputs["pattern"]))
    assert outcomes == {"released", "rejected"} | undone


@pytest.mark.parametrize(("stack", "share"), [("dev", 0.05), ("prod", 0.01)])
def test_traces_find_their_way(up: Run, stack: str, share: float) -> None:
    program = up(stack)
    (deployment,) = program.of("kubernetes:apps/v1:Deployment")
    (container,) = deployment.inputs["spec"]["template"]["spec"]["containers"]
    variables = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    # As the server itself reads them.
    assert tracing.from_environment(variables) == tracing.Sampling(share=share, parent_based=True)
    url = urlsplit(variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
    service, namespace = str(url.hostname).split(".")
    assert (service, url.path) == ("cloudwatch-agent", "/v1/traces")
    ways = [
        (rule, port["port"])
        for policy in program.of("kubernetes:networking.k8s.io/v1:NetworkPolicy")
        for rule in policy.inputs["spec"].get("egress", [])
        for port in rule.get("ports", [])
    ]
    (rule,) = [rule for rule, port in ways if port == url.port]
    selected = rule["to"][0]["namespaceSelector"]["matchLabels"]
    assert selected == {"kubernetes.io/metadata.name": namespace}


@pytest.mark.parametrize("stack", STACKS)
def test_the_monitor_finds_the_models_services(up: Run, stack: str) -> None:
    program = up(stack)
    monitor = program.one(
        "kubernetes:monitoring.coreos.com/v1:ServiceMonitor", "trainserve-prometheus-models"
    )
    wanted = monitor.inputs["spec"]["selector"]["matchLabels"]
    (service,) = [
        s for s in program.of("kubernetes:core/v1:Service") if s.name == "trainserve-workload-flights"
    ]
    assert wanted.items() <= service.inputs["metadata"]["labels"].items()
    assert service.inputs["metadata"]["labels"][monitor.inputs["spec"]["jobLabel"]] == "flights"
    (endpoint,) = monitor.inputs["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service.inputs["spec"]["ports"]}


def test_sagemakers_extras_are_declared_where_they_are_asked_for(up: Run) -> None:
    from tests.contract.recorder import stack_config  # noqa: PLC0415  # the file's own values

    kinds = {
        "tuning": "aws:sagemaker/hyperParameterTuningJob:HyperParameterTuningJob",
        "pipeline": "aws:sagemaker/pipeline:Pipeline",
        "modelMonitor": "aws:sagemaker/monitoringSchedule:MonitoringSchedule",
    }
    training = {
        **stack_config("dev")["trainserve:training"],
        "tuning": {},
        "pipeline": True,
        "modelMonitor": {},
    }
    program = run("dev", like="dev", changes={"trainserve:training": training})
    for kind in kinds.values():
        assert len(program.of(kind)) == 1, kind
        assert up("dev").of(kind) == []
    (job,) = program.of(kinds["tuning"])
    assert re.fullmatch(r"[a-zA-Z0-9-]{1,32}", job.inputs["name"])
    assert "--" not in job.inputs["name"]
    objective = job.inputs["config"]["objective"]
    assert objective == {"type": "Maximize", "metricName": "validation:auc"}
    # It starts at once: its role has its rights by then, and its data is there.
    needed = {urn.rpartition("::")[2] for urn in job.dependencies}
    assert {"trainserve-training-policy", "trainserve-training-source"} <= needed
    assert [name for name in needed if name.startswith("trainserve-bootstrap-flights")]
    assert "metricDefinitions" not in job.inputs["trainingJobDefinition"]["algorithmSpecification"]
    policy = program.one("aws:iam/rolePolicy:RolePolicy", "trainserve-training-policy").inputs["policy"]
    # The monitor is a processing job, whose volume is encrypted with our key.
    assert "log-group:/aws/sagemaker/ProcessingJobs*" in policy
    assert "kms:CreateGrant" in policy
    # A pipeline starts its jobs with the role that it runs with itself.
    (passing,) = [s for s in json.loads(policy)["Statement"] if s["Action"] == ["iam:PassRole"]]
    assert [arn.rpartition(":")[2] for arn in passing["Resource"]] == ["trainserve-training-role"]
    (pipe,) = program.of(kinds["pipeline"])
    definition = json.loads(pipe.inputs["pipelineDefinition"])
    assert definition["Version"] == "2020-12-01"
    (step,) = definition["Steps"]
    assert step["Type"] == "Training"
    assert "TrainingJobName" not in step["Arguments"]
    (channel,) = step["Arguments"]["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == {"Get": "Parameters.Manifest"}


def test_an_own_server_is_named_by_digest_for_pods_and_for_releases() -> None:
    digest = "sha256:" + "b" * 64
    program = run("dev", like="dev", changes={"trainserve:workload": {"imageDigest": digest}})
    (deployment,) = program.of("kubernetes:apps/v1:Deployment")
    (container,) = deployment.inputs["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f"@{digest}")
    config = program.one("aws:s3/bucketObjectv2:BucketObjectv2", "trainserve-config-flights")
    assert json.loads(config.inputs["content"])["server_tag"] == digest
