"""Defines the messages of ``inference.GRPCInferenceService``, with the numbers of KServe and Triton.

They are in a descriptor pool of their own: in the default one they would clash with the files of another
library whose package is also called `inference`. As usual with protocol buffers, a field that is missing here
is skipped when it is read. Of Triton's model configuration only the fields with a meaning here are defined.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["METHODS", "POOL", "SERVICE", "STREAM", "message_class"]

_PACKAGE: Final = "inference"
SERVICE: Final = f"{_PACKAGE}.GRPCInferenceService"
METHODS: Final = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)
"""Calls with one request and one response, such as ``ServerLiveRequest`` and ``ServerLiveResponse``."""
STREAM: Final = "ModelStreamInfer"
"""The call with many requests and many responses."""

# Each message lists its fields as name, type and number. "*" means repeated, "{}" a map from strings, and a
# fourth word names the oneof that the field belongs to.
_MESSAGES: Final = """
ServerLiveRequest:
ServerLiveResponse: live bool 1
ServerReadyRequest:
ServerReadyResponse: ready bool 1
ModelReadyRequest: name string 1, version string 2
ModelReadyResponse: ready bool 1

ServerMetadataRequest:
ServerMetadataResponse: name string 1, version string 2, extensions string* 3
ModelMetadataRequest: name string 1, version string 2
ModelMetadataResponse: name string 1, versions string* 2, platform string 3,
    inputs ModelMetadataResponse.TensorMetadata* 4, outputs ModelMetadataResponse.TensorMetadata* 5
ModelMetadataResponse.TensorMetadata: name string 1, datatype string 2, shape int64* 3

InferParameter: bool_param bool 1 parameter_choice, int64_param int64 2 parameter_choice,
    string_param string 3 parameter_choice, double_param double 4 parameter_choice,
    uint64_param uint64 5 parameter_choice
InferTensorContents: bool_contents bool* 1, int_contents int32* 2, int64_contents int64* 3,
    uint_contents uint32* 4, uint64_contents uint64* 5, fp32_contents float* 6, fp64_contents double* 7,
    bytes_contents bytes* 8
ModelInferRequest: model_name string 1, model_version string 2, id string 3, parameters InferParameter{} 4,
    inputs ModelInferRequest.InferInputTensor* 5, outputs ModelInferRequest.InferRequestedOutputTensor* 6,
    raw_input_contents bytes* 7
ModelInferRequest.InferInputTensor: name string 1, datatype string 2, shape int64* 3,
    parameters InferParameter{} 4, contents InferTensorContents 5
ModelInferRequest.InferRequestedOutputTensor: name string 1, parameters InferParameter{} 2
ModelInferResponse: model_name string 1, model_version string 2, id string 3, parameters InferParameter{} 4,
    outputs ModelInferResponse.InferOutputTensor* 5, raw_output_contents bytes* 6
ModelInferResponse.InferOutputTensor: name string 1, datatype string 2, shape int64* 3,
    parameters InferParameter{} 4, contents InferTensorContents 5
ModelStreamInferResponse: error_message string 1, infer_response ModelInferResponse 2

ModelConfigRequest: name string 1, version string 2
ModelConfigResponse: config ModelConfig 1
ModelConfig: name string 1, platform string 2, version_policy ModelVersionPolicy 3, max_batch_size int32 4,
    input ModelInput* 5, output ModelOutput* 6, instance_group ModelInstanceGroup* 7,
    dynamic_batching ModelDynamicBatching 11 scheduling_choice, parameters ModelParameter{} 14,
    backend string 17, model_transaction_policy ModelTransactionPolicy 19
ModelVersionPolicy: latest ModelVersionPolicy.Latest 1 policy_choice
ModelVersionPolicy.Latest: num_versions uint32 1
ModelInput: name string 1, data_type DataType 2, dims int64* 4
ModelOutput: name string 1, data_type DataType 2, dims int64* 3
ModelInstanceGroup: name string 1, count int32 2, kind ModelInstanceGroup.Kind 4
ModelDynamicBatching: preferred_batch_size int32* 1, max_queue_delay_microseconds uint64 2
ModelParameter: string_value string 1
ModelTransactionPolicy: decoupled bool 1

ModelStatisticsRequest: name string 1, version string 2
ModelStatisticsResponse: model_stats ModelStatistics* 1
ModelStatistics: name string 1, version string 2, last_inference uint64 3, inference_count uint64 4,
    execution_count uint64 5, inference_stats InferStatistics 6, batch_stats InferBatchStatistics* 7
InferStatistics: success StatisticDuration 1, fail StatisticDuration 2, queue StatisticDuration 3,
    compute_input StatisticDuration 4, compute_infer StatisticDuration 5,
    compute_output StatisticDuration 6, cache_hit StatisticDuration 7, cache_miss StatisticDuration 8
InferBatchStatistics: batch_size uint64 1, compute_input StatisticDuration 2,
    compute_infer StatisticDuration 3, compute_output StatisticDuration 4
StatisticDuration: count uint64 1, ns uint64 2

RepositoryIndexRequest: repository_name string 1, ready bool 2
RepositoryIndexResponse: models RepositoryIndexResponse.ModelIndex* 1
RepositoryIndexResponse.ModelIndex: name string 1, version string 2, state string 3, reason string 4
RepositoryModelLoadRequest: repository_name string 1, model_name string 2,
    parameters ModelRepositoryParameter{} 3
RepositoryModelLoadResponse:
RepositoryModelUnloadRequest: repository_name string 1, model_name string 2,
    parameters ModelRepositoryParameter{} 3
RepositoryModelUnloadResponse:
ModelRepositoryParameter: bool_param bool 1 parameter_choice, int64_param int64 2 parameter_choice,
    string_param string 3 parameter_choice, bytes_param bytes 4 parameter_choice
"""

# The names of values, from number 0 up.
_ENUMS: Final = {
    "DataType": [
        f"TYPE_{name}"
        for name in (
            *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
            *("FP16", "FP32", "FP64", "STRING", "BF16"),
        )
    ],
    "ModelInstanceGroup.Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"],
}

_SCALARS: Final = frozenset(
    {"bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64"}
)


class _File:
    """Builds the description of one file."""

    def __init__(self) -> None:
        self.proto = FileDescriptorProto(
            name="paddleinfer/open_inference.proto", package=_PACKAGE, syntax="proto3"
        )
        self._messages: dict[str, DescriptorProto] = {}

    def add_message(self, name: str, fields: str) -> None:
        outer, _, inner = name.rpartition(".")
        message = (self._messages[outer].nested_type if outer else self.proto.message_type).add(name=inner)
        self._messages[name] = message
        for field in filter(None, map(str.strip, fields.split(","))):
            self._add_field(message, name, *field.split())

    def _add_field(
        self, message: Any, owner: str, name: str, kind: str, number: str, choice: str = ""
    ) -> None:
        field = message.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
        if kind.endswith(("*", "{}")):
            field.label = FieldDescriptorProto.LABEL_REPEATED
        if kind.endswith("{}"):
            entry = f"{name.title().replace('_', '')}Entry"
            self.add_message(f"{owner}.{entry}", f"key string 1, value {kind[:-2]} 2")
            self._messages[f"{owner}.{entry}"].options.map_entry = True
            kind = f"{owner}.{entry}"
        kind = kind.rstrip("*")
        if kind in _SCALARS:
            field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
        else:
            is_enum = kind in _ENUMS
            field.type = FieldDescriptorProto.TYPE_ENUM if is_enum else FieldDescriptorProto.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{kind}"
        if choice:
            if not message.oneof_decl:
                message.oneof_decl.add(name=choice)
            field.oneof_index = 0

    def add_enum(self, name: str, values: list[str]) -> None:
        outer, _, inner = name.rpartition(".")
        enum = (self._messages[outer] if outer else self.proto).enum_type.add(name=inner)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)

    def add_service(self) -> None:
        service = self.proto.service.add(name=SERVICE.rpartition(".")[2])
        for method in METHODS:
            service.method.add(
                name=method,
                input_type=f".{_PACKAGE}.{method}Request",
                output_type=f".{_PACKAGE}.{method}Response",
            )
        service.method.add(
            name=STREAM,
            input_type=f".{_PACKAGE}.ModelInferRequest",
            output_type=f".{_PACKAGE}.{STREAM}Response",
            client_streaming=True,
            server_streaming=True,
        )


def _pool() -> DescriptorPool:
    file = _File()
    for line in _MESSAGES.replace(",\n", ",").split("\n"):
        name, colon, fields = line.partition(":")
        if colon:
            file.add_message(name, fields)
    for name, values in _ENUMS.items():
        file.add_enum(name, values)
    file.add_service()
    pool = DescriptorPool()
    pool.AddSerializedFile(file.proto.SerializeToString())
    return pool


POOL: Final = _pool()
"""The pool of these messages, without those of other libraries."""


def message_class(name: str) -> Any:
    """Returns the class of a message: ``message_class("ModelInferRequest")``."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
