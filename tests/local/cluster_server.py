"""The server inside the tests' images: standard library only, drains as a good server does.

`/ping` answers by the file `ready` beside the model; every other path tells the version. A model file `crash`
ends the process at once. SIGTERM: no more connections, a last answer with `Connection: close` on each.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

MODEL = Path(os.environ["SERVING_MODEL_DIR"])
VERSION = (MODEL / "version").read_text()
READY = (MODEL / "ready").read_text() == "yes"
STUBBORN = (MODEL / "stubborn").exists()
DRAIN_S = 0.5


async def main() -> None:
    print(f"start {time.time()}", flush=True)
    draining = asyncio.Event()
    connections: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                length = next(
                    (
                        int(line[15:])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length:")
                    ),
                    0,
                )
                await reader.readexactly(length)
                status, body = answer(path, length)
                close = draining.is_set() or b"connection: close" in head.lower()
                text = json.dumps(body).encode()
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n"
                    f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n".encode()
                    + text
                )
                await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            connections.discard(task)
            writer.close()

    def answer(path: str, length: int) -> tuple[int, dict[str, object]]:
        if path == "/ping":
            return (200 if READY else 503), {}
        if path == "/die":
            os._exit(7)
        if path == "/environment":
            return 200, dict(os.environ)
        return 200, {"version": VERSION, "pid": os.getpid(), "received": length}

    server = await asyncio.start_server(handle, os.environ["SERVING_HOST"], int(os.environ["SERVING_PORT"]))
    loop = asyncio.get_running_loop()

    def on_term() -> None:
        print(f"term {time.time()}", flush=True)
        if not STUBBORN:
            draining.set()

    loop.add_signal_handler(signal.SIGTERM, on_term)
    await draining.wait()
    server.close()
    until = loop.time() + DRAIN_S
    while connections and loop.time() < until:
        await asyncio.sleep(0.01)
    sys.stdout.flush()
    os._exit(0)


if (MODEL / "crash").exists():
    sys.exit("no such model")
asyncio.run(main())
