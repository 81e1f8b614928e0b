"""Makes messages that cost a parser far more than their bytes, for every method and every field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from paddleinfer.serving.formats.messages import (
    GENERAL_SERVICE,
    PIPELINE_SERVICE,
    general_model,
    pipeline,
)
from paddleinfer.shim.grpc.health import HEALTH_SERVICE
from paddleinfer.shim.grpc.messages import METHODS, SERVICE, STREAM, message_class
from paddleinfer.shim.grpc.reflection import REFLECTION_SERVICES

STREAMS = frozenset(
    {
        f"/{SERVICE}/{STREAM}",
        f"/{HEALTH_SERVICE}/Watch",
        *(f"/{service}/ServerReflectionInfo" for service in REFLECTION_SERVICES),
    }
)
"""Calls that take many messages."""

_VARINT, _BYTES, _GROUP, _END_GROUP = 0, 2, 3, 4
_PACKED = {
    FieldDescriptor.TYPE_BOOL: b"\1",
    FieldDescriptor.TYPE_INT32: b"\1",
    FieldDescriptor.TYPE_INT64: b"\1",
    FieldDescriptor.TYPE_UINT32: b"\1",
    FieldDescriptor.TYPE_UINT64: b"\1",
    FieldDescriptor.TYPE_FLOAT: bytes(4),
    FieldDescriptor.TYPE_DOUBLE: bytes(8),
}


@dataclass(frozen=True)
class Bomb:
    """One message for one method."""

    path: str
    name: str
    message: bytes

    def __str__(self) -> str:
        return f"{self.path.rpartition('/')[2]}: {self.name}"


def varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def field(number: int, content: bytes) -> bytes:
    """One of bytes: a text, a message, packed numbers."""
    return varint(number << 3 | _BYTES) + varint(len(content)) + content


def bombs(size_bytes: int) -> Iterator[Bomb]:
    """One after the other, each of about so many bytes."""
    for path, kind in {**requests(), **serving_requests()}.items():
        descriptor = None if kind is None else kind.DESCRIPTOR
        start = b"" if descriptor is None else _named(descriptor)
        for name, message in _of_any(size_bytes - len(start)):
            yield Bomb(path, name, start + message)
        if descriptor is not None:
            for name, message in _of_message(descriptor, size_bytes - len(start)):
                yield Bomb(path, name, start + message)
    for path in (f"/{SERVICE}/ModelInfer", f"/{SERVICE}/{STREAM}"):
        for name, message in _of_tensors(size_bytes):
            yield Bomb(path, name, message)
    for name, message in _of_pipelines(size_bytes):
        yield Bomb(f"/{PIPELINE_SERVICE}/inference", name, message)


def requests() -> dict[str, Any]:
    """The class of each method's request; None for methods that are refused unread."""
    methods = {f"/{SERVICE}/{method}": message_class(f"{method}Request") for method in METHODS}
    methods[f"/{SERVICE}/{STREAM}"] = message_class("ModelInferRequest")
    methods[f"/{SERVICE}/TraceSetting"] = None
    for method in ("Check", "Watch"):
        methods[f"/{HEALTH_SERVICE}/{method}"] = health_pb2.HealthCheckRequest
    if hasattr(health_pb2, "HealthListRequest"):
        methods[f"/{HEALTH_SERVICE}/List"] = health_pb2.HealthListRequest
    for service in REFLECTION_SERVICES:
        methods[f"/{service}/ServerReflectionInfo"] = ServerReflectionRequest
    return methods


def serving_requests() -> dict[str, Any]:
    """The same of Paddle Serving's services, whose messages are read in another way."""
    return {
        f"/{GENERAL_SERVICE}/inference": general_model("Request"),
        f"/{PIPELINE_SERVICE}/inference": pipeline("Request"),
    }


def _named(descriptor: Any) -> bytes:
    """For the model `m`, so that it is read further."""
    for name in ("model_name", "name"):
        if name in descriptor.fields_by_name:
            return field(descriptor.fields_by_name[name].number, b"m")
    return b""


def _of_any(size: int) -> Iterator[tuple[str, bytes]]:
    yield "unknown numbers", varint(500 << 3 | _VARINT) + b"\1" + b"\x78\1" * (size // 2)
    yield "unknown messages", b"\x7a\0" * (size // 2)
    yield "one unknown text", field(15, bytes(size))
    yield "groups side by side", b"\x7b\x7c" * (size // 2)
    yield "groups within groups", b"\x7b" * (size // 2) + b"\x7c" * (size // 2)
    yield "a tag without end", b"\xff" * size


def _of_message(descriptor: Any, size: int, where: str = "") -> Iterator[tuple[str, bytes]]:
    """Fills a message with each of its fields, and then each message within it."""
    for found in descriptor.fields:
        name = f"{where}{found.name}"
        if found.message_type is not None:
            yield f"{name}, empty", _full(field(found.number, b""), size)
            if found.message_type.GetOptions().map_entry:
                yield f"{name}, all different", _entries(found.number, size)
            for inner, content in _of_message(found.message_type, size - 8, f"{name}."):
                yield inner, field(found.number, content)
        elif found.type in _PACKED:
            packed = _PACKED[found.type]
            yield f"{name}, packed", field(found.number, packed * (size // len(packed)))
            yield f"{name}, one by one", _full(varint(found.number << 3) + b"\1", size)
        else:
            yield f"{name}, empty", _full(field(found.number, b""), size)
            yield f"{name}, long", field(found.number, b"x" * size)


def _full(part: bytes, size: int) -> bytes:
    return part * (size // len(part))


def _entries(number: int, size: int) -> bytes:
    count = size // 12
    return b"".join(field(number, field(1, b"%08x" % place)) for place in range(count))


def _of_tensors(size: int) -> Iterator[tuple[str, bytes]]:
    """Requests that are right but for their size."""
    for datatype, number, content in (
        ("INT64", 3, b"\1"),
        ("INT8", 2, b"\1"),
        ("BOOL", 1, b"\1"),
        ("UINT64", 5, b"\xff" * 9 + b"\1"),
        ("FP32", 6, bytes(4)),
        ("FP64", 7, bytes(8)),
    ):
        count = (size - 64) // len(content)
        shape = field(3, varint(1) + varint(count))
        described = field(1, b"x") + field(2, datatype.encode()) + shape
        tensor = field(5, described + field(5, field(number, content * count)))
        yield f"{datatype} in typed contents", field(1, b"m") + tensor
    numbers = size // 4 - 64
    raw = field(5, field(1, b"x") + field(2, b"FP32") + field(3, varint(1) + varint(numbers)))
    yield "raw contents", field(1, b"m") + raw + field(7, bytes(4 * numbers))
    rows = numbers // 3
    raw = field(5, field(1, b"x") + field(2, b"FP32") + field(3, varint(rows) + varint(3)))
    classes = field(6, field(1, b"y") + field(2, field(1, b"classification") + field(2, b"\x10\3")))
    yield "all classes", field(1, b"m") + raw + classes + field(7, bytes(12 * rows))
    sized = field(1, b"m") + field(3, b"i" * 65_000)
    yield "raw contents that nobody described", sized + field(7, b"") * ((size - len(sized)) // 2)


def _of_pipelines(size: int) -> Iterator[tuple[str, bytes]]:
    """Requests of a pipeline that are right but for their size, or for one thing."""
    key = field(4, b"m") + field(1, b"x")
    for name, begin, part, end in (
        ("a value of numbers", b"", b"1.5,", b"1"),
        ("a value of lists", b"[", b"[],", b"[]]"),
        ("a value of open lists", b"", b"[", b""),
        ("a value of digits", b"", b"9", b""),
        ("a value of escapes", b'"', b"\\u0000", b'"'),
    ):
        yield name, key + field(2, begin + part * ((size - 64) // len(part)) + end)
    yield "as many values as there may be", key + field(2, b"1" * ((size - 64) // 1024 - 4)) * 1024
    named = field(23, b"x")
    for name, number, elem_type, content in (
        ("packed floats", 2, 1, bytes(4)),
        ("packed doubles", 4, 3, bytes(8)),
        ("packed integers", 1, 0, b"\1"),
        ("packed bytes", 5, 7, b"\1"),
        ("packed booleans", 6, 9, b"\1"),
    ):
        count = (size - 64) // len(content)
        described = varint(20 << 3) + varint(elem_type) + field(21, varint(1) + varint(count)) + named
        yield name, field(4, b"m") + field(3, field(number, content * count) + described)
    described = varint(20 << 3) + b"\x0c" + named
    yield "texts", field(4, b"m") + field(3, field(9, b"") * (size // 2 - 32) + described)
    described = varint(20 << 3) + b"\x0d" + named
    for name, file in (
        ("a file of numpy", b"\x93NUMPY\1\0" + b"v\0" + b"(" * 118 + bytes(size - 256)),
        ("a pickle", b"\x80\4" + b"]" * (size - 128)),
        (
            "a long header of numpy",
            b"\x93NUMPY\2\0" + (size - 256).to_bytes(4, "little") + b"[" * (size - 256),
        ),
    ):
        yield name, field(4, b"m") + field(3, field(10, file) + described)
