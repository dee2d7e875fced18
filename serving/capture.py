"""Capture: a sample of the requests and their predictions, in SageMaker's layout, off the requests' path."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, cast

import orjson

from serving import formats, log, records, subjects
from serving.large import LARGE
from serving.metrics import escape, head
from serving.observe import ShadowRequest
from serving.records import INFERENCE_ID, End, Form
from serving.stores import store
from serving.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from serving.batch import Batch, Reply, Waiting
    from serving.models import Entry
    from serving.observe import Observed, ObservedHead
    from serving.server import Server
    from serving.settings import Settings

    Answered = tuple[Observed, Reply, int, int]

ONLY_VARIANT: Final = "AllTraffic"
"""SageMaker's own name for the variant of a model that is alone."""

# After the drain: what it left to write has this long.
_LAST_SECONDS: Final = 4.0
# What a large record may take, as a multiple of its request and answer: both are in memory for a while.
_LARGE_FACTOR: Final = 3


class Capture:
    """What the recorders of all models share; `key` is the subjects'."""

    def __init__(self, settings: Settings, key: bytes | None, server: Server) -> None:
        self.fraction = settings.capture_percentage / 100
        self.marks = bool(settings.shadow)  # requests get their event's id, for the shadow's record
        self.events = records.event_ids()
        self._header = settings.subject_header.encode()
        self._key = key
        self._said = False
        self._shadow = settings.shadow
        self._second, self._time = 0, b""
        self.writer = Writer(
            store(settings.capture_to),
            flush_seconds=settings.capture_flush_seconds,
            flush_bytes=settings.capture_flush_bytes,
            most_bytes=settings.capture_memory_bytes,
        )
        self.headers = frozenset((INFERENCE_ID, self._header))
        server.own_headers |= self.headers
        server.metrics.others.append(self._lines)
        log.info("capturing", to=settings.capture_to, percentage=settings.capture_percentage)

    def watch(self, entry: Entry) -> Recorder:
        """Return what captures the predictions of a model."""
        recorder = Recorder(self, entry)
        return ShadowRecorder(self, entry, recorder) if entry.name == self._shadow else recorder

    async def close(self) -> None:
        """Write what waits, for a few seconds at most."""
        await self.writer.close(_LAST_SECONDS)

    def now(self) -> bytes:
        """Return the time as SageMaker writes it: whole seconds, UTC."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)).encode()
        return self._time

    def subject(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Return the attribute that says whom a request is about, if it says so and there is a key."""
        subject = headers.get(self._header)
        if not subject:
            return b""
        if self._key is not None:
            return b',"subject=%b"' % subjects.hashed(self._key, subject).encode()
        if not self._said:
            self._said = True
            log.warning("no subject is captured", reason="SERVING_SUBJECT_KEY_FILE is not set")
        return b""

    def _lines(self) -> Iterator[str]:
        writer = self.writer
        yield from head("trainserve_captures_total", "counter", "Captured predictions, by model and variant.")
        for path, count in sorted(writer.taken.items()):
            model, _, variant = path.partition("/")
            yield f'trainserve_captures_total{{model="{escape(model)}",variant="{escape(variant)}"}} {count}'
        yield from head("trainserve_captures_dropped_total", "counter", "Captures that were lost, by reason.")
        for reason in ("memory", "shutdown"):
            yield f'trainserve_captures_dropped_total{{reason="{reason}"}} {writer.dropped[reason]}'
        yield from head("trainserve_capture_objects_total", "counter", "Attempts to write captures.")
        for result, count in (("written", writer.written), ("failed", writer.failed)):
            yield f'trainserve_capture_objects_total{{result="{result}"}} {count}'
        yield from head("trainserve_capture_waiting_bytes", "gauge", "Captures in memory, not yet written.")
        yield f"trainserve_capture_waiting_bytes {writer.waiting}"


class Recorder:
    """Captures the predictions of one model."""

    def __init__(self, capture: Capture, entry: Entry, *marks: str) -> None:
        model = entry.model
        identity = (f"model={model.name}", f"version={model.version}", f"digest={model.digest}")
        self._attributes = [*identity, *marks]
        self._capture = capture
        self._writer = capture.writer
        self._end = End(b"", self._attributes)
        variant = ONLY_VARIANT if entry.name == model.name else entry.name
        self._spool = capture.writer.spool(f"{model.name}/{variant}")

    def observe(self, waiting: Sequence[Waiting], batch: Batch, begun: float, done: float) -> None:  # noqa: ARG002
        """Write down what was asked and answered, or a sample of it."""
        self.record(waiting)

    def record(self, waiting: Sequence[Waiting]) -> None:
        """Write down requests, all of which have been answered."""
        capture = self._capture
        items = cast("Sequence[Answered]", waiting)
        if capture.fraction < 1:
            items = [item for item in items if random.random() < capture.fraction]  # noqa: S311
        if self._is_full(len(items)):
            return
        now, marks, events, dumps = capture.now(), capture.marks, capture.events, orjson.dumps
        parts: list[bytes] = []
        records = 0
        usual = self._usual_end(now).whole
        for request, reply, _, _ in items:
            forms = request.head.forms
            form = None if forms is None else forms.get(self)
            if form is None or form.answers is not reply.content_type:
                form = self.form(request.head, reply.content_type)
            event = next(events)
            if marks:
                request.event = event
            body, answer = request.body, request.answered(text=form.text)
            end = usual if request.context is None and not form.custom else self.end(now, request, form)
            if len(body) >= LARGE:
                self.add_large(form, body, answer, event, end)
                continue
            records += 1
            if form.text:
                # As `Form.record` does: here a call counts, and a copy.
                data, prediction = dumps(body.decode()), dumps(answer.decode())
                parts += (form.before, data, form.between, prediction, form.after, event, end)
            else:
                parts.append(form.record(body, answer, event, end))
        self.add(parts, records)

    def end(self, now: bytes, request: Observed, form: Form) -> bytes:
        """Return the end of a request's record."""
        end, context = self._usual_end(now), request.context
        if context is None:
            return end.having(form.custom) if form.custom else end.whole
        # An id of plain characters: it needs no escapes.
        more = b',"request=%b"%b' % (context.request_id, form.custom) if context.request_id else form.custom
        if self._capture.headers.isdisjoint(context.headers):
            return end.having(more)
        subject = self._capture.subject(context.headers)
        return end.having(subject + more, context.headers.get(INFERENCE_ID, b""))

    def _usual_end(self, now: bytes) -> End:
        if now is not self._end.now:
            self._end = End(now, self._attributes)
        return self._end

    def form(self, head: ObservedHead, answers: bytes) -> Form:
        """Make what records of requests with a head, answered in a content type, have in common."""
        forms = head.forms = head.forms or {}
        form = forms[self] = Form(head.headers, answers)
        return form

    def add(self, parts: Sequence[bytes], records: int) -> None:
        """Hand on whole records."""
        if records:
            self._writer.add(self._spool, b"".join(parts), records)

    def add_large(self, form: Form, body: bytes, answer: bytes, event: bytes, end: bytes) -> None:
        """Hand on a record that is put together a little at a time, beside the requests to come."""
        pieces = form.pieces(body, answer, event, end)
        self._writer.add_large(self._spool, _LARGE_FACTOR * (len(body) + len(answer)), pieces)

    def _is_full(self, records: int) -> bool:
        """Whether nothing more can be taken: what could be is not even written down."""
        writer = self._writer
        if writer.waiting < writer.most_bytes:
            return False
        writer.dropped["memory"] += records
        return True


class ShadowRecorder(Recorder):
    """Captures what a challenger predicts in the shadow, and beside it what it is asked itself.

    A record has the id of the one of the request's own answer, and is there only if that one is.
    """

    def __init__(self, capture: Capture, entry: Entry, own: Recorder) -> None:
        super().__init__(capture, entry, "shadow=true")
        self._own = own

    def observe(self, waiting: Sequence[Waiting], batch: Batch, begun: float, done: float) -> None:  # noqa: ARG002
        """Write down both."""
        now = self._capture.now()
        lines: list[bytes] = []
        for request, reply, start, stop in waiting:
            if not isinstance(request, ShadowRequest):
                continue
            original = cast("Observed", request.original)
            event = getattr(original, "event", b"")
            if not event:
                continue
            forms = original.head.forms or {}
            form = forms.get(self) or self.form(original.head, reply.content_type)
            end = self.end(now, original, form)
            prediction = formats.csv_answer(batch.tokens[start:stop])
            if len(original.body) < LARGE:
                lines.append(form.record(original.body, prediction, event, end))
            else:
                self.add_large(form, original.body, prediction, event, end)
        self.add(lines, len(lines))
        self._own.record([item for item in waiting if not isinstance(item[0], ShadowRequest)])
