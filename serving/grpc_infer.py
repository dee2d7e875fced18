"""Inference requests of gRPC: the message's tensors are read, predicted and answered."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from serving import tensors
from serving.errors import RequestError
from serving.grpc_messages import InferOutputTensor, ModelInferResponse
from serving.inference import OUTPUT, Inference
from serving.tensors import Tensor

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from serving.batch import Batch, Reply
    from serving.context import Context
    from serving.large import Large
    from serving.metrics import Histogram
    from serving.models import Entry
    from serving.records import Form

# Where the contents of each datatype stand in the message; half precision has no place there.
_CONTENTS: Final = {
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
}


GRPC: Final = b"application/grpc"


class CallHead:
    """What all calls of a method have in common, as observers want it (`observe.ObservedHead`)."""

    __slots__ = ("forms", "headers", "method", "route", "target")

    def __init__(self, target: str, route: str) -> None:
        self.method = b"POST"  # as HTTP/2 has it
        self.target = target.encode()
        self.route = route
        self.headers = {b"content-type": GRPC}
        self.forms: dict[object, Form] | None = None


class Call:
    """A call, and the place of its answer; `done` has no result but is set when the answer is there.

    `context` and `event` are as in `exchange.Exchange`.
    """

    __slots__ = ("answer", "body", "context", "done", "event", "head", "started")

    def __init__(
        self, head: CallHead, body: bytes, context: Context | None, done: asyncio.Future[None]
    ) -> None:
        self.head = head
        self.body = body
        self.context = context
        self.done = done
        self.started = perf_counter()
        self.answer: bytes | None = None
        self.event = b""

    def respond(self, message: bytes) -> None:
        """Answer, unless the client has gone."""
        self.answer = message
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Answer with a refusal or a defect, unless the client has gone."""
        if not self.done.done():
            self.done.set_exception(error)


class GrpcReply:
    """Answers with the predictions as the request brought its values: as bytes, or as a list of floats.

    Two messages in a row are for protobuf one with the fields of both, so what is the same in every answer
    is made once and stands before what is not.
    """

    __slots__ = ("_before", "_raw", "content_type", "seconds")

    def __init__(self, seconds: Histogram, before: bytes, *, raw: bool) -> None:
        self.seconds = seconds
        self.content_type = GRPC
        self._before = before
        self._raw = raw

    def send(self, request: Call, batch: Batch, start: int, stop: int) -> bytes:
        """Answer."""
        part = batch.predictions[start:stop]
        output = InferOutputTensor(name=OUTPUT, datatype="FP32", shape=part.shape)
        message = ModelInferResponse()
        if self._raw:
            message.raw_output_contents.append(part.astype("<f4").tobytes())
        else:
            output.contents.fp32_contents.extend(part.ravel().tolist())
        message.outputs.append(output)
        body = self._before + message.SerializeToString()
        request.respond(body)
        return body


class GrpcInfer:
    """Answers inference requests from one model."""

    def __init__(self, entry: Entry, large: Large) -> None:
        self.entry = entry
        self._inference = Inference(entry, large)

    def run(self, call: Call, request: Any) -> None:  # noqa: ANN401  a ModelInferRequest
        """Answer a request, now or with its batch; raises `RequestError`."""
        version = self.entry.model.version
        if request.model_version and request.model_version != version:
            raise RequestError(404, f"the version of {self.entry.name!r:.80} is {version!r}")
        outputs = request.outputs
        if len(outputs) > 1 or (outputs and outputs[0].name != OUTPUT):
            raise RequestError(400, f"outputs: the only one is {OUTPUT!r}")
        found = read(request)
        self._inference.take(call, self._reply(request.id, raw=bool(request.raw_input_contents)), found)

    def _reply(self, name: str, *, raw: bool) -> Reply:
        if name:
            return self._made(name, raw=raw)
        key = ("grpc", raw)
        reply = self.entry.replies.get(key)
        if reply is None:
            reply = self.entry.replies[key] = self._made("", raw=raw)
        return reply

    def _made(self, name: str, *, raw: bool) -> GrpcReply:
        entry = self.entry
        before = ModelInferResponse(model_name=entry.name, model_version=entry.model.version, id=name)
        return GrpcReply(entry.metrics.seconds("grpc"), before.SerializeToString(), raw=raw)


def read(request: Any) -> list[Tensor]:  # noqa: ANN401  a ModelInferRequest
    """Return the tensors of a request; raises `RequestError`."""
    inputs, raw = request.inputs, request.raw_input_contents
    if not inputs:
        raise RequestError(400, "inputs: want at least one tensor")
    if not raw:
        return [_from_contents(item, f"inputs[{index}]") for index, item in enumerate(inputs)]
    if len(raw) != len(inputs):
        raise RequestError(400, f"raw_input_contents: want {len(inputs)}, one a tensor, got {len(raw)}")
    found: list[Tensor] = []
    for index, (item, data) in enumerate(zip(inputs, raw, strict=True)):
        where = f"inputs[{index}]"
        if item.HasField("contents"):
            raise RequestError(400, f"{where}: has contents beside raw_input_contents")
        datatype = tensors.check_datatype(item.datatype, where)
        found.append(tensors.from_bytes(item.name, datatype, list(item.shape), data, where))
    return found


def _from_contents(item: Any, where: str) -> Tensor:  # noqa: ANN401  an InferInputTensor
    datatype, shape = tensors.check_datatype(item.datatype, where), list(item.shape)
    field = _CONTENTS.get(datatype)
    if field is None:
        raise RequestError(400, f"{where}: {datatype} comes in raw_input_contents only")
    wanted = tensors.count(shape, where)
    values: list[Any] = list(getattr(item.contents, field))
    if len(values) != wanted:
        raise RequestError(400, f"{where}: the shape wants {wanted} {field}, there are {len(values)}")
    if datatype == "BYTES":
        return Tensor(item.name, shape, _texts(values, where))
    kind = np.dtype(tensors.NUMPY[datatype])
    if kind.kind in "iu" and values:
        limits = np.iinfo(kind)
        if min(values) < limits.min or max(values) > limits.max:
            raise RequestError(400, f"{where}: a number is out of the range of {datatype}")
    return Tensor(item.name, shape, np.array(values, dtype=kind))


def _texts(values: Sequence[bytes], where: str) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise RequestError(400, f"{where}: a text is not UTF-8") from error
