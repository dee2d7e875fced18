"""A gRPC server that answers without doing anything: what a model server of the same library could reach.

`python grpc_floor.py ANSWER PORT` with a file of the message to answer every call with. Run by the serving
environment, on the event loop that the model server has, and by nothing of the model server's own code.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop


async def _serve(answer: bytes, port: int) -> None:
    async def handle(_message: bytes, _context: object) -> bytes:
        return answer

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(handle)
    }
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]).read_bytes(), int(sys.argv[2])))
