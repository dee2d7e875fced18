"""Traces: to a collector that takes them, to one that refuses, to one that hangs, and to none."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import sampling as sdk
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from serving import tracing
from serving.context import Parent
from tests.serving.otlp_sink import Hanging, Sink, attributes
from tests.serving.serving_support import ROOT, Client, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.serving.serving_support import Made

ROW = b"1.5,200,7"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


def started(serve: Any, plain: Made, url: str, **environment: str) -> Served:
    served: Served = serve(plain.directory, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": url, **environment})
    served.wait_for("ready")
    return served


def predict(client: Client, **headers: str) -> Any:
    return client.ask("POST", "/invocations", ROW, "text/csv", **headers)


def metric(client: Client, name: str) -> float:
    lines = client.ask("GET", "/metrics").body.decode().splitlines()
    (value,) = [line.split(" ")[1] for line in lines if line.startswith(f"{name} ")]
    return float(value)


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_request_becomes_spans(serve: Callable[..., Served], plain: Made) -> None:
    with Sink() as sink:
        served = started(
            serve,
            plain,
            sink.url,
            OTEL_TRACES_SAMPLER="parentbased_always_on",
            OTEL_EXPORTER_OTLP_HEADERS="x-key=secret%201",
            OTEL_SERVICE_NAME="flights-dev",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=dev",
        )
        began = time.time_ns()
        with Client(served.port) as client:
            answer = predict(client, traceparent=SAMPLED, tracestate="a=1,b=2")
            assert answer.headers["x-request-id"] == TRACE
            client.ask("GET", "/ping", traceparent=SAMPLED)
            predict(client, traceparent=UNSAMPLED)
            refused = client.ask("POST", "/invocations", b"x", "text/csv", X_Request_Id="mine")
            client.ask("GET", "/nowhere?secret=1")
            predict(client)
            spans = sink.wait_for(6)
            # The collector has them before the server knows.
            until(lambda: metric(client, "trainserve_spans_exported_total") == len(spans))
            assert metric(client, "trainserve_spans_dropped_total") == 0
        assert served.terminate() == 0
    assert len(spans) == 6
    first, inner, failed, lost, root, _ = sorted(spans, key=lambda span: span.start_time_unix_nano)
    assert (first.name, first.kind) == ("POST /invocations", first.SPAN_KIND_SERVER)
    assert (first.trace_id.hex(), first.parent_span_id.hex(), first.trace_state) == (TRACE, SPAN, "a=1,b=2")
    found = attributes(first)
    assert 0 <= found.pop("trainserve.queue.seconds") < 1
    assert found.pop("http.response.size") > len(answer.body) + 100
    assert found == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.request.body.size": len(ROW),
        "http.route": "/invocations",
        "url.path": "/invocations",
        "url.scheme": "http",
        "trainserve.model.name": "flights",
        "trainserve.model.version": "v1",
        "trainserve.model.digest": answer.headers["x-model-digest"],
        "trainserve.request.id": TRACE,
        "trainserve.rows": 1,
    }
    assert (inner.name, inner.parent_span_id, inner.trace_id) == ("predict", first.span_id, first.trace_id)
    assert attributes(inner) == {"trainserve.batch.rows": 1}
    assert began < first.start_time_unix_nano <= inner.start_time_unix_nano
    assert inner.start_time_unix_nano < inner.end_time_unix_nano <= first.end_time_unix_nano < time.time_ns()
    assert attributes(failed)["http.response.status_code"] == refused.status == 400
    assert attributes(failed)["trainserve.request.id"] == "mine"
    assert lost.name == "GET"
    assert attributes(lost)["url.path"] == "/nowhere"
    assert (root.name, root.parent_span_id) == ("POST /invocations", b"")
    (path, headers), *_ = sink.requests
    assert (path, headers["x-key"]) == ("/v1/traces", "secret 1")
    assert sink.resources[0].items() >= {
        "service.name": "flights-dev", "deployment.environment.name": "dev"
    }.items()  # fmt: skip
    assert "secret" not in served.log_path.read_text(encoding="utf-8")


@pytest.mark.parametrize("bad", ["00-" + "0" * 32 + f"-{SPAN}-01", f"{SAMPLED}-x", "x", SAMPLED.upper()])
def test_an_invalid_parent_is_no_parent(serve: Callable[..., Served], plain: Made, bad: str) -> None:
    with Sink() as sink:
        served = started(serve, plain, sink.url, OTEL_TRACES_SAMPLER="always_on")
        with Client(served.port) as client:
            assert "x-request-id" not in predict(client, traceparent=bad, tracestate="a=1").headers
        (_, span) = sink.wait_for(2)
        assert (span.parent_span_id, span.trace_state) == (b"", "")
        assert span.trace_id.hex() not in bad.lower()


def test_a_bad_state_is_not_written_down(serve: Callable[..., Served], plain: Made) -> None:
    """Not even what a client sends again and again."""
    with Sink() as sink:
        served = started(serve, plain, sink.url, OTEL_TRACES_SAMPLER="parentbased_always_on")
        with Client(served.port) as client:
            predict(client, traceparent=SAMPLED, tracestate='=evil "words"')
        (_, span) = sink.wait_for(2)
        assert span.trace_state == ""
        served.terminate()
    assert "evil" not in served.log_path.read_text(encoding="utf-8")


def test_a_service_without_a_name(serve: Callable[..., Served], plain: Made) -> None:
    with Sink() as sink:
        served = started(serve, plain, "", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{sink.url}/here")
        with Client(served.port) as client:
            predict(client, traceparent=SAMPLED)
            sink.wait_for(2)
            # One in a thousand is the default: of twenty more, hardly two.
            for _ in range(20):
                predict(client)
        assert served.terminate() == 0
        assert sink.requests[0][0] == "/here"
        assert sink.resources[0]["service.name"] == "trainserve"
        assert len(sink.spans) < 2 + 2 * 10


@pytest.mark.parametrize("kind", ["hanging", "refusing", "closed"])
def test_an_endpoint_that_fails_disturbs_nobody(serve: Callable[..., Served], plain: Made, kind: str) -> None:
    ways: Mapping[str, Any] = {"hanging": Hanging, "refusing": lambda: Sink(403), "closed": Hanging}
    with ways[kind]() as endpoint:
        if kind == "closed":
            endpoint.__exit__()
        served = started(serve, plain, endpoint.url, OTEL_TRACES_SAMPLER="always_on")
        with Client(served.port) as client:
            count = 0
            # The queue is bounded: the rest is dropped, and counted.
            while kind == "hanging" and count < 2400:
                assert predict(client).status == 200
                count += 1
            assert predict(client).status == 200
            if kind == "refusing":
                endpoint.wait_for(1)
            if kind != "closed":
                until(lambda: metric(client, "trainserve_spans_dropped_total") > 0)
            assert metric(client, "trainserve_spans_exported_total") == 0
        began = time.monotonic()
        assert served.terminate() == 0
        # Settled after 0.1 s; the last spans get a second, whoever does not take them.
        assert time.monotonic() - began < 4
    events = served.events()
    assert [event["event"] for event in events if event["event"] in {"draining", "drained"}]
    complaints = [event for event in events if event["level"] in {"error", "warning"}]
    assert len(complaints) <= 1


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: want http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: want an http"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:pw@"}, "OTEL_EXPORTER_OTLP_ENDPOINT: want an http"),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER: want always_on"),
        ({"OTEL_TRACES_SAMPLER_ARG": "7"}, "OTEL_TRACES_SAMPLER_ARG: want a share"),
        ({"OTEL_TRACES_SAMPLER_ARG": "nan"}, "OTEL_TRACES_SAMPLER_ARG: want a share"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: want otlp"),
    ],
)
def test_variables_that_cannot_be_used_are_named(environment: dict[str, str], reason: str) -> None:
    with pytest.raises(tracing.SettingError, match=f"^{reason}") as raised:
        tracing.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", **environment})
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, tracing.Sampling(share=0.001, parent_based=True)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, tracing.Sampling(share=0.001, parent_based=False)),
        ({"OTEL_TRACES_SAMPLER_ARG": " 0.5 "}, tracing.Sampling(share=0.5, parent_based=True)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, tracing.Sampling(share=0.0, parent_based=True)),
        ({"OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
    ],
)
def test_variables(environment: dict[str, str], expected: tracing.Sampling | None) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", **environment}
    assert tracing.from_environment(variables) == expected


def test_a_bad_variable_does_not_stop_the_server(serve: Callable[..., Served], plain: Made) -> None:
    served = started(serve, plain, "http://localhost:1", OTEL_TRACES_SAMPLER="sometimes")
    with Client(served.port) as client:
        assert predict(client).status == 200
        assert b"trainserve_spans" not in client.ask("GET", "/metrics").body
    assert "OTEL_TRACES_SAMPLER" in served.wait_for("no traces")["reason"]


ids = st.integers(1, (1 << 128) - 1)


@given(ids, st.booleans(), st.sampled_from([0.0, 0.01, 0.5, 1.0]), st.booleans())
def test_decisions_are_those_of_the_sdk(trace: int, sampled: bool, share: float, based: bool) -> None:
    """For a trace that has begun elsewhere."""
    sampler: sdk.Sampler = sdk.TraceIdRatioBased(share)
    if based:
        sampler = sdk.ParentBased(sampler)
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    caller = NonRecordingSpan(SpanContext(trace, 1, is_remote=True, trace_flags=flags))
    expected = sampler.should_sample(set_span_in_context(caller, Context()), trace, "x").decision
    parent = Parent(f"{trace:032x}", f"{1:016x}", sampled)
    wants = tracing.Sampling(share=share, parent_based=based).wants(parent)
    assert wants == (expected is sdk.Decision.RECORD_AND_SAMPLE)


@given(st.floats(0, 1, exclude_min=True).filter(lambda share: share > 1e-15))
def test_new_traces_have_ids_that_the_sdk_would_sample(share: float) -> None:
    trace = int(tracing.Sampling(share=share).new_trace_id(), 16)
    decision = sdk.TraceIdRatioBased(share).should_sample(None, trace, "x").decision
    assert decision is sdk.Decision.RECORD_AND_SAMPLE


def test_a_share_is_a_share() -> None:
    sampling = tracing.Sampling(share=0.25)
    assert 2200 < sum(sampling.wants(None) for _ in range(10_000)) < 2800
    assert not any(tracing.Sampling(share=0.0).wants(None) for _ in range(100))
    assert all(tracing.Sampling(share=1.0).wants(None) for _ in range(100))


def test_the_log_names_the_traces_that_begin_here(serve: Callable[..., Served], plain: Made) -> None:
    with Sink() as sink:
        url = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_TRACES_SAMPLER": "always_on"}
        served: Served = serve(plain.directory, environment=url, log_requests="on")
        served.wait_for("ready")
        with Client(served.port) as client:
            for _ in range(5):
                predict(client)
        traces = {span.trace_id.hex() for span in sink.wait_for(10)}
        assert served.terminate() == 0
    assert len(traces) == 5
    assert {line.get("trace_id") for line in served.events("request")} == traces


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_gaps_between_traces_are_those_of_independent_draws(share: float) -> None:
    sampling = tracing.Sampling(share=share)
    gaps = [sampling.gap() for _ in range(20_000)]
    mean = (1 - share) / share
    assert abs(statistics.fmean(gaps) / mean - 1) < 0.05
    # None at all is as likely as that the next one is traced.
    assert abs(gaps.count(0) / len(gaps) - share) < 0.02
    assert all(gap == int(gap) >= 0 for gap in gaps)


def test_the_gaps_of_all_and_of_none() -> None:
    assert tracing.Sampling(share=1.0).gap() == 0
    assert tracing.Sampling(share=0.0).gap() == math.inf


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    code = (
        "import os, sys; from serving import log, settings, telemetry, __main__; "
        "t = telemetry.Telemetry(settings.Settings(log_requests='off'), {}, log.Writer(2)); "
        "assert not (t.watches or t.listeners); "
        "print([m for m in sys.modules if 'opentelemetry' in m or m == 'serving.trace_export'])"
    )
    path = f"{ROOT}:{ROOT / 'training'}"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"
