"""An HTTP server that answers without doing anything: what a model server could reach at best.

`python floor.py ANSWERS` with a JSON object of whole HTTP answers by target; prints the port. Run by the
serving environment, and by nothing of the model server's own code.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import httptools
import uvloop


class Floor(asyncio.Protocol):
    """One connection: parse the request whole, write the recorded answer."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Take the target."""
        self._target = url

    def on_message_complete(self) -> None:
        """Answer."""
        if self._transport is not None:
            self._transport.write(self._answers[self._target])


async def _serve(answers: dict[bytes, bytes]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Floor(answers), "127.0.0.1", int(sys.argv[2]))
    await server.serve_forever()


if __name__ == "__main__":
    recorded: dict[str, str] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    uvloop.run(_serve({key.encode(): value.encode("latin-1") for key, value in recorded.items()}))
