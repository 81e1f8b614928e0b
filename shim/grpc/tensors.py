"""A ModelInferRequest -> what the engine is asked, and its results -> a ModelInferResponse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .datatypes import DATATYPE_OF
from .errors import bad_request
from .grpc_messages import message_class
from .infer_request import InferRequest, WantedOutput, wanted_outputs
from .infer_response import classified, packed_texts
from .request_checks import (
    array_of_bytes,
    check_dimensions,
    check_range,
    check_size,
    dtype_of,
    priority_of,
    refuse_unoffered,
    shape_of,
    timeout_s_of,
)

__all__ = ["encode_response", "length_delimited", "parse_message"]

Array = npt.NDArray[Any]

_ModelInferResponse = message_class("ModelInferResponse")
_RAW_OUTPUT_CONTENTS: Final = _ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number

# Of a datatype: where typed contents have it, and the dtype of that field.
_FIELD_OF: Final = {
    "BOOL": ("bool_contents", bool),
    **dict.fromkeys(("INT8", "INT16", "INT32"), ("int_contents", np.int32)),
    "INT64": ("int64_contents", np.int64),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), ("uint_contents", np.uint32)),
    "UINT64": ("uint64_contents", np.uint64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
}


def parse_message(message: Any) -> InferRequest:
    """Reads a ModelInferRequest, whose arrays lie over its bytes where they came raw.

    Raises
    ------
    RequestError
        400, with a sentence that names what is wrong.
    """
    raw: Sequence[bytes] = message.raw_input_contents
    if not message.inputs:
        raise bad_request("the request has no inputs")
    if raw and len(raw) != len(message.inputs):
        for tensor in message.inputs:  # which may say why one is missing
            _check_place(tensor, message.model_name, True)
        raise bad_request(
            f"the request has {len(raw)} raw_input_contents for {len(message.inputs)} inputs; "
            "each input has its own, in their order"
        )
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(message.inputs):
        if tensor.name in inputs:
            raise bad_request(f"input {tensor.name!r} is there twice")
        inputs[tensor.name] = _input(tensor, raw[index] if raw else None, message.model_name)
    parameters = _parameters(message.parameters)
    refuse_unoffered(parameters, "the request")
    outputs = [
        {"name": output.name, "parameters": _parameters(output.parameters)} for output in message.outputs
    ]
    return InferRequest(
        inputs,
        wanted_outputs(outputs, binary_default=True),
        True,
        message.id,
        priority_of(parameters),
        timeout_s_of(parameters),
    )


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them; None for one without a value."""
    chosen = {name: parameter.WhichOneof("parameter_choice") for name, parameter in given.items()}
    return {name: None if choice is None else getattr(given[name], choice) for name, choice in chosen.items()}


def _check_place(tensor: Any, model: str, is_raw: bool) -> None:
    """Its numbers are in one place."""
    if tensor.parameters:
        refuse_unoffered(_parameters(tensor.parameters), f"input {tensor.name!r}")
    if is_raw and tensor.HasField("contents"):
        # In Triton's words, which its clients look for.
        raise bad_request(
            f"contents field must not be specified when using raw_input_contents for {tensor.name!r} "
            f"for model {model!r}"
        )


def _input(tensor: Any, raw: bytes | None, model: str) -> Array:
    name = tensor.name
    dtype = dtype_of(tensor.datatype, name)
    check_dimensions(len(tensor.shape), name)  # before millions are copied
    shape, count = shape_of(list(tensor.shape), name)
    _check_place(tensor, model, raw is not None)
    if raw is None:
        return _typed(tensor, dtype, shape, count)
    check_size(len(raw), dtype, shape, count, name)
    return array_of_bytes(raw, dtype).reshape(shape)


def _typed(tensor: Any, dtype: np.dtype[Any], shape: tuple[int, ...], count: int) -> Array:
    """Of the field of the contents that belongs to the datatype."""
    name, datatype = tensor.name, tensor.datatype
    if datatype not in _FIELD_OF:
        raise bad_request(
            f"input {name!r} has the datatype {datatype}, which only raw_input_contents can hold"
        )
    field, field_dtype = _FIELD_OF[datatype]
    for other, _ in tensor.contents.ListFields():
        if other.name != field:
            raise bad_request(f"input {name!r} of {datatype} has {other.name}, where {field} would be right")
    values = getattr(tensor.contents, field)
    if len(values) != count:
        raise bad_request(
            f"input {name!r} has {len(values)} elements in its {field}, but its shape is {list(shape)}"
            if values
            else f"input {name!r} has neither {field} nor raw_input_contents"
        )
    array = np.fromiter(values, field_dtype, count)
    if array.dtype != dtype and count:
        check_range(int(array.min()), int(array.max()), dtype, f"{field} of input {name!r}")
    return array.astype(dtype, copy=False).reshape(shape)


def encode_response(
    model: str,
    version: str,
    request: InferRequest,
    results: Mapping[str, Array],
    parameters: Mapping[str, Mapping[str, Any]],
) -> list[bytes | memoryview]:
    """The bytes, in parts, of a ModelInferResponse with these parameters.

    Its tensors are raw, as Triton's always are. A part of theirs lies over the array: fields may follow each
    other in any order, and written so a tensor is copied once and not three times.
    """
    message = _ModelInferResponse(
        model_name=model, model_version=version, id=request.id, parameters=parameters
    )
    raw: list[bytes | memoryview] = []
    for output in request.outputs or [WantedOutput(name, True) for name in results]:
        array = results[output.name]
        if output.classes:
            texts, shape = classified(output, array)
            message.outputs.add(name=output.name, datatype="BYTES", shape=shape)
            data: bytes | memoryview = packed_texts(texts)
        else:
            message.outputs.add(name=output.name, datatype=DATATYPE_OF[array.dtype], shape=array.shape)
            data = array.reshape(-1).view(np.uint8).data if array.size else b""
        raw += [length_delimited(_RAW_OUTPUT_CONTENTS, len(data)), data]
    return [message.SerializeToString(), *raw]


def length_delimited(number: int, size_bytes: int) -> bytes:
    """What stands before the bytes of a field of a message: its number, and how many there are."""
    written = bytearray([number << 3 | 2])
    while size_bytes > 0x7F:
        written.append(size_bytes & 0x7F | 0x80)
        size_bytes >>= 7
    written.append(size_bytes)
    return bytes(written)
