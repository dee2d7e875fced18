"""Where captures are written: a directory, or a bucket on S3."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from obstore.store import S3Store

_DIRECT: Final = getattr(os, "O_DIRECT", 0)  # Linux has it
_TIMEOUT: Final = timedelta(seconds=30)
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
S3: Final = "s3://"


class Store(Protocol):
    """Takes objects."""

    async def put(self, key: str, pages: memoryview, size: int) -> None:
        """Write an object, whole or not at all; raises whatever went wrong.

        It is the first `size` bytes of `pages`, which are whole pages and begin where one does.
        """
        ...


class Directory:
    """Files in a directory, which only the server's own user may read.

    They are written past the page cache where the system can: the pages that it would take for them, and
    that nobody here reads again, cost more processor time than all else about capture.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, pages: memoryview, size: int) -> None:
        """Write a file beside the event loop; raises `OSError`."""
        await asyncio.to_thread(self._write, self._root / key, pages, size)

    def _write(self, path: Path, pages: memoryview, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_suffix(".part")
        try:
            _write_pages(part, pages, size)
        except OSError:
            # Not every file system can, and some say so only when asked to write.
            part.unlink(missing_ok=True)
            part.touch(mode=0o600)
            part.write_bytes(pages[:size])
        part.replace(path)


def _write_pages(path: Path, pages: memoryview, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _DIRECT, 0o600)
    try:
        if os.pwrite(descriptor, pages, 0) != len(pages):
            raise OSError(errno.EIO, "written in part only")
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


class Bucket:
    """Objects in a bucket, with the credentials and the endpoint that AWS's variables name.

    The library works outside the interpreter's lock, so an upload costs the event loop nothing; it is
    loaded with the first object.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._store: S3Store | None = None

    async def put(self, key: str, pages: memoryview, size: int) -> None:
        """Write an object; raises the library's errors."""
        if self._store is None:
            self._store = await asyncio.to_thread(self._connect)
        # In one piece: pods have the right to put objects, and to nothing else.
        await self._store.put_async(self._prefix + key, bytes(pages[:size]), use_multipart=False)

    def _connect(self) -> S3Store:
        os.environ.setdefault("TOKIO_WORKER_THREADS", "1")
        from obstore.store import S3Store  # noqa: PLC0415  20 ms and 12 MiB, only for who needs it

        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        return S3Store(
            self._bucket,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": _CONNECT_TIMEOUT,
                "timeout": _TIMEOUT,
            },
            # Whoever puts tries again, counts the failures and knows when to stop.
            retry_config={"max_retries": 0, "retry_timeout": _TIMEOUT},
        )


def store(target: str) -> Store:
    """Return the store of `s3://bucket/prefix` or of a directory."""
    if not target.startswith(S3):
        return Directory(Path(target))
    bucket, _, prefix = target.removeprefix(S3).partition("/")
    prefix = prefix.strip("/")
    return Bucket(bucket, f"{prefix}/" if prefix else "")
