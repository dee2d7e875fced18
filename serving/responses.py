"""The heads of answers, built once for each combination and kept for as long as their date holds."""

import time
from http import HTTPStatus
from typing import Final

CSV: Final = b"text/csv"
JSON: Final = b"application/json"
METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

RETRY: Final = b"Retry-After: 1\r\n"

_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
# Lengths vary with the digits of the predictions; past this many combinations something else is going on.
_MOST_HEADS: Final = 4096


def identity(name: str, version: str, digest: str) -> bytes:
    """Return the header lines that name a model."""
    return f"X-Model-Name: {name}\r\nX-Model-Version: {version}\r\nX-Model-Digest: {digest}\r\n".encode(
        "ascii"
    )


class Heads:
    """Makes the head of an answer: status, length, date, and what else the answer brings."""

    def __init__(self) -> None:
        self._date = b""
        self._second = 0
        self._heads: dict[tuple[int, bytes, int, bool, bytes], bytes] = {}
        self._usual: dict[tuple[bytes, bytes], dict[int, bytes]] = {}
        self.tick()

    def tick(self) -> None:
        """Bring the date up to date; called about twice a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second)).encode()
            self._heads.clear()
            for heads in self._usual.values():
                heads.clear()

    def usual(self, content_type: bytes, extra: bytes) -> dict[int, bytes]:
        """Return where heads of status 200 are kept by length for `Exchange.deliver`; emptied in time."""
        return self._usual.setdefault((content_type, extra), {})

    def head(self, status: int, content_type: bytes, length: int, close: bool, extra: bytes) -> bytes:
        """Return a head with its empty line; `extra` is whole header lines."""
        key = (status, content_type, length, close, extra)
        head = self._heads.get(key)
        if head is None:
            head = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nDate: %b\r\n%b%b\r\n" % (
                status,
                _REASONS[status],
                content_type,
                length,
                self._date,
                extra,
                b"Connection: close\r\n" if close else b"",
            )
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[key] = head
        return head
