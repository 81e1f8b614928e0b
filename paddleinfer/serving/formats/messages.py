"""The messages and services of Paddle Serving, numbered as its documents number them.

They live in a descriptor pool of their own: in the default one they would clash with Paddle Serving's.
Sources: ``general_model_service.proto`` and ``pipeline_service.proto`` of Paddle Serving 0.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from paddleinfer.serving.formats.tensors import fill_tensor

__all__ = [
    "FILES",
    "GENERAL_SERVICE",
    "PIPELINE_SERVICE",
    "answer_of",
    "general_model",
    "pipeline",
    "pipeline_response",
]

_GENERAL_MODEL: Final = "baidu.paddle_serving.predictor.general_model"
_PIPELINE: Final = "baidu.paddle_serving.pipeline_serving"

GENERAL_SERVICE: Final = f"{_GENERAL_MODEL}.GeneralModelService"
PIPELINE_SERVICE: Final = f"{_PIPELINE}.PipelineService"

# A line for each message: its fields, as name, type and number; "*" is repeated.
_MESSAGES: Final = {
    _GENERAL_MODEL: """
Tensor: int64_data int64* 1, float_data float* 2, int_data int32* 3, float64_data double* 4,
    uint32_data uint32* 5, bool_data bool* 6, complex64_data float* 7, complex128_data double* 8,
    data string* 9, elem_type int32 10, shape int32* 11, lod int32* 12, name string 13, alias_name string 14,
    tensor_content bytes 15
Request: tensor Tensor* 1, fetch_var_names string* 2, profile_server bool 3, log_id uint64 4
ModelOutput: tensor Tensor* 1, engine_name string 2
Response: outputs ModelOutput* 1, profile_time int64* 2, profile_server bool 3, log_id uint64 4,
    err_no int32 5, err_msg string 6
""",
    _PIPELINE: """
Tensor: int64_data int64* 1, float_data float* 2, int_data int32* 3, float64_data double* 4,
    uint32_data uint32* 5, bool_data bool* 6, complex64_data float* 7, complex128_data double* 8,
    str_data string* 9, byte_data bytes 10, elem_type int32 20, shape int32* 21, lod int32* 22, name string 23
Request: key string* 1, value string* 2, tensors Tensor* 3, name string 4, method string 5, logid int64 6,
    clientip string 7
Response: err_no int32 1, err_msg string 2, key string* 3, value string* 4, tensors Tensor* 5
""",
}
_FILE_NAMES: Final = {_GENERAL_MODEL: "general_model_service", _PIPELINE: "pipeline_service"}
_METHODS: Final[dict[str, Sequence[str]]] = {
    GENERAL_SERVICE: ("inference", "debug"),
    PIPELINE_SERVICE: ("inference",),
}
"""Each takes a Request and gives a Response."""


def _file(package: str) -> FileDescriptorProto:
    name = f"paddleinfer/{_FILE_NAMES[package]}.proto"
    file = FileDescriptorProto(name=name, package=package, syntax="proto3")
    for line in _MESSAGES[package].replace(",\n", ",").strip().split("\n"):
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field in fields.split(","):
            field_name, kind, number = field.split()
            plain = kind.rstrip("*")
            described = message.field.add(name=field_name, number=int(number))
            described.label = Field.LABEL_REPEATED if kind != plain else Field.LABEL_OPTIONAL
            if plain[0].isupper():
                described.type, described.type_name = Field.TYPE_MESSAGE, f".{package}.{plain}"
            else:
                described.type = getattr(Field, f"TYPE_{plain.upper()}")
    for service, methods in _METHODS.items():
        owner, _, service_name = service.rpartition(".")
        if owner == package:
            added = file.service.add(name=service_name)
            for method in methods:
                added.method.add(
                    name=method, input_type=f".{package}.Request", output_type=f".{package}.Response"
                )
    return file


FILES: Final = tuple(_file(package).SerializeToString() for package in _MESSAGES)
"""The descriptions of the messages and services, for a pool that answers questions about them."""


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FILES:
        pool.AddSerializedFile(file)
    return pool


_POOL: Final = _pool()


def general_model(name: str) -> Any:
    """The class of a message of the general service: ``general_model("Request")``."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_GENERAL_MODEL}.{name}"))


def pipeline(name: str) -> Any:
    """The class of a message of the pipelines' service: ``pipeline("Request")``."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PIPELINE}.{name}"))


def pipeline_response(document: Mapping[str, Any]) -> Any:
    """A Response of a pipeline with these fields; numbers are arrays."""
    message = pipeline("Response")(err_no=document["err_no"], err_msg=document["err_msg"])
    message.key.extend(document["key"])
    message.value.extend(document["value"])
    for tensor in document["tensors"]:
        fill_tensor(message.tensors.add(), tensor)
    return message


def answer_of(kind: Any, data: bytes) -> Any:
    """The message of this class that a server sent.

    Raises
    ------
    ConnectionError
        It sent something else.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ConnectionError(f"the server's answer is no {kind.DESCRIPTOR.full_name}: {error}") from None
