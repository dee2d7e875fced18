"""What captures say, and a stand-in for S3 that fails as a test wants."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

from tests.serving.serving_support import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = re.compile(
    r"flights/(?P<variant>[\w-]+)/20\d\d/[01]\d/[0-3]\d/[0-2]\d/"
    r"[0-5]\d-[0-5]\d-\d{3}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.jsonl"
)


def captured(directory: Path) -> list[dict[str, Any]]:
    """All records under a directory, in the order of their events; every file has the name it should."""
    found: list[dict[str, Any]] = []
    for path in directory.rglob("*.jsonl"):  # a file that is being written has another name
        assert KEY.fullmatch(str(path.relative_to(directory))), path
        found += map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return sorted(found, key=lambda record: record["eventMetadata"]["eventId"])


def data(record: dict[str, Any], side: Literal["endpointInput", "endpointOutput"]) -> bytes:
    """The body that a record tells of."""
    part = record["captureData"][side]
    return base64.b64decode(part["data"]) if part["encoding"] == "BASE64" else part["data"].encode()


def metric(port: int, name: str) -> float:
    """What the server counts."""
    with Client(port) as client:
        text = client.ask("GET", "/metrics").body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


class FakeS3:
    """Takes objects, answers 503, or never answers; `objects` are those that it took."""

    def __init__(self) -> None:
        self.mode: Literal["take", "fail", "hang"] = "take"
        self.objects: dict[str, bytes] = {}
        self.credentials_asked: list[str] = []
        self.signed_with: set[str] = set()
        self._released = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.credentials_asked.append(self.headers["Authorization"])
                document = {
                    "AccessKeyId": "pod",
                    "SecretAccessKey": "secret",
                    "Token": "token",
                    "Expiration": "2099-01-01T00:00:00Z",
                }
                self.answer(200, json.dumps(document).encode())

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fake.signed_with.add(self.headers["Authorization"].partition("Credential=")[2].split("/")[0])
                if fake.mode == "hang":
                    fake._released.wait(60)
                if fake.mode != "take":
                    self.answer(503, b"")
                    return
                fake.objects[self.path.removeprefix("/")] = body
                self.answer(200, b"")

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("ETag", '"tag"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  so it is called
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for body in list(self.objects.values()) for line in body.splitlines()]

    def environment(self) -> dict[str, str]:
        """What a pod has that may write here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def stop(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
