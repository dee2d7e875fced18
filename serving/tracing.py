"""Which requests are traced: decided when they have been answered, so the others cost next to nothing.

Set up by OpenTelemetry's own variables; what becomes of the requests that are taken is in
`trace_export.py` and `spans.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import getrandbits, random, randrange
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from serving.context import Context
from serving.routes import PREDICTIONS, PROBES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving.context import Parent
    from serving.models import Entry
    from serving.observe import Answers, Observed, ObservedHead, Observer
    from serving.trace_export import TraceExport

DEFAULT_SHARE: Final = 0.001
"""Of the requests that belong to no trace, where the environment names no sampler."""

_OK: Final = 200
_LIMIT: Final = 1 << 64
_DEFAULT_SAMPLER: Final = "parentbased_traceidratio"
_SHARES: Final = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """OpenTelemetry's samplers: the share of traces, and whether a caller's own decision comes before it."""

    share: float = DEFAULT_SHARE
    parent_based: bool = True

    def wants(self, parent: Parent | None) -> bool:
        """Whether a request is traced, which belongs to this trace or to none yet."""
        if parent is None:
            return random() < self.share  # noqa: S311  a sample, not a secret
        if self.parent_based:
            return parent.sampled
        return int(parent.trace_id[16:], 16) < round(self.share * _LIMIT)

    def gap(self) -> float:
        """Return how many requests that belong to no trace come before the next that is traced, at random."""
        if self.share >= 1:
            return 0
        # As many as in a row of independent draws; 1 - random() is never 0.
        return math.log(1 - random()) // math.log1p(-self.share) if self.share else math.inf  # noqa: S311

    def new_trace_id(self) -> str:
        """Return the id of a trace that is sampled: so that whoever samples by the id decides the same."""
        low = randrange(1, max(2, round(self.share * _LIMIT)))  # noqa: S311
        return f"{getrandbits(64):016x}{low:016x}"


class SettingError(Exception):
    """A variable of OpenTelemetry's that cannot be used here."""


def from_environment(environment: Mapping[str, str]) -> Sampling | None:
    """Return what is traced; None where no endpoint is set or tracing is switched off.

    Raises `SettingError` naming the variable that cannot be used. An empty variable is one that is not set.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    endpoint = _first(environment, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if endpoint is None or exporter == "none":
        return None
    if exporter not in {"", "otlp"}:
        raise SettingError(f"OTEL_TRACES_EXPORTER: want otlp or none, got {exporter!r}")
    protocol = _first(environment, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol is not None and protocol[1] != "http/protobuf":
        raise SettingError(f"{protocol[0]}: want http/protobuf, got {protocol[1]!r}")
    try:
        url = urlsplit(endpoint[1])
        usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        # Not the value: it may have credentials in it.
        raise SettingError(f"{endpoint[0]}: want an http:// or https:// URL")
    return _sampling(environment)


def _sampling(environment: Mapping[str, str]) -> Sampling:
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip() or _DEFAULT_SAMPLER
    kind = name.removeprefix("parentbased_")
    if kind not in _SHARES:
        raise SettingError(
            f"OTEL_TRACES_SAMPLER: want {', '.join(_SHARES)} or parentbased_ and one of them, got {name!r}"
        )
    share = _SHARES[kind]
    if share is None:
        share = _share(environment)
    return Sampling(share=share, parent_based=kind != name)


def _share(environment: Mapping[str, str]) -> float:
    text = environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if not text:
        return DEFAULT_SHARE
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0.0 <= share <= 1.0:
        raise SettingError(f"OTEL_TRACES_SAMPLER_ARG: want a share from 0 to 1, got {text!r}")
    return share


def _first(environment: Mapping[str, str], *names: str) -> tuple[str, str] | None:
    found = ((name, environment.get(name, "").strip()) for name in names)
    return next(((name, value) for name, value in found if value), None)


class Taken(NamedTuple):
    """A request that is traced: what is kept of it until its spans are made.

    Times are `time.perf_counter()`; `begun` is when its prediction began, None if it came from no batch.
    """

    context: Context
    head: ObservedHead
    status: int
    started: float
    done: float
    request_bytes: int
    answer_bytes: int
    begun: float | None = None
    model: Mapping[str, str] = MappingProxyType({})
    rows: int = 0
    batch_rows: int = 0

    @property
    def spans(self) -> int:
        """How many spans there will be: of the request, and of its prediction."""
        return 1 if self.begun is None else 2


class Traces:
    """Takes the requests that are traced."""

    def __init__(self, sampling: Sampling, export: TraceExport) -> None:
        self.sampling = sampling
        self.export = export

    def watch(self, entry: Entry) -> Observer:
        """Return what traces a model's predictions."""
        return _ModelTraces(entry, self)

    def answered(self, exchange: Observed, status: int) -> None:
        """Take an answer that came from no batch, perhaps; probes and scrapes never."""
        route = exchange.head.route
        if route in PROBES or (status == _OK and route in PREDICTIONS):
            return
        parent = None if exchange.context is None else exchange.context.parent
        if not self.sampling.wants(parent):
            return
        exchange.context = self.traced(exchange.context)
        taken = Taken(
            context=exchange.context,
            head=exchange.head,
            status=status,
            started=exchange.started,
            done=perf_counter(),
            request_bytes=len(exchange.body),
            answer_bytes=len(exchange.answer or b""),
        )
        self.export.put(taken)

    def traced(self, own: Context | None) -> Context:
        """Return a request's context, or one for a request that has none, with the id of a trace."""
        own = Context({}) if own is None else own
        own.trace_id = own.trace_id or self.sampling.new_trace_id()
        return own


class _ModelTraces:
    """Takes requests that one model has answered."""

    def __init__(self, entry: Entry, traces: Traces) -> None:
        loaded = entry.model
        self._model = {"name": entry.name, "version": loaded.version, "digest": loaded.digest}
        self._traces = traces
        self._gap = traces.sampling.gap()

    def observe(self, answers: Answers) -> None:
        """Take those that are traced: of most batches, none."""
        if answers.shadow:
            return
        for number in self._chosen(answers):
            turn = answers.turn(number)
            context = answers.contexts[number] = self._traces.traced(answers.contexts.get(number))
            if answers.requests:
                # The shadow's record is to name it, too.
                answers.requests[number].context = context
            taken = Taken(
                context=context,
                head=answers.heads[number],
                status=_OK,
                started=turn.started,
                begun=turn.begun,
                done=turn.done,
                request_bytes=len(answers.asked[number]),
                answer_bytes=answers.sent[number],
                model=self._model,
                rows=answers.sizes[number],
                batch_rows=turn.rows,
            )
            self._traces.export.put(taken)

    def _chosen(self, answers: Answers) -> list[int]:
        sampling, count = self._traces.sampling, len(answers)
        contexts = answers.contexts
        if contexts:
            parents = [contexts[number].parent if number in contexts else None for number in range(count)]
            return [number for number, parent in enumerate(parents) if sampling.wants(parent)]
        chosen: list[int] = []
        while self._gap < count:
            chosen.append(int(self._gap))
            self._gap += 1 + sampling.gap()
        self._gap -= count
        return chosen
