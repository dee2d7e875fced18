"""The text that Prometheus reads, as its own parser does; and what the dashboard and the alerts ask for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components import alert_rules, grafana
from components.operations_settings import Observability
from serving import routes
from serving.metrics import Metrics, ModelMetrics
from tests.serving.otlp_sink import Sink
from tests.serving.serving_support import Client, Served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from tests.serving.serving_support import Made

ROW = b"1.5,200,7"


def read(text: str) -> dict[str, Metric]:
    """Return the families by name, as far as they follow the conventions."""
    families = list(text_string_to_metric_families(text))
    # The parser takes a family apart that is not in one place.
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert re.fullmatch(r"(trainserve|process)_[a-z_]+", family.name)
        assert family.documentation
        # Base units, and nothing of the metrics' kinds in their names.
        assert not re.search(r"_(ms|milliseconds|us|kib|mib|kb|mb|counter|gauge|histogram)(_|$)", family.name)
        names = [sample.name for sample in family.samples]
        if family.type == "counter":
            assert set(names) <= {f"{family.name}_total"}
        elif family.type == "histogram":
            assert {name.removeprefix(family.name) for name in names} <= {"_bucket", "_sum", "_count"}
            check_histogram(family)
        else:
            assert family.type == "gauge"
            assert set(names) == {family.name}
            assert not family.name.endswith("_total")
        keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(set(keys)) == len(keys)
    return {family.name: family for family in families}


def check_histogram(family: Metric) -> None:
    """Buckets are cumulative and in order, and the last has everything."""
    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    counts: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "le"))
        if sample.name.endswith("_bucket"):
            series.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[labels] = sample.value
    assert series.keys() == counts.keys()
    for labels, buckets in series.items():
        assert buckets == sorted(buckets)
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1] == (float("inf"), counts[labels])


@pytest.fixture(scope="module")
def families(plain: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Metric]]:
    """What a server tells with everything switched on, after requests of every kind."""
    with Sink() as sink:
        served = Served(
            plain.directory,
            tmp_path_factory.mktemp("metrics") / "log",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url},
            log_requests="on",
            capture_to=tmp_path_factory.mktemp("captures"),
        )
        served.wait_for("ready")
        with Client(served.port) as client:
            for _ in range(3):
                client.ask("POST", "/invocations", ROW + b"\n" + ROW, "text/csv")
            client.ask("POST", "/models/flights/invoke", b"[[1,2,3]]", "application/json")
            client.ask("POST", "/v2/models/flights/infer", json.dumps(
                {"inputs": [{"name": "i", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
            ).encode())  # fmt: skip
            client.ask("POST", "/invocations", b"x", "text/csv")
            client.ask("GET", "/nowhere")
            answer = client.ask("GET", "/metrics")
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        yield read(answer.body.decode())
        served.kill()


def values(family: Metric, suffix: str = "") -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for sample in family.samples
        if sample.name == family.name + suffix
    }


def test_what_was_done_is_told(families: dict[str, Metric]) -> None:
    assert values(families["trainserve_requests"], "_total") == {
        ("invocations", "200"): 3, ("invocations", "400"): 1, ("invoke", "200"): 1,
        ("none", "404"): 1, ("v2_infer", "200"): 1,
    }  # fmt: skip
    assert values(families["trainserve_request_seconds"], "_count") == {
        ("flights", "sagemaker"): 4, ("flights", "v2"): 1,
    }  # fmt: skip
    assert values(families["trainserve_queue_seconds"], "_count") == {("flights",): 5}
    assert values(families["trainserve_batch_rows"], "_sum") == {("flights",): 8}
    assert values(families["trainserve_rows"], "_total") == {("flights",): 8}
    assert values(families["trainserve_requests_in_flight"]) == {(): 0}
    (info,) = families["trainserve_model_info"].samples
    assert info.labels.keys() == {"name", "version", "digest", "model"}
    assert info.value == 1
    for name in ("log_lines_dropped", "log_lines_suppressed", "spans_exported", "spans_dropped"):
        assert values(families[f"trainserve_{name}"], "_total") == {(): 0}


def test_labels_are_escaped() -> None:
    metrics = Metrics()
    name = 'a"b\\c\nd{e="f"} 1'
    metrics.models[name] = ModelMetrics({"name": name, "version": "\\n"})
    metrics.models[name].seconds("v2").observe(0.1)
    found = read(metrics.render(in_flight=0, connections=0, ready=True).decode())
    (info,) = found["trainserve_model_info"].samples
    assert info.labels == {"name": name, "version": "\\n", "model": name}
    assert values(found["trainserve_request_seconds"], "_count") == {(name, "v2"): 1}


def queries() -> list[str]:
    """All that the dashboard and the alerts ask Prometheus for."""
    board = json.loads(grafana.dashboard("dev", "eu-west-1", "c", ["flights"]))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"] if "expr" in target]
    return asked + [rule["expr"] for rule in alert_rules.rules(Observability(), "models")]


def test_what_is_asked_for_is_there(families: dict[str, Metric]) -> None:
    known: dict[str, set[str]] = {}
    for family in families.values():
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    asked = queries()
    assert len(asked) > 10
    for query in asked:
        # What Kubernetes tells comes from elsewhere.
        for name, selector in re.findall(r"\b((?:trainserve|process)_\w+)(\{[^}]*\})?", query):
            assert name in known, query
            assert set(re.findall(r"(\w+)=?[=~!]", selector)) <= known[name], query
        if "trainserve_" in query:
            grouped = {label for part in re.findall(r"by \(([^)]*)\)", query) for label in part.split(", ")}
            labels = {label for name in re.findall(r"trainserve_\w+", query) for label in known[name]}
            # `job` and `pod` are given by the scrape.
            assert grouped - {"job", "pod"} <= labels, query


def test_the_routes_of_predictions_are_the_servers() -> None:
    pattern = alert_rules.PREDICTIONS.removeprefix('route=~"').removesuffix('"')
    assert set(pattern.split("|")) == routes.PREDICTIONS
