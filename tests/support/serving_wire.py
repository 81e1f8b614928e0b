"""Paddle Serving's wire format, read and written byte by byte from its documents, without protobuf."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

FIELDS_OF_TENSOR = {
    1: ("int64_data", "varint"),
    2: ("float_data", "<f"),
    3: ("int_data", "varint"),
    4: ("float64_data", "<d"),
    6: ("bool_data", "varint"),
    10: ("elem_type", "varint"),
    11: ("shape", "varint"),
    13: ("name", "text"),
    14: ("alias_name", "text"),
    15: ("tensor_content", "bytes"),
}
REPEATED = ("int64_data", "float_data", "int_data", "float64_data", "bool_data", "shape")


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, kind: int, data: bytes) -> bytes:
    return varint(number << 3 | kind) + (varint(len(data)) if kind == 2 else b"") + data


def tensor(
    name: str,
    shape: list[int],
    *,
    floats: Sequence[float] = (),
    int64s: Sequence[int] = (),
    packed: bool = False,
) -> bytes:
    """A Tensor of one kind of numbers."""
    if packed:
        numbers = field(2, 2, struct.pack(f"<{len(floats)}f", *floats)) if floats else b""
        numbers += field(1, 2, b"".join(map(varint, int64s))) if int64s else b""
    else:
        numbers = b"".join(field(2, 5, struct.pack("<f", number)) for number in floats)
        numbers += b"".join(field(1, 0, varint(number)) for number in int64s)
    parts = [numbers, field(10, 0, varint(1 if floats else 0))]
    parts += [field(11, 0, varint(size)) for size in shape]
    return b"".join([*parts, field(13, 2, name.encode()), field(14, 2, name.encode())])


def request(*tensors: bytes, fetch: tuple[str, ...] = (), log_id: int = 0) -> bytes:
    parts = [field(1, 2, one) for one in tensors] + [field(2, 2, name.encode()) for name in fetch]
    return b"".join([*parts, *([field(4, 0, varint(log_id))] if log_id else [])])


def fields(data: bytes) -> list[tuple[int, int, Any]]:
    """(number, kind, value) of each field of a message."""
    found, place = [], 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = number()
        kind = key & 7
        if kind == 0:
            value: Any = number()
            value -= (value >> 63) << 64
        else:
            size = {1: 8, 5: 4}.get(kind) or number()
            value = data[place : place + size]
            assert len(value) == size
            place += size
        found.append((key >> 3, kind, value))
    return found


def varints(data: bytes) -> list[int]:
    """Packed ones."""
    return [value for _, _, value in fields(b"".join(b"\x08" + one for one in cut_varints(data)))]


def cut_varints(data: bytes) -> list[bytes]:
    ends = [place + 1 for place, byte in enumerate(data) if byte < 0x80]
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def read_tensor(data: bytes) -> dict[str, Any]:
    """A Tensor as proto3 writes it: numbers packed, and what is 0 or empty left out."""
    read: dict[str, Any] = {}
    for number, kind, given in fields(data):
        name, form = FIELDS_OF_TENSOR[number]
        assert name not in read
        if form == "text":
            read[name] = given.decode()
        elif name in REPEATED:
            assert kind == 2
            packed = varints(given) if form == "varint" else struct.iter_unpack(form, given)
            read[name] = [value if form == "varint" else value[0] for value in packed]
        else:
            read[name] = given
    return read


def read_response(data: bytes) -> dict[str, Any]:
    """A Response, by the names of its fields."""
    read: dict[str, Any] = {"outputs": [], "err_no": 0, "err_msg": ""}
    for number, kind, value in fields(data):
        if number == 1:
            tensors = [read_tensor(part) for at, _, part in fields(value) if at == 1]
            (engine_name,) = (part.decode() for at, _, part in fields(value) if at == 2)
            read["outputs"].append({"tensor": tensors, "engine_name": engine_name})
        elif number == 6:
            read["err_msg"] = value.decode()
        else:
            assert kind == 0
            read[{4: "log_id", 5: "err_no"}[number]] = value
    return read
