"""Spans, made after the fact by OpenTelemetry's SDK. Imported only where traces are exported."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from serving.context import TRACESTATE

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from serving.tracing import Taken

SERVICE: Final = "trainserve"
"""The service's name, where the environment gives none."""

_SERVER_ERROR: Final = 500
_LONGEST_PATH: Final = 1024
_QUIET_SECONDS: Final = 60.0
_ROUTES: Final = {
    "invocations": "/invocations",
    "invoke": "/models/{model}/invoke",
    "models": "/models",
    "v2": "/v2",
    "v2_index": "/v2/repository/index",
    "v2_infer": "/v2/models/{model}/infer",
    "v2_model": "/v2/models/{model}",
}
_METHODS: Final = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))


class Exporter:
    """Makes spans of traced requests and sends them to the endpoint that the environment names."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        # Its complaints come with every attempt; one a minute says as much.
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(_Seldom())
        # Of a `tracestate` that is none it would write what the client sent, as often as that is sent.
        logging.getLogger(TraceState.__module__).setLevel(logging.ERROR)
        self._exporter = OTLPSpanExporter()
        self._made = _Made()
        self._ids = _Ids()
        # What is not sampled does not come here.
        provider = TracerProvider(
            sampler=ALWAYS_ON, resource=_resource(), shutdown_on_exit=False, id_generator=self._ids
        )
        provider.add_span_processor(self._made)
        self._tracer = provider.get_tracer("trainserve.serving")
        self._offset = 0.0

    def add(self, taken: Taken) -> None:
        """Make the span of a request, and that of its prediction within it."""
        # The two clocks drift apart: not once for all.
        self._offset = time.time() - time.perf_counter()
        self._ids.trace_id = int(taken.context.trace_id, 16)
        attributes = attributes_of(taken, self._scheme)
        method = str(attributes["http.request.method"]).replace("_OTHER", "HTTP")
        route = attributes.get("http.route")
        span = self._tracer.start_span(
            f"{method} {route}" if route else method,
            _caller(taken),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=self._nanoseconds(taken.started),
        )
        if taken.begun is not None:
            predict = self._tracer.start_span(
                "predict",
                set_span_in_context(span, Context()),
                attributes={"trainserve.batch.rows": taken.batch_rows},
                start_time=self._nanoseconds(taken.begun),
            )
            predict.end(self._nanoseconds(taken.done))
        if taken.status >= _SERVER_ERROR:
            span.set_status(StatusCode.ERROR)
        span.end(self._nanoseconds(taken.done))

    def send(self) -> tuple[int, bool]:
        """Export what was added; return how many spans that was, and whether they arrived."""
        spans, self._made.spans = self._made.spans, []
        return len(spans), self._exporter.export(spans) is SpanExportResult.SUCCESS

    def _nanoseconds(self, seconds: float) -> int:
        return int((seconds + self._offset) * 1e9)


def attributes_of(taken: Taken, scheme: str) -> dict[str, str | int | float]:
    """Return what a request's span says, in the words of the semantic conventions for HTTP."""
    method = taken.head.method.decode("latin-1")
    attributes: dict[str, str | int | float] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "http.response.status_code": taken.status,
        "http.request.body.size": taken.request_bytes,
        "http.response.size": taken.answer_bytes,
        "url.path": taken.head.target.partition(b"?")[0][:_LONGEST_PATH].decode("latin-1"),
        "url.scheme": scheme,
    }
    if taken.head.route in _ROUTES:
        attributes["http.route"] = _ROUTES[taken.head.route]
    if taken.status >= _SERVER_ERROR:
        attributes["error.type"] = str(taken.status)
    if taken.context.request_id:
        attributes["trainserve.request.id"] = taken.context.request_id.decode()
    if taken.begun is not None:
        attributes |= {f"trainserve.model.{key}": value for key, value in taken.model.items()}
        attributes["trainserve.rows"] = taken.rows
        attributes["trainserve.queue.seconds"] = round(taken.begun - taken.started, 6)
    return attributes


def _caller(taken: Taken) -> Context:
    """Return the context of the caller's span, or an empty one."""
    parent = taken.context.parent
    if parent is None:
        return Context()
    state = taken.context.headers.get(TRACESTATE, b"").decode("latin-1")
    caller = SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT),
        trace_state=TraceState.from_header([state]) if state else None,
    )
    return set_span_in_context(NonRecordingSpan(caller), Context())


def _resource() -> Resource:
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return Resource.create({} if named else {"service.name": SERVICE})


class _Made(SpanProcessor):
    """Keeps spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class _Ids(RandomIdGenerator):
    """Gives a new trace the id that it was given when it was taken."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id


class _Seldom(logging.Filter):
    """Lets a record pass when none has for a while."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created < self._next:
            return False
        self._next = record.created + _QUIET_SECONDS
        return True
