"""The wire format of Paddle Serving's pipelines, byte by byte as pipeline_service.proto describes it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from serving_wire import field, fields, varint, varints

VARINT, BYTES = 0, 2

NUMBERS = {
    "int64_data": (1, "varint"),
    "float_data": (2, "<f"),
    "int_data": (3, "varint"),
    "float64_data": (4, "<d"),
    "uint32_data": (5, "varint"),
    "bool_data": (6, "varint"),
}
"""Field of numbers -> its number, and how each is written."""
FIELD_OF = {
    "int64": (0, "int64_data"),
    "float32": (1, "float_data"),
    "int32": (2, "int_data"),
    "float64": (3, "float64_data"),
    "int16": (4, "int_data"),
    "float16": (5, "float_data"),
    "bfloat16": (6, "uint32_data"),
    "uint8": (7, "uint32_data"),
    "int8": (8, "int_data"),
    "bool": (9, "bool_data"),
}
"""dtype -> its number, and where its numbers stand."""

_NAME_OF = {number: (name, form) for name, (number, form) in NUMBERS.items()}
_OF_REQUEST = {1: "key", 2: "value", 3: "tensors", 4: "name", 5: "method", 6: "logid", 7: "clientip"}
_OF_RESPONSE = {1: "err_no", 2: "err_msg", 3: "key", 4: "value", 5: "tensors"}
_LISTS = ("key", "value", "tensors")


def text(number: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return field(number, BYTES, data)


def packed(name: str, numbers: Sequence[float]) -> bytes:
    """A field of numbers, as proto3 writes it."""
    number, form = NUMBERS[name]
    if form == "varint":
        data = b"".join(varint(int(one)) for one in numbers)
    else:
        data = struct.pack(f"<{len(numbers)}{form[1]}", *numbers)
    return field(number, BYTES, data) if numbers else b""


def tensor(
    name: str,
    elem_type: int,
    shape: Sequence[int] = (),
    *,
    texts: Sequence[str] = (),
    file: bytes = b"",
    lod: Sequence[int] = (),
    **numbers: Sequence[float],
) -> bytes:
    """A Tensor, its fields in the order of their numbers."""
    parts = [packed(field_name, numbers[field_name]) for field_name in NUMBERS if field_name in numbers]
    parts += [text(9, one) for one in texts]
    parts += [text(10, file)] if file else []
    parts += [field(20, VARINT, varint(elem_type))] if elem_type else []
    parts += [
        field(number, BYTES, b"".join(map(varint, of))) for number, of in ((21, shape), (22, lod)) if of
    ]
    return b"".join([*parts, text(23, name)])


def request(
    pairs: dict[str, str] | None = None,
    *tensors: bytes,
    name: str = "",
    method: str = "",
    logid: int = 0,
    clientip: str = "",
) -> bytes:
    """A Request."""
    parts = [text(1, key) for key in pairs or {}] + [text(2, value) for value in (pairs or {}).values()]
    parts += [text(3, one) for one in tensors]
    parts += [text(number, one) for number, one in ((4, name), (5, method)) if one]
    parts += [field(6, VARINT, varint(logid))] if logid else []
    parts += [text(7, clientip)] if clientip else []
    return b"".join(parts)


def response(
    pairs: dict[str, str] | None = None, *tensors: bytes, err_no: int = 0, err_msg: str = ""
) -> bytes:
    """A Response."""
    parts = [field(1, VARINT, varint(err_no))] if err_no else []
    parts += [text(2, err_msg)] if err_msg else []
    parts += [text(3, key) for key in pairs or {}] + [text(4, value) for value in (pairs or {}).values()]
    return b"".join([*parts, *(text(5, one) for one in tensors)])


def read_tensor(data: bytes) -> dict[str, Any]:
    """A Tensor by the names of its fields, of what proto3 writes."""
    read: dict[str, Any] = {}
    for number, kind, given in fields(data):
        if number in _NAME_OF:
            assert kind == BYTES
            name, form = _NAME_OF[number]
            read[name] = (
                varints(given) if form == "varint" else [one for (one,) in struct.iter_unpack(form, given)]
            )
        elif number == 9:
            read.setdefault("str_data", []).append(given.decode())
        elif number in (21, 22):
            read["shape" if number == 21 else "lod"] = varints(given)
        else:
            name = {10: "byte_data", 20: "elem_type", 23: "name"}[number]
            assert name not in read
            read[name] = given.decode() if number == 23 else given
    return read


def read_request(data: bytes) -> dict[str, Any]:
    """A Request by the names of its fields."""
    return _read(data, _OF_REQUEST, {"logid": 0, "name": "", "method": "", "clientip": ""})


def read_response(data: bytes) -> dict[str, Any]:
    """A Response by the names of its fields."""
    return _read(data, _OF_RESPONSE, {"err_no": 0, "err_msg": ""})


def _read(data: bytes, names: dict[int, str], defaults: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = {**defaults, **{name: [] for name in _LISTS}}
    for number, kind, given in fields(data):
        name = names[number]
        value = given if kind == VARINT else read_tensor(given) if name == "tensors" else given.decode()
        if name in _LISTS:
            read[name].append(value)
        else:
            read[name] = value
    return read
