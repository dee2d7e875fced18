"""The messages of the Open Inference Protocol over gRPC, and of gRPC's health checking.

Their classes are made from the tables below when this module is imported, so there is no generated code to
keep. Only what the server reads or writes is named: protobuf skips all else, parameters for example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INFERENCE: Final = "inference"
HEALTH: Final = "grpc.health.v1"

TABLES: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    INFERENCE: {
        "ServerLiveResponse": ["bool live = 1"],
        "ServerReadyResponse": ["bool ready = 1"],
        "ModelReadyRequest": ["string name = 1", "string version = 2"],
        "ModelReadyResponse": ["bool ready = 1"],
        "ServerMetadataResponse": ["string name = 1", "string version = 2", "repeated string extensions = 3"],
        "ModelMetadataRequest": ["string name = 1", "string version = 2"],
        "ModelMetadataResponse": [
            "string name = 1",
            "repeated string versions = 2",
            "string platform = 3",
            "repeated TensorMetadata inputs = 4",
            "repeated TensorMetadata outputs = 5",
        ],
        "TensorMetadata": ["string name = 1", "string datatype = 2", "repeated int64 shape = 3"],
        "ModelInferRequest": [
            "string model_name = 1",
            "string model_version = 2",
            "string id = 3",
            "repeated InferInputTensor inputs = 5",
            "repeated InferRequestedOutputTensor outputs = 6",
            "repeated bytes raw_input_contents = 7",
        ],
        "InferInputTensor": [
            "string name = 1",
            "string datatype = 2",
            "repeated int64 shape = 3",
            "InferTensorContents contents = 5",
        ],
        "InferRequestedOutputTensor": ["string name = 1"],
        "InferTensorContents": [
            "repeated bool bool_contents = 1",
            "repeated int32 int_contents = 2",
            "repeated int64 int64_contents = 3",
            "repeated uint32 uint_contents = 4",
            "repeated uint64 uint64_contents = 5",
            "repeated float fp32_contents = 6",
            "repeated double fp64_contents = 7",
            "repeated bytes bytes_contents = 8",
        ],
        "ModelInferResponse": [
            "string model_name = 1",
            "string model_version = 2",
            "string id = 3",
            "repeated InferOutputTensor outputs = 5",
            "repeated bytes raw_output_contents = 6",
        ],
        "InferOutputTensor": [
            "string name = 1",
            "string datatype = 2",
            "repeated int64 shape = 3",
            "InferTensorContents contents = 5",
        ],
        "RepositoryIndexResponse": ["repeated ModelIndex models = 1"],
        "ModelIndex": ["string name = 1", "string version = 2", "string state = 3"],
    },
    HEALTH: {
        "HealthCheckRequest": ["string service = 1"],
        "HealthCheckResponse": ["ServingStatus status = 1"],
    },
}
"""Package → message → its fields, as a .proto file has them."""

_ENUMS: Final = {HEALTH: {"ServingStatus": ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]}}


def _classes(package: str) -> dict[str, Any]:
    """Make the message classes of a package."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    enums = _ENUMS.get(package, {})
    for name, values in enums.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, lines in TABLES[package].items():
        message = file.message_type.add(name=name)
        for line in lines:
            *repeated, kind, called, _, number = line.split()
            made = message.field.add(name=called, number=int(number))
            made.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind[0].islower():
                made.type = field.Type.Value(f"TYPE_{kind.upper()}")
            else:
                made.type = field.TYPE_ENUM if kind in enums else field.TYPE_MESSAGE
                made.type_name = f".{package}.{kind}"
    # A pool of its own: a client in the same process may have generated code of the same package.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in TABLES[package]
    }


_inference, _health = _classes(INFERENCE), _classes(HEALTH)

ServerLiveResponse: Final = _inference["ServerLiveResponse"]
ServerReadyResponse: Final = _inference["ServerReadyResponse"]
ModelReadyRequest: Final = _inference["ModelReadyRequest"]
ModelReadyResponse: Final = _inference["ModelReadyResponse"]
ServerMetadataResponse: Final = _inference["ServerMetadataResponse"]
ModelMetadataRequest: Final = _inference["ModelMetadataRequest"]
ModelMetadataResponse: Final = _inference["ModelMetadataResponse"]
ModelInferRequest: Final = _inference["ModelInferRequest"]
ModelInferResponse: Final = _inference["ModelInferResponse"]
InferOutputTensor: Final = _inference["InferOutputTensor"]
RepositoryIndexResponse: Final = _inference["RepositoryIndexResponse"]
HealthCheckRequest: Final = _health["HealthCheckRequest"]
HealthCheckResponse: Final = _health["HealthCheckResponse"]
