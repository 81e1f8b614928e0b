"""Paddle Serving's configuration read by protobuf itself, from the message as its documents have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass


def _message_class() -> Any:
    file = FileDescriptorProto(name="general_model_config.proto", package="documented", syntax="proto2")
    for side in ("feed", "fetch"):
        var = file.message_type.add(name=f"{side.title()}Var")
        fields = (
            ("name", Field.TYPE_STRING, Field.LABEL_OPTIONAL),
            ("alias_name", Field.TYPE_STRING, Field.LABEL_OPTIONAL),
            ("is_lod_tensor", Field.TYPE_BOOL, Field.LABEL_OPTIONAL),
            (f"{side}_type", Field.TYPE_INT32, Field.LABEL_OPTIONAL),
            ("shape", Field.TYPE_INT32, Field.LABEL_REPEATED),
        )
        for number, (name, kind, label) in enumerate(fields, 1):
            var.field.add(name=name, number=number, type=kind, label=label)
    config = file.message_type.add(name="GeneralModelConfig")
    for number, side in enumerate(("feed", "fetch"), 1):
        config.field.add(
            name=f"{side}_var",
            number=number,
            type=Field.TYPE_MESSAGE,
            label=Field.LABEL_REPEATED,
            type_name=f".documented.{side.title()}Var",
        )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("documented.GeneralModelConfig"))


def read(path: Path) -> Any:
    """The message that a file holds."""
    return text_format.Parse(path.read_text(), _message_class()())
