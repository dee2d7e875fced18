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
_MOST_ROWS: Final = 512
_LATER_SECONDS: Final = 0.02


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
    """What its head has for itself alone; given to a request that has none when it is traced."""

    event: bytes
    """The id of its record; set by capture, absent before."""

    def answered(self, *, text: bool) -> bytes:
        """Return the body of its answer, which is text or not."""
        ...


class Turn(NamedTuple):
    """One call of a model: when it began, when all had been answered, and its rows; `time.perf_counter()`."""

    begun: float
    done: float
    rows: int


class Answers:
    """Requests that one model has answered alike: columns, one value a request.

    `requests` are each an `Observed`, or all are `ShadowRequest`s; `sizes` are their rows, `seconds` the time
    from read to answered. `content_type` is that of the answers.
    """

    def __init__(self, content_type: bytes) -> None:
        self.content_type = content_type
        self.requests: list[Any] = []
        self.sizes: list[int] = []
        self.seconds: list[float] = []
        self._bodies: list[bytes] | None = []
        self._stops: list[int] = []
        self._turns: list[Turn] = []

    def add(
        self,
        requests: Sequence[Any],
        sizes: Sequence[int],
        seconds: Sequence[float],
        turn: Turn,
        bodies: Sequence[bytes] | None,
    ) -> None:
        """Append some of one turn; `bodies` are those of the answers, if they are at hand."""
        self.requests += requests
        self.sizes += sizes
        self.seconds += seconds
        self._stops.append(len(self.requests))
        self._turns.append(turn)
        if bodies is None:
            self._bodies = None
        elif self._bodies is not None:
            self._bodies += bodies

    @cached_property
    def heads(self) -> set[ObservedHead]:
        """Their heads: few, for clients send the same again and again."""
        return {request.head for request in self.requests}

    @cached_property
    def contexts(self) -> list[Context | None]:
        """Their contexts."""
        return [request.context for request in self.requests]

    @cached_property
    def plain(self) -> bool:
        """Whether no request has anything for itself alone."""
        return not any(self.contexts)

    def renew_contexts(self) -> None:
        """Look at them again: some have been given to requests that had none."""
        self.__dict__.pop("contexts", None)
        self.__dict__.pop("plain", None)

    @cached_property
    def asked(self) -> list[bytes]:
        """The bodies of the requests."""
        return [request.body for request in self.requests]

    @property
    def shadow(self) -> bool:
        """Whether they were asked of another model, and answered by that."""
        return isinstance(self.requests[0], ShadowRequest)

    def bodies(self, *, text: bool) -> Sequence[bytes]:
        """Return the bodies of the answers, which are text or not."""
        if self._bodies is None:
            return [request.answered(text=text) for request in self.requests]
        return self._bodies

    def turns(self) -> Iterator[tuple[int, Turn]]:
        """Give the calls by which they were answered, each after how many of them."""
        before = 0
        for stop, turn in zip(self._stops, self._turns, strict=True):
            yield stop - before, turn
            before = stop

    def turn(self, number: int) -> Turn:
        """Return by which call a request was answered."""
        return self._turns[bisect_right(self._stops, number)]

    def only(self, chosen: Sequence[int]) -> Answers:
        """Return some of them, by their numbers."""
        some = Answers(self.content_type)
        for number in chosen:
            some.add(
                [self.requests[number]],
                [self.sizes[number]],
                [self.seconds[number]],
                self.turn(number),
                None if self._bodies is None else [self._bodies[number]],
            )
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
        at_once: tell of each turn when it ends.
    """

    def __init__(self, observers: Sequence[Observer], *, at_once: bool = False) -> None:
        self._observers = observers
        self._most = 1 if at_once else _MOST_ROWS
        self._rows = 0
        self._answers: dict[tuple[bytes, type], Answers] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def take(  # noqa: PLR0913 - the columns of one turn
        self,
        requests: Sequence[Any],
        sizes: Sequence[int],
        seconds: Sequence[float],
        turn: Turn,
        *,
        content_type: bytes,
        bodies: Sequence[bytes] | None = None,
    ) -> None:
        """Take what one turn has answered alike; see `Answers`."""
        key = content_type, type(requests[0])
        answers = self._answers.get(key)
        if answers is None:
            answers = self._answers[key] = Answers(content_type)
        answers.add(requests, sizes, seconds, turn, bodies)
        self._rows += sum(sizes)
        if self._rows >= self._most:
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

    __slots__ = ("_failed", "original", "predicted", "started")

    context: Context | None = None
    """Ids and traces belong to the original."""

    def __init__(self, original: Request, failed: Callable[[], None]) -> None:
        self.original: Any = original  # an `Observed`
        self.started = original.started
        self._failed = failed
        self.predicted: tuple[Batch, int, int]

    @property
    def head(self) -> ObservedHead:
        """The original's."""
        return self.original.head

    def answered(self, *, text: bool) -> bytes:  # noqa: ARG002  it always is
        """Return the predictions as CSV."""
        batch, start, stop = self.predicted
        return formats.csv_answer(batch.tokens[start:stop])

    def fail(self, error: RequestError) -> None:
        """Count it: the answer has been given by the other model."""
        log.debug("shadow refused", status=error.status, reason=error.reason)
        self._failed()


class ShadowReply:
    """Keeps the answer to itself; observers may have it as CSV."""

    content_type: bytes = CSV

    def __init__(self, seconds: Histogram) -> None:
        self.seconds = seconds

    def send(self, request: ShadowRequest, batch: Batch, start: int, stop: int) -> None:
        """Return nothing."""
        request.predicted = batch, start, stop


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
