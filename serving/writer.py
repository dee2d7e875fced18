"""Captures on their way out: collected in memory, within a bound, and written in large pieces."""

from __future__ import annotations

import asyncio
import mmap
import time
import uuid
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from serving import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.stores import Store

_TICK_SECONDS: Final = 0.5
_FIRST_RETRY_SECONDS: Final = 0.5
_LAST_RETRY_SECONDS: Final = 30.0
_RETRY_WHILE_CLOSING_SECONDS: Final = 0.2
_HOUR: Final = 3600
# What is added at once should fit behind what is not yet enough to be written.
_SLACK: Final = 1024 * 1024


class Spool:
    """The records of one model that wait to become an object: the first `bytes` of `memory`."""

    __slots__ = ("bytes", "memory", "path", "records", "since")

    def __init__(self, path: str) -> None:
        self.path = path
        self.memory: mmap.mmap | None = None
        self.bytes = 0
        self.records = 0
        self.since = 0.0  # time.time() of the first


class _Object(NamedTuple):
    spool: Spool
    key: str
    memory: mmap.mmap
    bytes: int
    records: int


class Writer:
    """Writes records, and drops what does not fit into its memory.

    Args:
        store: where to.
        flush_seconds: how long a record waits at most, while writing succeeds.
        flush_bytes: from how many on an object is written at once.
        most_bytes: of records in memory, those that are being written included.
    """

    def __init__(self, store: Store, *, flush_seconds: float, flush_bytes: int, most_bytes: int) -> None:
        self.waiting = 0
        self.taken: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.written = 0
        self.failed = 0
        self.most_bytes = most_bytes
        self._store = store
        self._flush_seconds = flush_seconds
        self._flush_bytes = flush_bytes
        self._usual = _whole_pages(flush_bytes + _SLACK)
        # To be written into again, as new memory costs more; by this spool only: others may need little.
        self._free: tuple[Spool, mmap.mmap] | None = None
        self._spools: dict[str, Spool] = {}
        self._large: deque[tuple[Spool, int, Iterator[bytes]]] = deque()
        self._objects: deque[_Object] = deque()
        self._due = asyncio.Event()
        self._closing = asyncio.Event()
        self._failing = ""
        self._task = asyncio.create_task(self._run())

    def spool(self, path: str) -> Spool:
        """Return where records with keys under this path are collected."""
        return self._spools.setdefault(path, Spool(path))

    def add(self, spool: Spool, data: bytes, records: int) -> None:
        """Take records, or drop them."""
        size = len(data)
        if self.waiting + size > self.most_bytes:
            self.dropped["memory"] += records
            return
        now = time.time()
        if spool.memory is not None and (
            now // _HOUR != spool.since // _HOUR or spool.bytes + size > len(spool.memory)
        ):
            self._cut(spool)
            self._due.set()
        if spool.memory is None:
            try:
                spool.memory = self._memory(spool, size)
            except OSError:
                self.dropped["memory"] += records
                return
            spool.since = now
        self.waiting += size
        self.taken[spool.path] += records
        # At once, while it is in the caches: to collect large pieces and copy them later costs more.
        spool.memory[spool.bytes : spool.bytes + size] = data
        spool.bytes += size
        spool.records += records
        if spool.bytes >= self._flush_bytes:
            self._due.set()

    def add_large(self, spool: Spool, size: int, pieces: Iterator[bytes]) -> None:
        """Take a record that is put together a little at a time, or drop it; `size` is what that may take."""
        if self.waiting + size > self.most_bytes:
            self.dropped["memory"] += 1
            return
        self.waiting += size
        self._large.append((spool, size, pieces))
        self._due.set()

    async def close(self, seconds: float) -> None:
        """Write what waits, and drop what cannot be written in time."""
        self._closing.set()
        self._due.set()
        await asyncio.wait([self._task], timeout=seconds)
        self._task.cancel()
        left = len(self._large) + sum(part.records for part in (*self._objects, *self._spools.values()))
        if left:
            self.dropped["shutdown"] += left
            log.error("captures lost", records=left, reason=self._failing or "no time left")

    async def _run(self) -> None:
        last = False
        while not last:
            if not self._closing.is_set():
                await _wait(self._due, _TICK_SECONDS)
            last = self._closing.is_set()
            self._due.clear()
            await self._put_together()
            oldest = time.time() - self._flush_seconds
            for spool in self._spools.values():
                due = last or spool.since <= oldest or spool.bytes >= self._flush_bytes
                if due:
                    self._cut(spool)
            while self._objects:
                await self._write(self._objects[0])
                self._objects.popleft()

    async def _put_together(self) -> None:
        while self._large:
            spool, size, pieces = self._large[0]
            parts: list[bytes] = []
            for piece in pieces:
                parts.append(piece)
                await asyncio.sleep(0)
            self._large.popleft()
            self.waiting -= size
            self.add(spool, b"".join(parts), 1)

    def _cut(self, spool: Spool) -> None:
        """Make an object of what a spool has; its key says when its first record was taken, in UTC."""
        if spool.memory is None:
            return
        moment = time.gmtime(spool.since)
        folder, minute = time.strftime("%Y/%m/%d/%H", moment), time.strftime("%M-%S", moment)
        name = f"{minute}-{int(spool.since % 1 * 1000):03d}-{uuid.uuid4()}.jsonl"
        self._objects.append(
            _Object(spool, f"{spool.path}/{folder}/{name}", spool.memory, spool.bytes, spool.records)
        )
        spool.memory, spool.bytes, spool.records = None, 0, 0

    def _memory(self, spool: Spool, size: int) -> mmap.mmap:
        """Return memory for records, of so many bytes or more, in whole pages; raises `OSError`."""
        if self._free is not None and self._free[0] is spool and size <= self._usual:
            (_, memory), self._free = self._free, None
            return memory
        size = max(_whole_pages(size), self._usual)
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    async def _write(self, item: _Object) -> None:
        """Write an object, trying until it succeeds: meanwhile the others wait, and then there is no room."""
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                pages = memoryview(item.memory)[: _whole_pages(item.bytes)]
                await self._store.put(item.key, pages, item.bytes)
                break
            except Exception as error:  # noqa: BLE001  whatever a store raises, it may succeed later
                self._note(error)
            if self._closing.is_set():
                await asyncio.sleep(_RETRY_WHILE_CLOSING_SECONDS)
            else:
                await _wait(self._closing, delay)
            delay = min(delay * 2, _LAST_RETRY_SECONDS)
        if self._failing:
            self._failing = ""
            log.info("captures are written again")
        self.waiting -= item.bytes
        self.written += 1
        if item.bytes >= self._flush_bytes and len(item.memory) == self._usual:
            self._free = item.spool, item.memory

    def _note(self, error: Exception) -> None:
        """Count a failure, and say it once for each reason."""
        self.failed += 1
        kind, (first, *_) = type(error).__name__, [*str(error).splitlines(), ""]
        if kind != self._failing.partition(":")[0]:
            log.error("captures are not written", kind=kind, reason=first, waiting_bytes=self.waiting)
        self._failing = f"{kind}: {first}"


def _whole_pages(size: int) -> int:
    """Return a size in bytes, rounded up to whole pages."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but no longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
