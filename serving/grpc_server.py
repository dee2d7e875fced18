"""The Open Inference Protocol over gRPC, and gRPC's health checking, on a port of its own in this process.

It shares models, batches, metrics and readiness with the HTTP server. Imported only if the port is wanted.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from serving import grpc_messages as messages
from serving import inference, log
from serving.context import REQUEST_ID, new_id, of
from serving.context import Context as Own
from serving.errors import RequestError, TurnedAwayError
from serving.grpc_gate import Gate
from serving.grpc_infer import Call, CallHead, GrpcInfer
from serving.large import Large

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from serving.models import Entry, Models
    from serving.server import Server
    from serving.settings import Settings

    Plan = Callable[[Call], None]
    Context = grpc.aio.ServicerContext[bytes, bytes]

_SERVICE: Final = f"{messages.INFERENCE}.GRPCInferenceService"
_HEALTH: Final = f"{messages.HEALTH}.Health"
_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
# As nginx has it: the client has gone, or its deadline has passed. Nobody sees this answer.
_GONE: Final = 499
_POLL_SECONDS: Final = 0.5
_DRAIN_TICK_SECONDS: Final = 0.05
_LAST_SECONDS: Final = 5.0


class GrpcServer:
    """Answers the calls of one port."""

    def __init__(self, settings: Settings, models: Models, server: Server) -> None:
        self._settings = settings
        self._models = models
        self._server = server
        self._large = Large()
        self._own = {name.decode() for name in server.own_headers}
        self._infers: dict[str, GrpcInfer] = {}
        self._changed, models.changed = models.changed, self._forget
        self._gate = Gate(self._infer)
        self._loop = asyncio.get_running_loop()
        self._last_call = time.perf_counter()
        self._calls = 0
        self._leaving = False  # the drain is over

    async def start(self, shared_port: int | None = None) -> int:
        """Listen; return the port; raises `OSError`. `shared_port` is that of several workers."""
        self._grpc = grpc.aio.server(
            options=options(self._settings, shared=shared_port is not None),
            maximum_concurrent_rpcs=self._settings.grpc_max_calls,
        )
        self._grpc.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(_SERVICE, self._inference_methods()),
                grpc.method_handlers_generic_handler(_HEALTH, self._health_methods()),
            )
        )
        host = self._settings.host
        address = f"[{host}]" if ":" in host else host
        port = self._settings.grpc_port if shared_port is None else shared_port
        try:
            port = self._grpc.add_insecure_port(f"{address}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from error
        await self._grpc.start()
        return int(port)

    async def drain(self) -> None:
        """Serve on until nobody calls any more or the drain period ends, then close everything.

        Connections end by their age (see `options`) while new calls are still answered, so a client that
        finds another server loses nothing.
        """
        deadline = time.perf_counter() + self._settings.drain_seconds
        self._last_call = time.perf_counter()
        while (now := time.perf_counter()) < deadline:
            if not self._calls and now - self._last_call >= self._settings.settle_seconds:
                break
            await asyncio.sleep(_DRAIN_TICK_SECONDS)
        self._leaving = True
        log.info("gRPC drained", calls=self._calls)
        await self._grpc.stop(_LAST_SECONDS)

    # --- how a call is answered ---

    def _unary(self, target: str, route: str, plan: Plan) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Have calls answered by `plan`, at once or later; what it raises becomes the call's status."""
        server, head = self._server, CallHead(target, route)

        async def handle(body: bytes, context: Context) -> bytes:
            own = self._context_of(context.invocation_metadata() or ())
            call = Call(head, body, own, self._loop.create_future())
            self._last_call = call.started
            self._calls += 1
            server.in_flight += 1
            status = _GONE
            try:
                plan(call)
                await call.done
                status = 200
                if own is not None and own.returned:
                    context.set_trailing_metadata(_named(own))
            except Exception as error:  # noqa: BLE001  a defect must cost one call, not the process
                refused = self._refusal(error, route)
                status = refused.status
                own = call.context = own or Own({})
                own.request_id = own.request_id or new_id()
                code = _CODES.get(status, grpc.StatusCode.INTERNAL)
                await context.abort(code, refused.message, _named(own))
            finally:
                self._calls -= 1
                server.count(call, status)
            return call.answer or b""

        return grpc.unary_unary_rpc_method_handler(handle)

    def _context_of(self, metadata: Iterable[tuple[str, str | bytes]]) -> Own | None:
        own = self._own
        found = [
            (key.encode(), value.encode()) for key, value in metadata if key in own and isinstance(value, str)
        ]
        return of(found) if found else None

    def _refusal(self, error: Exception, route: str) -> RequestError:
        if isinstance(error, TurnedAwayError):
            self._server.metrics.turned_away[error.cause] += 1
        if isinstance(error, RequestError):
            return error
        if isinstance(error, DecodeError):
            return RequestError(400, "malformed protobuf")
        log.error("internal error", error, route=route)
        return RequestError(500, "internal error")

    # --- inference.GRPCInferenceService ---

    def _inference_methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        plans: dict[str, tuple[str, Plan]] = {
            "ServerLive": ("grpc_live", self._live),
            "ServerReady": ("grpc_ready", self._ready),
            "ModelReady": ("grpc_model_ready", self._model_ready),
            "ServerMetadata": ("grpc_server", self._describe_server),
            "ModelMetadata": ("grpc_model", self._describe_model),
            "RepositoryIndex": ("grpc_index", self._index),
            "ModelInfer": ("grpc_infer", self._gate.enter),
        }
        return {name: self._unary(f"/{_SERVICE}/{name}", *plan) for name, plan in plans.items()}

    def _serving(self) -> bool:
        if self._server.draining:
            return False
        try:
            self._models.check_everywhere()
        except RequestError:
            return False
        return True

    @staticmethod
    def _live(call: Call) -> None:
        call.respond(messages.ServerLiveResponse(live=True).SerializeToString())

    def _ready(self, call: Call) -> None:
        call.respond(messages.ServerReadyResponse(ready=self._serving()).SerializeToString())

    def _model_ready(self, call: Call) -> None:
        request = messages.ModelReadyRequest.FromString(call.body)
        entry = self._models.entries.get(request.name)
        there = entry is not None and request.version in {"", entry.model.version}
        call.respond(messages.ModelReadyResponse(ready=there and self._serving()).SerializeToString())

    @staticmethod
    def _describe_server(call: Call) -> None:
        found = messages.ServerMetadataResponse(name=inference.SERVER, version=inference.VERSION)
        call.respond(found.SerializeToString())

    def _describe_model(self, call: Call) -> None:
        request = messages.ModelMetadataRequest.FromString(call.body)
        entry = inference.find(self._models, request.name, request.version or None)
        call.respond(messages.ModelMetadataResponse(**inference.described(entry)).SerializeToString())

    def _index(self, call: Call) -> None:
        entries = self._models.entries.values()
        found = [{"name": entry.name, "version": entry.model.version, "state": "READY"} for entry in entries]
        call.respond(messages.RepositoryIndexResponse(models=found).SerializeToString())

    def _infer(self, call: Call) -> None:
        request = messages.ModelInferRequest.FromString(call.body)
        entry = self._entry(request.model_name)
        infer = self._infers.get(entry.name)
        if infer is None:
            infer = self._infers[entry.name] = GrpcInfer(entry, self._large)
        infer.run(call, request)

    def _forget(self) -> None:
        """Keep nothing of models that may have gone."""
        self._infers.clear()
        self._changed()

    def _entry(self, name: str) -> Entry:
        """Return the model of a request, which may name none; raises `RequestError`."""
        return self._models.get(name) if name else self._models.default() or self._models.draw()

    # --- grpc.health.v1.Health ---

    def _health_methods(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        return {
            "Check": self._unary(f"/{_HEALTH}/Check", "grpc_health", self._check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }

    def _check(self, call: Call) -> None:
        service = messages.HealthCheckRequest.FromString(call.body).service
        if service not in {"", _SERVICE}:
            raise RequestError(404, f"there is no service {service!r:.80}")
        call.respond(self._health())

    def _health(self) -> bytes:
        status = "SERVING" if self._serving() else "NOT_SERVING"
        return messages.HealthCheckResponse(status=status).SerializeToString()

    async def _watch(self, body: bytes, context: Context) -> AsyncIterator[bytes]:
        """Tell the state, and tell it again whenever it has changed."""
        try:
            service = messages.HealthCheckRequest.FromString(body).service
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "malformed protobuf")
        known, told = service in {"", _SERVICE}, b""
        while not self._leaving:
            now = (
                self._health()
                if known
                else messages.HealthCheckResponse(status="SERVICE_UNKNOWN").SerializeToString()
            )
            if now != told:
                told = now
                yield now
            await asyncio.sleep(_POLL_SECONDS)


def _named(own: Own) -> tuple[tuple[str, str], ...]:
    """Return the metadata that name a request."""
    return ((REQUEST_ID.decode(), own.request_id.decode()),)


def options(settings: Settings, *, shared: bool) -> list[tuple[str, Any]]:
    """Return gRPC's names for the server's limits."""
    return [
        # Among workers the kernel deals out connections; else two on one port are a mistake nobody sees.
        ("grpc.so_reuseport", int(shared)),
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        ("grpc.max_concurrent_streams", settings.grpc_max_calls),
        # A connection lives long, and would keep its client at this server. So each is told to make another
        # before long: then clients find new servers, and a drain ends without cutting anybody off.
        ("grpc.max_connection_age_ms", max(1000, int(settings.drain_seconds * 500))),
        ("grpc.max_connection_age_grace_ms", int(settings.request_seconds * 1000)),
    ]
