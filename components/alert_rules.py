"""What Prometheus alerts on: the server's own metrics, and what Kubernetes says of its pods."""

from typing import Any, Final

from components.operations_settings import Observability

PREDICTIONS: Final = 'route=~"invocations|invoke|v2_infer|grpc_infer"'
"""The server's routes that answer with predictions."""


def percentile(share: float, window: str = "5m") -> str:
    """A percentile of the time from request read to answer written, in seconds, by model."""
    rate = f"sum by (job, le) (rate(trainserve_request_seconds_bucket[{window}]))"
    return f"histogram_quantile({share:g}, {rate})"


def failed_share(window: str = "5m") -> str:
    """The share of predictions that ended in a 5xx, by model."""
    failed = f'sum by (job) (rate(trainserve_requests_total{{{PREDICTIONS},status=~"5.."}}[{window}]))'
    total = f"sum by (job) (rate(trainserve_requests_total{{{PREDICTIONS}}}[{window}]))"
    return f"({failed} or 0 * {total}) / ({total} > 0)"


def rules(settings: Observability, namespace: str) -> list[dict[str, Any]]:
    """The alerts, each with what it means and what to look at first."""
    return [*_of_models(settings), *_of_pods(settings, f'namespace="{namespace}"')]


def _of_models(settings: Observability) -> list[dict[str, Any]]:
    """From the server's own metrics: whether its answers are right, fast, and of one model."""
    errors, slow = settings.error_rate_percent / 100, settings.latency_p95_ms / 1000
    return [
        _alert(
            "TrainserveErrors",
            f"{failed_share()} > {errors:g}",
            "5m",
            "critical",
            f"More than {settings.error_rate_percent:g} % of {{{{ $labels.job }}}}'s predictions fail",
        ),
        _alert(
            "TrainserveSlow",
            f"{percentile(0.95)} > {slow:g}",
            "10m",
            "warning",
            f"{{{{ $labels.job }}}}'s 95th percentile is above {settings.latency_p95_ms:g} ms",
        ),
        _alert(
            "TrainserveNotReady",
            "max by (job) (trainserve_ready) == 0",
            "30m",
            "critical",
            "No pod of {{ $labels.job }} has a model that reproduces its golden predictions",
        ),
        _alert(
            "TrainserveTwoModels",
            "count by (job, model) (count by (job, model, digest) (trainserve_model_info)) > 1",
            "30m",
            "warning",
            "{{ $labels.job }} serves two versions of {{ $labels.model }} for half an hour: a release hangs",
        ),
    ]


def _of_pods(settings: Observability, pods: str) -> list[dict[str, Any]]:
    """From what Kubernetes says of the pods that a selector chooses."""
    return [
        _alert(
            "TrainserveRestarts",
            f"increase(kube_pod_container_status_restarts_total{{{pods}}}[30m]) > 3",
            "0m",
            "warning",
            "{{ $labels.pod }} restarts over and over: see its last log lines",
        ),
        _alert(
            "TrainservePending",
            f'min_over_time(kube_pod_status_phase{{{pods},phase="Pending"}}'
            f"[{settings.pending_minutes}m]) == 1",
            "0m",
            "warning",
            "{{ $labels.pod }} finds no node, or its image does not come",
        ),
        _alert(
            "TrainserveAtItsMost",
            f"kube_horizontalpodautoscaler_status_current_replicas{{{pods}}} "
            f">= kube_horizontalpodautoscaler_spec_max_replicas{{{pods}}}",
            "15m",
            "warning",
            "{{ $labels.horizontalpodautoscaler }} cannot grow further: raise workload.maxReplicas",
        ),
    ]


def _alert(name: str, expression: str, lasting: str, severity: str, summary: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }
