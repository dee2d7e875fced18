"""The Grafana dashboard as code: what the models answer, how fast, which version, and on what."""

import json
from collections.abc import Mapping
from typing import Any, Final

from components import names
from components.alert_rules import PREDICTIONS, failed_share, percentile

PROMETHEUS: Final = {"type": "prometheus", "uid": "prometheus"}
CLOUDWATCH: Final = {"type": "cloudwatch", "uid": "cloudwatch"}
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2


def dashboard(stack: str, region: str, cluster_name: str, models: list[str]) -> str:
    """The dashboard's JSON, the same for the same settings."""
    panels = [*_answers(), *_pods(), *_from_cloudwatch(stack, region, cluster_name, models)]
    for index, panel in enumerate(panels):
        panel["id"] = index + 1
        panel["gridPos"] = {
            "x": _WIDTH * (index % _COLUMNS),
            "y": _HEIGHT * (index // _COLUMNS),
            "w": _WIDTH,
            "h": _HEIGHT,
        }
    body = {
        "uid": "trainserve",
        "title": f"trainserve {stack}",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": panels,
    }
    return json.dumps(body, sort_keys=True)


def _answers() -> list[dict[str, Any]]:
    return [
        _graph(
            "Latency",
            "s",
            {f"p{share * 100:g} {{{{job}}}}": percentile(share) for share in (0.5, 0.95, 0.99)},
        ),
        _graph("Success rate", "percentunit", {"{{job}}": f"1 - {failed_share()}"}),
        _graph(
            "Predictions a second",
            "reqps",
            {
                "{{job}} requests": f"sum by (job) (rate(trainserve_requests_total{{{PREDICTIONS}}}[5m]))",
                "{{job}} rows": "sum by (job) (rate(trainserve_rows_total[5m]))",
            },
        ),
        _graph(
            "Model version, by pods",
            "short",
            {"{{job}} {{version}}": "count by (job, version) (trainserve_model_info)"},
        ),
    ]


def _pods() -> list[dict[str, Any]]:
    return [
        _graph(
            "Wait for a batch, and its rows",
            "short",
            {
                "{{job}} p95 wait (s)": "histogram_quantile(0.95, sum by (job, le) "
                "(rate(trainserve_queue_seconds_bucket[5m])))",
                "{{job}} rows a call": "sum by (job) (rate(trainserve_batch_rows_sum[5m])) "
                "/ sum by (job) (rate(trainserve_batch_rows_count[5m]))",
            },
        ),
        _graph(
            "Pods",
            "short",
            {
                "{{job}} ready": "sum by (job) (trainserve_ready)",
                "{{job}} in flight": "sum by (job) (trainserve_requests_in_flight)",
                "{{job}} connections": "sum by (job) (trainserve_connections)",
            },
        ),
        _graph(
            "Processor and memory",
            "short",
            {
                "{{job}} cores": "sum by (job) (rate(process_cpu_seconds_total[5m]) "
                "* on (pod, job) group_left () trainserve_ready)",
                "{{job}} largest pod (GB)": "max by (job) (process_resident_memory_bytes "
                "and on (pod, job) trainserve_ready) / 1e9",
            },
        ),
        _graph(
            "Turned away, and lost, a second",
            "short",
            {
                "{{job}} turned away: {{cause}}": "sum by (job, cause) "
                "(rate(trainserve_turned_away_total[5m]))",
                "{{job}} captures": "sum by (job) (rate(trainserve_captures_dropped_total[5m]))",
                "{{job}} spans": "sum by (job) (rate(trainserve_spans_dropped_total[5m]))",
                "{{job}} lines of the log": "sum by (job) (rate(trainserve_log_lines_dropped_total[5m]))",
            },
        ),
    ]


def _from_cloudwatch(stack: str, region: str, cluster_name: str, models: list[str]) -> list[dict[str, Any]]:
    """Drift and GPUs are measured by other parts, which publish to CloudWatch."""
    drift = [("DriftPsi", names.METRICS, {"Stack": stack, "Model": model}, model) for model in models]
    cluster = {"ClusterName": cluster_name}
    gpu = [
        ("node_gpu_utilization", "ContainerInsights", cluster, "GPU, percent"),
        ("node_gpu_memory_utilization", "ContainerInsights", cluster, "GPU memory, percent"),
    ]
    return [_cloudwatch("Drift (PSI)", region, drift), _cloudwatch("GPU use", region, gpu)]


def _graph(title: str, unit: str, queries: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "datasource": PROMETHEUS,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": PROMETHEUS, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(queries.items())
        ],
    }


def _cloudwatch(
    title: str, region: str, metrics: list[tuple[str, str, dict[str, str], str]]
) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "datasource": CLOUDWATCH,
        "fieldConfig": {"defaults": {"min": 0}, "overrides": []},
        "targets": [
            {
                "refId": f"M{index}",
                "datasource": CLOUDWATCH,
                "queryMode": "Metrics",
                "metricQueryType": 0,
                "metricEditorMode": 0,
                "region": region,
                "namespace": namespace,
                "metricName": metric,
                "dimensions": dimensions,
                "matchExact": True,
                "statistic": "Maximum",
                "period": "60",
                "label": label,
            }
            for index, (metric, namespace, dimensions, label) in enumerate(metrics)
        ],
    }
