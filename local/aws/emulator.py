"""What the hooks share: where the server listens, where its files are, who is told when it stops."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boto3.session import Session
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("local.aws")

_CONFIG = Config(
    retries={"max_attempts": 2, "mode": "standard"},
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


@dataclass
class Emulator:
    """One running server.

    Attributes:
        run_dir: everything that it writes lies below.
        registry: `HOST:PORT` of the image registry.
        endpoint: `http://127.0.0.1:PORT` of this server.
    """

    run_dir: Path
    registry: str
    endpoint: str
    stopping: threading.Event = field(default_factory=threading.Event)
    _at_stop: list[Callable[[], None]] = field(default_factory=list)
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.background = ThreadPoolExecutor(max_workers=16, thread_name_prefix="background")

    def client(self, service: str, region: str) -> Any:
        """A boto3 client of this very server; clients are shared, making one takes tens of milliseconds."""
        with self._lock:
            key = (service, region)
            if key not in self._clients:
                session = Session("local", "local", region_name=region)
                self._clients[key] = session.client(service, endpoint_url=self.endpoint, config=_CONFIG)
            return self._clients[key]

    def run(self, work: Callable[..., None], *args: Any) -> None:
        """Do `work` off the request's thread; its exceptions are logged."""

        def guarded() -> None:
            try:
                work(*args)
            except Exception:
                if not self.stopping.is_set():
                    log.exception("%s failed", getattr(work, "__qualname__", work))

        if not self.stopping.is_set():
            self.background.submit(guarded)

    def thread(self, name: str, target: Callable[[], None]) -> None:
        """Start a thread that ends when `stopping` is set."""
        threading.Thread(target=target, name=name, daemon=True).start()

    def at_stop(self, action: Callable[[], None]) -> None:
        """Have `action` called when the server stops."""
        self._at_stop.append(action)

    def stop(self) -> None:
        """Stop what runs in the background, without waiting for it to finish its work."""
        self.stopping.set()
        self.background.shutdown(wait=False, cancel_futures=True)
        for action in reversed(self._at_stop):
            try:
                action()
            except Exception:
                log.exception("while stopping")
