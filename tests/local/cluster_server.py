"""The server inside the tests' images: standard library only, drains as a good server does.

`/ping` answers by the file `ready` beside the model; every other path tells the version. A model file `crash`
ends the process at once. SIGTERM: no more connections, a last answer with `Connection: close` on each; with a
model file `stubborn`: nothing.
"""

import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

MODEL = Path(os.environ["SERVING_MODEL_DIR"])
VERSION = (MODEL / "version").read_text()
READY = (MODEL / "ready").read_text() == "yes"
STUBBORN = (MODEL / "stubborn").exists()
DRAIN_S = 0.5


class Server:
    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.connections: set[asyncio.StreamWriter] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while await self.exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        status, answer = respond(head.split()[1], len(body))
        close = self.draining.is_set() or "connection: close" in head
        text = json.dumps(answer)
        fields = f"Content-Length: {len(text)}\r\nConnection: {'close' if close else 'keep-alive'}"
        writer.write(f"HTTP/1.1 {status} X\r\n{fields}\r\n\r\n{text}".encode())
        await writer.drain()
        return not close

    def on_term(self) -> None:
        sys.stdout.write(f"term {time.time()}\n")
        sys.stdout.flush()
        if not STUBBORN:
            self.draining.set()


def respond(path: str, length: int) -> tuple[int, dict[str, object]]:
    if path == "/ping":
        return (200 if READY else 503), {}
    if path == "/die":
        os._exit(7)
    if path == "/environment":
        return 200, dict(os.environ)
    return 200, {"version": VERSION, "pid": os.getpid(), "received": length}


async def main() -> None:
    server = Server()
    listening = await asyncio.start_server(
        server.handle, os.environ["SERVING_HOST"], int(os.environ["SERVING_PORT"])
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.on_term)
    await server.draining.wait()
    listening.close()
    until = time.monotonic() + DRAIN_S
    while server.connections and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    os._exit(0)


if (MODEL / "crash").exists():
    sys.exit("no such model")
asyncio.run(main())
