"""The way out of traced requests: a bounded queue, and a thread that makes spans of them and sends these."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from serving import log

if TYPE_CHECKING:
    from serving.spans import Exporter
    from serving.tracing import Taken

_MOST_WAITING: Final = 2048
# Small, because whatever holds the interpreter's lock in one go, the requests wait for.
_EXPORTED_AT_ONCE: Final = 64
_SECONDS: Final = 1.0


class TraceExport:
    """Exports what is put into it; when the queue is full, drops and counts.

    The endpoint may refuse, or hang: only the thread waits for it. `scheme` is how requests come.
    """

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self.exported = 0
        self.dropped = 0
        self._waiting: deque[Taken] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, taken: Taken) -> None:
        """Have the spans of a request exported, soon."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(taken)
        else:
            self.dropped += taken.spans

    def close(self, seconds: float) -> None:
        """Export what waits, at most so long; the process may end then."""
        self._closing.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            # Here, because the imports take longer than all else at start: the server does not wait for them.
            from serving import spans  # noqa: PLC0415

            exporter = spans.Exporter(self._scheme)
        except Exception as error:  # noqa: BLE001  to serve matters more
            log.error("no traces", error)
            return
        while not self._closing.wait(_SECONDS):
            self._export(exporter)
        self._export(exporter)

    def _export(self, exporter: Exporter) -> None:
        while self._waiting:
            for _ in range(min(len(self._waiting), _EXPORTED_AT_ONCE)):
                exporter.add(self._waiting.popleft())
                time.sleep(0)  # lets the event loop have the interpreter
            number, succeeded = exporter.send()
            if succeeded:
                self.exported += number
            else:
                self.dropped += number
