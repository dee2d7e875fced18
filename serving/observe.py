"""Who else learns of a prediction: observers, and a challenger that predicts in the shadow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from serving import log
from serving.errors import RequestError
from serving.responses import CSV

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serving.batch import Batch, Batcher, Request, Waiting
    from serving.context import Context
    from serving.formats import Row
    from serving.metrics import Histogram
    from serving.models import Entry
    from serving.records import Form


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


class Observer(Protocol):
    """Is told of every batch of one model, once its answers are on their way."""

    def observe(self, waiting: Sequence[Waiting], batch: Batch, begun: float, done: float) -> None:
        """Take note; called on the event loop, so return soon.

        The request of an item is an `Observed`, or a `ShadowRequest`, whose `original` is one: it asked
        another model and has been answered by that one.
        `begun` is when the prediction began, `done` when all had been answered: `time.perf_counter()`.
        """
        ...


Watch = Callable[["Entry"], Observer]
"""Makes the observer of a model that comes into service."""


class ShadowRequest:
    """Rows that another model has answered for; what comes of them here is observed, not returned."""

    __slots__ = ("_failed", "original", "started")

    context: Context | None = None
    """Ids and traces belong to the original."""

    def __init__(self, original: Request, failed: Callable[[], None]) -> None:
        self.original = original
        self.started = original.started
        self._failed = failed

    def fail(self, error: RequestError) -> None:
        """Count it: the answer has been given by the other model."""
        log.debug("shadow refused", status=error.status, reason=error.reason)
        self._failed()


class ShadowReply:
    """Keeps the answer to itself; observers may have it as CSV."""

    content_type: bytes = CSV

    def __init__(self, seconds: Histogram) -> None:
        self.seconds = seconds

    def send(self, request: Any, batch: Batch, start: int, stop: int) -> None:  # noqa: ANN401
        """Return nothing."""


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
