"""Rows that are nothing but numbers, left as text until the turn ends and then read all at once.

Number by number, making Python objects and packing them again costs more than predicting. simdjson turns a
whole text into binary numbers by one call, but it flattens arrays: where a row ended it does not tell. So
each row is ended by a number that no row may hold, and the rows are as they should be if such numbers are
found where rows of the right width end, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import numpy as np
import simdjson

from serving import log
from serving.errors import RequestError
from serving.formats import with_nulls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from serving.batch import RowReply
    from serving.exchange import Head
    from serving.formats import Row

Otherwise = Callable[[Any], None]
"""Takes a request in another way; may raise `RequestError`."""

# Both are beyond what 32 bits hold.
END: Final = b",1e99,"
"""Stands between two rows."""
_MISSING: Final = b"2e99"
_LARGEST: Final = float(np.finfo(np.float32).max)
_LONGEST_FRAME: Final = 256
_MOST_FRAMES: Final = 64
_MOST_FAILURES: Final = 1024


def may_be_row(head: Head, width: int) -> bool:
    """Return whether the body of requests with this head may be one row of so many numbers."""
    return head.length <= 26 * width + _LONGEST_FRAME and b"content-encoding" not in head.headers


class Numbers:
    """Reads rows of so many numbers, separated by commas; `null` is a missing value."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._parser = simdjson.Parser()
        self._row = bytes(width) + b"\1"

    def read(self, text: bytes, into: NDArray[np.float32]) -> bool:
        """Read rows, joined by `END`; return False, and `into` is spoilt, if there are not just those.

        `into` is (rows, width).
        """
        text = b"[%b%b1]" % (text, END)
        # An array in the array would be flattened; objects, texts and what is no JSON are refused below.
        if text.find(b"[", 1) > 0:
            return False
        missing = 0
        if b"n" in text:
            missing = text.count(b"null")
            text = text.replace(b"null", _MISSING)
        try:
            array = cast("simdjson.Array", self._parser.parse(text))
            numbers = np.frombuffer(array.as_buffer(of_type="d"))[:-1]
        except (ValueError, TypeError, RuntimeError):  # the last for whole numbers beyond 64 bits
            return False
        beyond = np.abs(numbers) > _LARGEST
        if missing:
            lost = numbers == float(_MISSING)
            if np.count_nonzero(lost) != missing:
                return False
            beyond &= ~lost
            numbers = np.where(lost, np.nan, numbers)
        # As many ends as rows are among those beyond: where nothing else is, each is where a row should end.
        if beyond.tobytes() != self._row * len(into):
            return False
        into[:] = numbers.reshape(len(into), self._width + 1)[:, :-1]
        return True


class Layout(Protocol):
    """Where in their bodies requests have their row."""

    def read(self, bodies: Sequence[bytes], numbers: Numbers, into: NDArray[np.float32]) -> Sequence[int]:
        """Read the rows of bodies one after the other into a matrix; return whose they are.

        Args:
            bodies: of requests.
            numbers: reads them.
            into: (len(bodies), width); of no meaning beyond the rows that were read.
        """
        ...

    def learn(self, body: bytes) -> None:
        """Learn from the body of a request that has just been taken otherwise."""
        ...


class Lines:
    """A body is a line of CSV, in which nothing between two commas is a missing value too."""

    def read(self, bodies: Sequence[bytes], numbers: Numbers, into: NDArray[np.float32]) -> Sequence[int]:
        """Read all rows or none."""
        text = END.join(bodies)
        if b"\n" in text or b"\r" in text:
            # A line's end is white space in JSON, and must not be that here.
            text = END.join([body.rstrip(b"\r\n") for body in bodies])
            if b"\n" in text or b"\r" in text:
                return ()
        if numbers.read(text, into):
            return range(len(bodies))
        # Of one column, nothing at all is no row.
        if into.shape[1] > 1 and (b",," in text or text[:1] == b"," or text[-1:] == b","):
            text = with_nulls(b"[%b]" % text)[1:-1]
            return range(len(bodies)) if numbers.read(text, into) else ()
        return ()

    def learn(self, body: bytes) -> None:
        """There is nothing to learn."""


class Frames:
    """A body has one array of numbers, and what surrounds it is known.

    Clients write what surrounds their numbers again and again in the same way. Such a frame is known once it
    has been proven: other numbers in their place were read as the numbers of the one row.

    Args:
        width: the numbers of a row.
        rows: returns the rows of a body if it brings rows and nothing else; raises nothing.
    """

    def __init__(self, width: int, rows: Callable[[bytes], Sequence[Row] | None]) -> None:
        self._known: dict[bytes, bytes] = {}
        self._last: tuple[bytes, bytes] | None = None
        self._rows = rows
        self._row = [number + 0.5 for number in range(width)]
        self._probe = ",".join(map(str, self._row)).encode()
        self._failures = 0

    def read(self, bodies: Sequence[bytes], numbers: Numbers, into: NDArray[np.float32]) -> Sequence[int]:
        """Read all rows, if all bodies have the frame that was met last; else those of known frames."""
        if self._last is not None:
            before, after = self._last
            start, stop = len(before), -len(after)
            texts = [body[start:stop] for body in bodies]
            # One comparison for all: only bodies that have just this frame become the same text again.
            framed = before + (after + before).join(texts) + after
            if framed == b"".join(bodies) and numbers.read(END.join(texts), into):
                return range(len(bodies))
        texts = [self.text(body) for body in bodies]
        found = [index for index, text in enumerate(texts) if text is not None]
        known = [text for text in texts if text is not None]
        return found if found and numbers.read(END.join(known), into[: len(found)]) else ()

    def text(self, body: bytes) -> bytes | None:
        """Return the numbers of a body, or None if its frame is not known."""
        start = body.rfind(b"[") + 1
        end = self._known.get(body[:start])
        if end is None or not body.endswith(end):
            return None
        self._last = body[:start], end
        return body[start : -len(end)]

    def learn(self, body: bytes) -> None:
        """Get to know the frame of a body, if it is one."""
        start = body.rfind(b"[") + 1
        end = body.find(b"]", start)
        size = start + len(body) - end
        if not 0 < start < end or size > _LONGEST_FRAME or len(self._known) >= _MOST_FRAMES:
            return
        if self._failures < _MOST_FAILURES:
            rows = self._rows(body[:start] + self._probe + body[end:])
            known = rows is not None and [*rows] == [self._row]
            if known:
                self._known[body[:start]] = body[end:]
            self._failures += not known


class Queue:
    """Requests whose body may be a row of plain numbers, until the end of the turn.

    Args:
        reply: answers them.
        layout: of their bodies.
        begin: is called when the first comes.
        otherwise: takes a request that brings anything else.
    """

    def __init__(
        self, reply: RowReply, layout: Layout, begin: Callable[[], object], otherwise: Otherwise
    ) -> None:
        self.reply = reply
        self.requests: list[Any] = []  # always this list: others add to it, when it has begun
        self._layout = layout
        self._begin = begin
        self._otherwise = otherwise

    def __call__(self, request: Any) -> None:  # noqa: ANN401  an exchange, or what looks like one
        """Take a request."""
        requests = self.requests
        if not requests:
            self._begin()
        requests.append(request)

    def empty(self) -> Sequence[Any]:
        """Return the requests that wait here, and let them wait here no more."""
        requests = self.requests[:]
        self.requests.clear()
        return requests

    def read(self, requests: Sequence[Any], numbers: Numbers, into: NDArray[np.float32]) -> Sequence[Any]:
        """Read the rows of requests, one after the other; return the requests whose rows they are."""
        found = self._layout.read([request.body for request in requests], numbers, into)
        return requests if len(found) == len(requests) else [requests[index] for index in found]

    def take_otherwise(self, request: Any) -> None:  # noqa: ANN401
        """Take a request in the other way, at once."""
        try:
            self._otherwise(request)
        except RequestError as error:
            request.fail(error)
        except Exception as error:  # noqa: BLE001  the others of the turn must not pay for it
            log.error("internal error", error, where="reading a row")
            request.fail(RequestError(500, "internal error"))
        else:
            self._layout.learn(request.body)
