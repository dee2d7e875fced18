"""Capture: a sample of the requests and their predictions, in SageMaker's layout, off the requests' path."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from serving import columns, log, records, subjects
from serving.large import LARGE
from serving.metrics import escape, head
from serving.records import INFERENCE_ID, End, Form, escaped_all, escaped_answers
from serving.stores import store
from serving.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from serving.context import Context
    from serving.models import Entry
    from serving.observe import Answers, Observed, ObservedHead
    from serving.server import Server
    from serving.settings import Settings

ONLY_VARIANT: Final = "AllTraffic"
"""SageMaker's own name for the variant of a model that is alone."""

# After the drain: what it left to write has this long.
_LAST_SECONDS: Final = 4.0
# What a large record may take, as a multiple of its request and answer: both are in memory for a while.
_LARGE_FACTOR: Final = 3
# A client's own attribute is part of a form, so there may be any number; they are few where they are of use.
_MOST_FORMS: Final = 1024
# So many records are put together in one piece: larger ones would drive what serves out of the caches.
_AT_ONCE: Final = 128


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
        self._forms: dict[object, Form] = {}
        variant = ONLY_VARIANT if entry.name == model.name else entry.name
        self._spool = capture.writer.spool(f"{model.name}/{variant}")

    def observe(self, answers: Answers) -> None:
        """Write down what was asked and answered, or a sample of it."""
        fraction = self._capture.fraction
        if fraction < 1:
            numbers = range(len(answers))
            answers = answers.only([number for number in numbers if random.random() < fraction])  # noqa: S311
        if not len(answers) or self._is_full(len(answers)):
            return
        forms = {self.form(kind, answers.content_type) for kind in answers.kinds}
        if len(forms) == 1:
            self._record(forms.pop(), answers)
            return
        groups: dict[Form, list[int]] = {}
        for number, one in enumerate(answers.heads):
            groups.setdefault(self.form(one, answers.content_type), []).append(number)
        for form, chosen in groups.items():
            self._record(form, answers.only(chosen))

    def _record(self, form: Form, answers: Answers) -> None:
        """Write records of one form, a column at a time: record by record it takes twice as long."""
        capture, asked, answered, count = self._capture, answers.asked, answers.answered, len(answers)
        now = capture.now()
        begin, events = capture.events.many(count)
        if capture.marks:
            for request, event in zip(answers.requests, events, strict=True):
                request.event = begin + event
        ends = [self.end(now, None, form)] * count
        for number, own in answers.contexts.items():
            ends[number] = self.end(now, own, form)
        if max(map(len, asked)) >= LARGE:
            for body, answer, event, end in zip(asked, answered, events, ends, strict=True):
                self.add(form, body, answer, begin + event, end)
            return
        data, predictions = escaped_all(asked, form.input), escaped_answers(answered, form.output)
        after = form.after + begin
        for start in range(0, count, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            some = events[part]
            lines = columns.joined(
                len(some), form.before, data[part], form.between, predictions[part], after, some, ends[part]
            )
            self._writer.add(self._spool, lines, len(some))

    def end(self, now: bytes, context: Context | None, form: Form) -> bytes:
        """Return the end of the record of a request with this context."""
        end = self._usual_end(now)
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
        """Return what records of requests with a head, answered in a content type, have in common."""
        forms = head.forms = head.forms or {}
        form = forms.get(self)
        if form is None or form.answers != answers:
            # Heads differ in more than a record says, in the length of the body say: they share its form.
            form = Form(head.headers, answers)
            form = forms[self] = self._forms.setdefault(form.key, form)
            if len(self._forms) > _MOST_FORMS:
                self._forms.clear()
        return form

    def add(self, form: Form, body: bytes, answer: bytes, event: bytes, end: bytes) -> None:
        """Write a record; a large one is put together a little at a time, beside the requests to come."""
        pieces = form.pieces(body, answer, event, end)
        if len(body) < LARGE:
            self._writer.add(self._spool, b"".join(pieces), 1)
        else:
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

    def observe(self, answers: Answers) -> None:
        """Write down what was asked of either."""
        if not answers.shadow:
            self._own.observe(answers)
            return
        now = self._capture.now()
        for request, prediction in zip(answers.requests, answers.answered, strict=True):
            original: Observed = request.original
            event = original.event
            if event:
                form = self.form(original.head, answers.content_type)
                self.add(form, original.body, prediction, event, self.end(now, original.context, form))
