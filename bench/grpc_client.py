"""The Open Inference Protocol over gRPC as a client has it: requests, answers, and single calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bench.sample import FEATURES, NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.sample import Row

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
_PATIENCE_S: Final = 20.0

# What is used of each message: the numbers are the protocol's, every other field is skipped.
_MESSAGES: Final[dict[str, list[tuple[int, str, str]]]] = {
    "InferInputTensor": [(1, "name", "string"), (2, "datatype", "string"), (3, "shape", "repeated int64")],
    "ModelInferRequest": [
        (1, "model_name", "string"),
        (5, "inputs", "repeated InferInputTensor"),
        (7, "raw_input_contents", "repeated bytes"),
    ],
    "ModelInferResponse": [(6, "raw_output_contents", "repeated bytes")],
}


class CallError(Exception):
    """A call was refused, failed, or was answered with what is no answer."""


def encode(rows: Sequence[Row]) -> bytes:
    """Return the message that asks for the predictions of these rows."""
    request = _request()
    request.model_name = NAME
    request.inputs.add(name="input-0", datatype="FP32", shape=[len(rows), FEATURES])
    request.raw_input_contents.append(np.array(rows, dtype="<f4").tobytes())
    return bytes(request.SerializeToString())


def decode(message: bytes) -> list[float]:
    """Return the predictions in an answer; raises `CallError`."""
    try:
        raw: Sequence[bytes] = _response.FromString(message).raw_output_contents
        found: list[float] = np.frombuffer(raw[0], dtype="<f4").tolist()
    except (DecodeError, IndexError, ValueError) as error:
        raise CallError(f"{error!r} in {message[:120]!r}") from error
    return found


def call(port: int, message: bytes) -> bytes:
    """Send one message on a connection of its own; return the answer's; raises `CallError`."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: Any = channel.unary_unary(METHOD)
        try:
            return bytes(ask(message, timeout=_PATIENCE_S))
        except grpc.RpcError as error:
            status: Any = error
            raise CallError(f"{status.code().name}: {status.details()}"[:200]) from error


def _classes() -> dict[str, Any]:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="inference", syntax="proto3")
    for name, lines in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, called, kind in lines:
            made = message.field.add(name=called, number=number)
            made.label = field.LABEL_REPEATED if kind.startswith("repeated ") else field.LABEL_OPTIONAL
            kind_name = kind.removeprefix("repeated ")
            if kind_name in _MESSAGES:
                made.type, made.type_name = field.TYPE_MESSAGE, f".inference.{kind_name}"
            else:
                made.type = field.Type.Value(f"TYPE_{kind_name.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
        for name in _MESSAGES
    }


_made = _classes()
_request, _response = _made["ModelInferRequest"], _made["ModelInferResponse"]
