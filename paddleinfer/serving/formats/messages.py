"""The messages of Paddle Serving's ``GeneralModelService``, numbered as its documents number them.

They live in a descriptor pool of their own: in the default one they would clash with Paddle Serving's.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["POOL", "general_model"]

_PACKAGE: Final = "baidu.paddle_serving.predictor.general_model"

# A line for each message: its fields, as name, type and number; "*" is repeated.
_MESSAGES: Final = """
Tensor: int64_data int64* 1, float_data float* 2, int_data int32* 3, float64_data double* 4,
    uint32_data uint32* 5, bool_data bool* 6, complex64_data float* 7, complex128_data double* 8,
    data string* 9, elem_type int32 10, shape int32* 11, lod int32* 12, name string 13, alias_name string 14,
    tensor_content bytes 15
Request: tensor Tensor* 1, fetch_var_names string* 2, profile_server bool 3, log_id uint64 4
ModelOutput: tensor Tensor* 1, engine_name string 2
Response: outputs ModelOutput* 1, profile_time int64* 2, profile_server bool 3, log_id uint64 4,
    err_no int32 5, err_msg string 6
"""


def _pool() -> DescriptorPool:
    file = FileDescriptorProto(name="paddleinfer/general_model.proto", package=_PACKAGE, syntax="proto3")
    for line in _MESSAGES.replace(",\n", ",").strip().split("\n"):
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field in fields.split(","):
            field_name, kind, number = field.split()
            plain = kind.rstrip("*")
            described = message.field.add(name=field_name, number=int(number))
            described.label = Field.LABEL_REPEATED if kind != plain else Field.LABEL_OPTIONAL
            if plain[0].isupper():
                described.type, described.type_name = Field.TYPE_MESSAGE, f".{_PACKAGE}.{plain}"
            else:
                described.type = getattr(Field, f"TYPE_{plain.upper()}")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL: Final = _pool()
"""Holds these messages, and not those of other libraries."""


def general_model(name: str) -> Any:
    """The class of a message: ``general_model("Request")``."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
