"""The timeline of a run: what happened to which pod or object, and when."""

from __future__ import annotations

import collections
import time
from typing import Any

_KEPT = 20_000


class Events:
    """The last events, oldest first."""

    def __init__(self) -> None:
        self._events: collections.deque[dict[str, Any]] = collections.deque(maxlen=_KEPT)

    def record(self, event: str, **facts: object) -> None:
        """Note that `event` happened now."""
        self._events.append({"time": time.time(), "event": event, **facts})

    def all(self) -> list[dict[str, Any]]:
        """Every event kept: `time` (seconds since the epoch), `event`, and what it is about."""
        return list(self._events)
