"""A gRPC client of the Open Inference Protocol: grpcio and the messages as their field numbers have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np

from serving import grpc_messages as messages

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"


class GrpcClient:
    """One connection to a server's gRPC port."""

    def __init__(self, port: int) -> None:
        # Channels of a process share connections unless they are told not to.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def raw(self, method: str, body: bytes = b"", **more: Any) -> bytes:
        """Send bytes as they are to a method; return the answer's."""
        answer: bytes = self.channel.unary_unary(method)(body, timeout=20, wait_for_ready=True, **more)
        return answer

    def ask(self, name: str, response: Any, request: Any = None) -> Any:
        """Call a method of the inference service."""
        body = b"" if request is None else request.SerializeToString()
        return response.FromString(self.raw(f"/{SERVICE}/{name}", body))

    def health(self, service: str = "") -> int:
        request = messages.HealthCheckRequest(service=service)
        answer = self.raw(f"/{HEALTH}/Check", request.SerializeToString())
        return int(messages.HealthCheckResponse.FromString(answer).status)

    def infer(self, request: Any) -> Any:
        return self.ask("ModelInfer", messages.ModelInferResponse, request)

    def refused(self, request: Any) -> tuple[grpc.StatusCode, str]:
        """Return how an inference request is refused."""
        try:
            answer = self.infer(request)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""  # pyright: ignore[reportAttributeAccessIssue]
        raise AssertionError(answer)


def typed(name: str, datatype: str, shape: Sequence[int], field: str, values: Sequence[Any]) -> Any:
    """A tensor with contents of a type."""
    return {"name": name, "datatype": datatype, "shape": shape, "contents": {field: values}}


def infer(*inputs: Any, raw: Sequence[bytes] = (), **fields: Any) -> Any:
    """An inference request for the model of the tests."""
    named = {"model_name": "flights", **fields}
    return messages.ModelInferRequest(inputs=inputs, raw_input_contents=raw, **named)


def whole(rows: Sequence[Sequence[float]], **fields: Any) -> Any:
    """A request of one raw FP32 tensor."""
    matrix = np.array(rows, dtype="<f4")
    tensor = {"name": "input", "datatype": "FP32", "shape": matrix.shape}
    return infer(tensor, raw=[matrix.tobytes()], **fields)


def predictions(answer: Any) -> Any:
    """The predictions of an answer, whichever way it has them."""
    (output,) = answer.outputs
    assert (output.name, output.datatype) == ("predictions", "FP32")
    if answer.raw_output_contents:
        (data,) = answer.raw_output_contents
        return np.frombuffer(data, dtype="<f4").reshape(list(output.shape))
    return np.array(output.contents.fp32_contents, dtype=np.float32).reshape(list(output.shape))
