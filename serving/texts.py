"""Rows that are nothing but numbers, left as text until the turn ends and then read all at once.

Number by number, making Python objects and packing them again costs more than predicting. simdjson turns a
whole text into binary numbers by one call, but it flattens arrays: where a row ended it does not tell. So
each row is ended by a number that no row may hold, and the rows are as they should be if such numbers are
found where rows of the right width end, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import simdjson

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
_END: Final = b"1e99"
_MISSING: Final = b"2e99"
_LARGEST: Final = float(np.finfo(np.float32).max)
_LONGEST_FRAME: Final = 256
_MOST_FRAMES: Final = 64
_MOST_FAILURES: Final = 1024


def may_be_row(head: Head, width: int) -> bool:
    """Return whether the body of requests with this head may be one row of so many numbers."""
    return head.length <= 26 * width + _LONGEST_FRAME and b"content-encoding" not in head.headers


class Numbers:
    """Reads rows of so many numbers."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._parser = simdjson.Parser()
        self._row = bytes(width) + b"\1"

    def read(self, texts: Sequence[bytes], into: NDArray[np.float32], *, gaps: bool = False) -> bool:
        """Read a row of each text; return False, and `into` is spoilt, if one is anything else.

        Args:
            texts: numbers and `null`, separated by commas; at least one.
            into: (len(texts), width).
            gaps: nothing between two commas is a missing value too, and a text is one line.
        """
        text = _joined(texts)
        if gaps and (b"\n" in text or b"\r" in text):
            # A line's end is white space in JSON, and must not be that here.
            text = _joined([line.rstrip(b"\r\n") for line in texts])
            if b"\n" in text or b"\r" in text:
                return False
        # An array in the array would be flattened; objects, texts and what is no JSON are refused below.
        if text.count(b"[") != 1:
            return False
        return self._read(text, len(texts), into) or (
            # Of one column, nothing at all is no row.
            gaps and self._width > 1 and b",," in text and self._read(with_nulls(text), len(texts), into)
        )

    def _read(self, text: bytes, rows: int, into: NDArray[np.float32]) -> bool:
        missing = 0
        if b"n" in text:
            missing = text.count(b"null")
            text = text.replace(b"null", _MISSING)
        try:
            array = cast("simdjson.Array", self._parser.parse(text))
            numbers = np.frombuffer(array.as_buffer(of_type="d"))
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
        if beyond.tobytes() != self._row * rows:
            return False
        into[:] = numbers.reshape(rows, self._width + 1)[:, :-1]
        return True


def _joined(texts: Sequence[bytes]) -> bytes:
    return b"[%b,%b]" % ((b",%b," % _END).join(texts), _END)


class Queue:
    """Requests whose body may be a line of CSV, of numbers only, until the end of the turn.

    Args:
        reply: answers them.
        begin: is called when the first comes.
        otherwise: takes a request whose row is anything else.
    """

    gaps = True

    def __init__(self, reply: RowReply, begin: Callable[[], object], otherwise: Otherwise) -> None:
        self.reply = reply
        self.otherwise = otherwise
        self._begin = begin
        self._requests: list[Any] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._requests)

    def take(self, request: Any) -> None:  # noqa: ANN401  an exchange, or what looks like one
        """Take a request."""
        requests = self._requests
        if not requests:
            self._begin()
        requests.append(request)

    def empty(self) -> tuple[list[Any], list[bytes]]:
        """Return the requests and their rows' texts, and keep none."""
        requests, self._requests = self._requests, []
        return requests, [request.body for request in requests]


class FramedQueue(Queue):
    """Requests with one row of numbers somewhere in their body.

    Args:
        frames: where.
        reply, begin, otherwise: as of `Queue`.
    """

    gaps = False

    def __init__(
        self, frames: Frames, reply: RowReply, begin: Callable[[], object], otherwise: Otherwise
    ) -> None:
        super().__init__(reply, begin, otherwise)
        self._frames = frames
        self._texts: list[bytes] = []

    def take(self, request: Any) -> None:  # noqa: ANN401
        """Take a request."""
        text = self._frames.text(request.body)
        if text is None:
            self.otherwise(request)
            self._frames.learn(request.body)
            return
        requests = self._requests
        if not requests:
            self._begin()
        requests.append(request)
        self._texts.append(text)

    def empty(self) -> tuple[list[Any], list[bytes]]:
        """Return the requests and their rows' texts, and keep none."""
        requests, self._requests = self._requests, []
        texts, self._texts = self._texts, []
        return requests, texts


class Frames:
    """What surrounds the one array of numbers in the bodies of requests, as far as it is known.

    Clients write what surrounds their numbers again and again in the same way. A frame is known once it has
    been proven: other numbers in their place were read as the numbers of the one row.

    Args:
        width: the numbers of a row.
        read: returns the rows of a body if it brings rows and nothing else; raises nothing.
    """

    def __init__(self, width: int, read: Callable[[bytes], Sequence[Row] | None]) -> None:
        self._known: dict[bytes, bytes] = {}
        self._read = read
        self._row = [number + 0.5 for number in range(width)]
        self._probe = ",".join(map(str, self._row)).encode()
        self._failures = 0

    def text(self, body: bytes) -> bytes | None:
        """Return the numbers of a body whose frame is known."""
        start = body.rfind(b"[") + 1
        end = self._known.get(body[:start])
        if end is None or not body.endswith(end):
            return None
        return body[start : -len(end)]

    def learn(self, body: bytes) -> None:
        """Get to know the frame of a body, if it is one."""
        start = body.rfind(b"[") + 1
        end = body.find(b"]", start)
        size = start + len(body) - end
        if not 0 < start < end or size > _LONGEST_FRAME or len(self._known) >= _MOST_FRAMES:
            return
        if self._failures < _MOST_FAILURES:
            known = self._read(body[:start] + self._probe + body[end:]) == [self._row]
            if known:
                self._known[body[:start]] = body[end:]
            self._failures += not known
