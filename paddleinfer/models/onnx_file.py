"""Reads what a .onnx file says of its inputs and outputs, without its weights.

The fields are those of ``onnx/onnx.proto``: ModelProto (graph 7), GraphProto (initializer 5, input 11,
output 12), TensorProto (name 8), ValueInfoProto (name 1, type 2) and TypeProto (tensor_type 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from paddleinfer.errors import ModelLoadError
from paddleinfer.models.file_states import settled_states
from paddleinfer.models.files import opened, refuse_stand_in
from paddleinfer.models.spec import MOST_DIMENSIONS, Batchable, ModelFormat, ModelSpec, TensorSpec
from paddleinfer.models.wire import Allowance, Message, WireError
from paddleinfer.sentences import shown

__all__ = ["read_spec"]

_GRAPH, _INITIALIZER, _INPUT, _OUTPUT, _INITIALIZER_NAME = 7, 5, 11, 12, 8
_MOST_DESCRIPTION_BYTES = 1 << 20
_HEAD_BYTES = 64
# ONNX's numbers of element types.
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    16: "bfloat16",
}
_OTHER_DTYPES = {4: "uint16", 8: "string", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128"}


def read_spec(path: Path) -> ModelSpec:
    """Describes the model in a .onnx file.

    Raises
    ------
    ModelLoadError
        It is no such file, or damaged, or it takes or gives what no array holds.
    OSError
        It cannot be read.
    """
    states = settled_states([path])
    allowance = Allowance()
    with opened(path) as file:
        refuse_stand_in(path, file.read(_HEAD_BYTES))
        try:
            described = _described(file, states[0].size, allowance)
            inputs = tuple(_tensor("input", data, path, allowance) for data in described[_INPUT])
            outputs = tuple(_tensor("output", data, path, allowance) for data in described[_OUTPUT])
            constants = {data.decode() for data in described[_INITIALIZER]}
        except (WireError, UnicodeDecodeError) as error:
            raise ModelLoadError(
                f"{path} is not an ONNX model, or is damaged ({error}); copy or export it again"
            ) from error
    inputs = tuple(tensor for tensor in inputs if tensor.name not in constants)
    if not outputs:
        raise ModelLoadError(f"{path} has no outputs, so it is not an ONNX model, or is damaged")
    batchable, reason = _batchable(inputs)
    return ModelSpec(
        path=path,
        format=ModelFormat.ONNX,
        program_path=path,
        params_path=None,
        model_dir=None,
        inputs=inputs,
        outputs=outputs,
        parameters=(),
        batchable=batchable,
        batchable_reason=reason,
        files=states,
    )


def _batchable(inputs: tuple[TensorSpec, ...]) -> tuple[Batchable, str]:
    if not inputs:
        return Batchable.NO, "the model has no inputs"
    for tensor in inputs:
        if tensor.shape == ():
            return Batchable.NO, f"input {tensor.name!r} is a scalar and has no leading dimension"
        if tensor.shape is not None and tensor.shape[0] >= 0:
            return Batchable.NO, f"input {tensor.name!r} has the fixed leading dimension {tensor.shape[0]}"
    return Batchable.UNKNOWN, "an ONNX model's operators are not looked at; the first batches are compared"


def _described(file: BinaryIO, size: int, allowance: Allowance) -> dict[int, list[bytes]]:
    """Returns the messages of inputs and outputs, and the names of constants; skips what is large."""
    found: dict[int, list[bytes]] = {_INPUT: [], _OUTPUT: [], _INITIALIZER: []}
    for number, begin, end in _fields(file, 0, size, allowance):
        if number != _GRAPH:
            continue
        for inner, inner_begin, inner_end in _fields(file, begin, end, allowance):
            if inner in (_INPUT, _OUTPUT):
                found[inner].append(_read(file, inner_begin, inner_end))
            elif inner == _INITIALIZER:
                for name, name_begin, name_end in _fields(file, inner_begin, inner_end, allowance):
                    if name == _INITIALIZER_NAME:
                        found[_INITIALIZER].append(_read(file, name_begin, name_end))
    return found


def _fields(file: BinaryIO, begin: int, end: int, allowance: Allowance) -> Iterator[tuple[int, int, int]]:
    """Yields number, begin and end of the fields of texts and messages between two places of the file."""
    place = begin
    while place < end:
        allowance.take()
        file.seek(place)
        key, place = _varint(file, place)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireError("a field numbered 0")
        if kind == 0:
            _, place = _varint(file, place)
            continue
        if kind == 2:
            length, place = _varint(file, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise WireError(f"a field of the unknown wire type {kind}")
        if place + length > end:
            raise WireError(f"field {number} ends {place + length - end} bytes after the message")
        if kind == 2:
            yield number, place, place + length
        place += length


def _varint(file: BinaryIO, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        place += 1
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value, place
    raise WireError("an unfinished number")


def _read(file: BinaryIO, begin: int, end: int) -> bytes:
    if end - begin > _MOST_DESCRIPTION_BYTES:
        raise WireError(f"the description of a tensor has {end - begin} bytes")
    file.seek(begin)
    return file.read(end - begin)


def _tensor(side: str, data: bytes, path: Path, allowance: Allowance) -> TensorSpec:
    message = Message(data, allowance=allowance)
    name = message.text(1)
    types = list(message.messages(2))
    tensors = list(types[0].messages(1)) if types else []
    if not tensors:
        raise ModelLoadError(f"{side} {shown(name)} of {path} is not a tensor, which alone an array can hold")
    number = tensors[0].integer(1, 0)
    if number not in _DTYPES:
        dtype = _OTHER_DTYPES.get(number, f"number {number}")
        raise ModelLoadError(
            f"{side} {shown(name)} of {path} has the dtype {dtype}, and paddleinfer takes "
            f"{', '.join(_DTYPES.values())}"
        )
    shapes = list(tensors[0].messages(2))
    if not shapes:
        return TensorSpec(name, None, _DTYPES[number], None)
    sizes = [size.integer(1, 0) for size in shapes[0].messages(1)]
    if len(sizes) > MOST_DIMENSIONS:
        raise WireError(f"a tensor of {len(sizes)} dimensions")
    return TensorSpec(name, None, _DTYPES[number], tuple(size if size > 0 else -1 for size in sizes))
