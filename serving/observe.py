"""Who else learns of a prediction: observers, and a challenger that predicts in the shadow."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from serving import formats, log
from serving.errors import RequestError
from serving.responses import CSV

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from serving.batch import Batch, Batcher, Request
    from serving.context import Context
    from serving.formats import Row
    from serving.metrics import Histogram
    from serving.models import Entry
    from serving.records import Form


# So many rows are told of at once, and what is less after so long.
_MOST_ROWS: Final = 1024
_LATER_SECONDS: Final = 0.02
_COLUMNS: Final = ("requests", "heads", "asked", "sizes", "answered", "sent")


class ObservedHead(Protocol):
    """What requests may share; names of headers are in lower case."""

    method: bytes
    target: bytes
    route: str
    """The name by which its requests are counted."""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The headers that anything here looks at."""
        ...

    forms: dict[object, Form] | None
    """Kept here by capture; None at first."""


class Observed(Protocol):
    """What a request of any protocol tells those who observe it."""

    @property
    def head(self) -> ObservedHead:
        """Its head, of which several requests may be."""
        ...

    started: float  # time.perf_counter()
    body: bytes
    answer: bytes | None
    """All that was sent back; its length is told."""

    context: Context | None
    """What its head has for itself alone."""

    event: bytes
    """The id of its record; set by capture if there is a shadow, empty before."""


class Turn(NamedTuple):
    """What requests have in common that one turn of the event loop has read and one call has answered.

    `started` is when that turn began, `begun` when the call did, `done` when all had been answered
    (`time.perf_counter()`), `rows` those of the call.
    """

    started: float
    begun: float
    done: float
    rows: int

    @property
    def seconds(self) -> float:
        """The time from read to answered."""
        return self.done - self.started


class Answers:
    """What one model has answered alike: columns, one value a request.

    `heads` are those of the requests, `asked` their bodies, `sizes` their rows, `answered` the bodies of the
    answers, `sent` how many bytes these were with their heads. `contexts` has those of the few requests that
    have one, by their number. `content_type` is that of the answers. `requests` are an `Observed` each, or
    all are `ShadowRequest`s; they are there only with a shadow, for as a rule a request is not kept once it
    has been answered.
    """

    def __init__(self, content_type: bytes) -> None:
        self.content_type = content_type
        self.requests: list[Any] = []
        self.heads: list[ObservedHead] = []
        self.contexts: dict[int, Context] = {}
        self.asked: list[bytes] = []
        self.sizes: list[int] = []
        self.answered: list[bytes] = []
        self.sent: list[int] = []
        self._stops: list[int] = []
        self._turns: list[Turn] = []

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.sizes)

    def add(self, requests: Sequence[Any], sizes: Sequence[int], bodies: Sequence[bytes], turn: Turn) -> None:
        """Append some of one turn; `bodies` are those of the answers."""
        heads, contexts = [request.head for request in requests], [request.context for request in requests]
        asked, sent = [request.body for request in requests], [len(request.answer) for request in requests]
        if any(contexts):
            numbered = enumerate(contexts, len(self))
            self.contexts |= {number: context for number, context in numbered if context is not None}
        self.heads += heads
        self.asked += asked
        self.sent += sent
        self.sizes += sizes
        self.answered += bodies
        self._stops.append(len(self.sizes))
        self._turns.append(turn)

    @cached_property
    def kinds(self) -> set[ObservedHead]:
        """Their different heads: few, for clients send the same again and again."""
        return set(self.heads)

    @property
    def shadow(self) -> bool:
        """Whether they were asked of another model, and answered by that."""
        return bool(self.requests) and isinstance(self.requests[0], ShadowRequest)

    def turns(self) -> Iterator[tuple[int, Turn]]:
        """Give the turns that they are of, each after how many of them."""
        before = 0
        for stop, turn in zip(self._stops, self._turns, strict=True):
            yield stop - before, turn
            before = stop

    def turn(self, number: int) -> Turn:
        """Return the turn that a request is of."""
        return self._turns[bisect_right(self._stops, number)]

    def only(self, chosen: Sequence[int]) -> Answers:
        """Return some of them, by their numbers."""
        some = Answers(self.content_type)
        for name in _COLUMNS:
            column = getattr(self, name)
            setattr(some, name, [column[number] for number in chosen] if column else [])
        contexts = self.contexts
        some.contexts = {place: contexts[number] for place, number in enumerate(chosen) if number in contexts}
        some._stops = [*range(1, len(chosen) + 1)]
        some._turns = [self.turn(number) for number in chosen]
        return some


class Observer(Protocol):
    """Is told of all that one model has answered, soon after."""

    def observe(self, answers: Answers) -> None:
        """Take note; called on the event loop, so return soon."""
        ...


class Audience:
    """Tells observers of what one model has answered, some turns at a time: turn by turn it costs more.

    Args:
        observers: in the order in which they are told.
        at_once: tell of each turn when it ends, and of the requests themselves.
    """

    def __init__(self, observers: Sequence[Observer], *, at_once: bool = False) -> None:
        self._observers = observers
        self._at_once = at_once
        self._rows = 0
        self._answers: dict[tuple[bytes, type], Answers] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def take(
        self,
        requests: Sequence[Any],
        sizes: Sequence[int],
        bodies: Sequence[bytes],
        turn: Turn,
        content_type: bytes,
    ) -> None:
        """Take what one turn has answered alike; see `Answers`."""
        key = content_type, type(requests[0])
        answers = self._answers.get(key)
        if answers is None:
            answers = self._answers[key] = Answers(content_type)
        answers.add(requests, sizes, bodies, turn)
        self._rows += sum(sizes)
        if self._at_once:
            answers.requests += requests
            self.flush()
        elif self._rows >= _MOST_ROWS:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(_LATER_SECONDS, self._flush_in_time)

    def flush(self) -> None:
        """Tell what has not been told."""
        told, self._answers, self._rows = self._answers, {}, 0
        for answers in told.values():
            for observer in self._observers:
                try:
                    observer.observe(answers)
                except Exception as error:  # noqa: BLE001  a defect must cost neither answers nor other observers
                    log.error("internal error", error, where="observer")

    def _flush_in_time(self) -> None:
        self._timer = None
        self.flush()


Watch = Callable[["Entry"], Observer]
"""Makes the observer of a model that comes into service."""


class ShadowRequest:
    """Rows that another model has answered for; what comes of them here is observed, not returned."""

    __slots__ = ("_failed", "original", "started")

    context: Context | None = None
    """Ids and traces belong to the original."""
    answer = b""
    """Nothing is sent."""

    def __init__(self, original: Request, failed: Callable[[], None]) -> None:
        self.original: Any = original  # an `Observed`
        self.started = original.started
        self._failed = failed

    @property
    def head(self) -> ObservedHead:
        """The original's."""
        return self.original.head

    @property
    def body(self) -> bytes:
        """The original's."""
        return self.original.body

    def fail(self, error: RequestError) -> None:
        """Count it: the answer has been given by the other model."""
        log.debug("shadow refused", status=error.status, reason=error.reason)
        self._failed()


class ShadowReply:
    """Makes an answer, as CSV, that only observers get."""

    content_type: bytes = CSV

    def __init__(self, seconds: Histogram) -> None:
        self.seconds = seconds

    def send(self, request: ShadowRequest, batch: Batch, start: int, stop: int) -> bytes:  # noqa: ARG002
        """Send nothing; return what would have been sent."""
        return formats.csv_answer(batch.tokens[start:stop])


class Shadow:
    """Has a challenger predict what another model is asked, after that one has answered.

    Args:
        challenger: the model's batcher; it reads the same columns in the same order.
        fraction: of the requests, chosen at random.
        reply: where the challenger's time is counted.
        failed: called for a request that the challenger refuses.
    """

    def __init__(
        self, challenger: Batcher, fraction: float, reply: ShadowReply, failed: Callable[[], None]
    ) -> None:
        self._challenger = challenger
        self._fraction = fraction
        self._reply = reply
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._taken: list[tuple[Request, Sequence[Row]]] = []

    def take(self, request: Request, rows: Sequence[Row]) -> None:
        """Take the rows of a request that another model is about to answer."""
        if random.random() >= self._fraction:  # noqa: S311  a sample, not a secret
            return
        if not self._taken:
            self._loop.call_soon(self._forward)
        self._taken.append((request, rows))

    def _forward(self) -> None:
        """Hand on what was taken; its batch comes a turn later, when the answers have been written."""
        taken, self._taken = self._taken, []
        challenger = self._challenger
        for original, rows in taken:
            request = ShadowRequest(original, self._failed)
            try:
                if not (challenger.model.plain and challenger.take_numbers(request, self._reply, rows)):
                    challenger.take(request, self._reply, rows)
            except RequestError as error:
                request.fail(error)
