"""Reads a ModelInferRequest for the engine, and writes its results as a ModelInferResponse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from paddleinfer._ext import count_wire_numbers, read_wire_numbers
from paddleinfer.models.wire import length_delimited

from ..protocol.bytes_tensors import BYTES, is_bytes, packed, read_list, read_packed
from ..protocol.checks import (
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
from ..protocol.datatypes import DATATYPE_OF
from ..protocol.errors import RequestError, bad_request
from ..protocol.request import InferRequest, WantedOutput, wanted_outputs
from ..protocol.response import classified, packed_texts
from .limits import MAX_FIELDS, CutField
from .messages import message_class

__all__ = ["encode_response", "parse_message"]

Array = npt.NDArray[Any]

_ModelInferResponse = message_class("ModelInferResponse")
_InferTensorContents = message_class("InferTensorContents")
_RAW_OUTPUT_CONTENTS: Final = _ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number

_RAW_INPUT_CONTENTS: Final = (
    message_class("ModelInferRequest").DESCRIPTOR.fields_by_name["raw_input_contents"].number
)
_NUMBER_OF: Final = {
    field.name: field.number for field in message_class("InferTensorContents").DESCRIPTOR.fields
}

# Datatype -> the field of typed contents that holds it, and that field's dtype.
_FIELD_OF: Final = {
    "BOOL": ("bool_contents", np.dtype(bool)),
    **dict.fromkeys(("INT8", "INT16", "INT32"), ("int_contents", np.dtype(np.int32))),
    "INT64": ("int64_contents", np.dtype(np.int64)),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), ("uint_contents", np.dtype(np.uint32))),
    "UINT64": ("uint64_contents", np.dtype(np.uint64)),
    "FP32": ("fp32_contents", np.dtype(np.float32)),
    "FP64": ("fp64_contents", np.dtype(np.float64)),
}
# Integers take as little as a byte on the wire, and up to eight in memory; floats take the same in both.
_MAX_INTEGERS: Final = 1 << 22


def parse_message(
    body: bytes, message: Any, cut: list[CutField], *, takes_bytes: bool = False
) -> InferRequest:
    """Reads a ModelInferRequest; raw tensors become arrays over its bytes.

    Parameters
    ----------
    message, cut
        The results of MessageReader.with_cut() for the body.
    takes_bytes
        Whether inputs may be BYTES.

    Raises
    ------
    RequestError
        400, with a sentence that names what is wrong.
    """
    tensors = _Tensors(body, message, cut, takes_bytes)
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(message.inputs):
        if tensor.name in inputs:
            raise bad_request(f"input {tensor.name!r} is given twice")
        inputs[tensor.name] = tensors.array(index, tensor)
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
    """Returns the parameters as JSON has them; one without a value is None."""
    chosen = {name: parameter.WhichOneof("parameter_choice") for name, parameter in given.items()}
    return {name: None if choice is None else getattr(given[name], choice) for name, choice in chosen.items()}


class _Tensors:
    """The numbers of one message's inputs, as they lie in its bytes."""

    def __init__(self, body: bytes, message: Any, cut: list[CutField], takes_bytes: bool) -> None:
        self._body = body
        self._takes_bytes = takes_bytes
        self._model = message.model_name
        self._raw = [(first, size) for _, number, first, size in cut if number == _RAW_INPUT_CONTENTS]
        self._typed = {
            owner: (first, size) for owner, number, first, size in cut if number != _RAW_INPUT_CONTENTS
        }
        self._integers_left = _MAX_INTEGERS
        if self._raw and len(self._raw) != len(message.inputs):
            for index, tensor in enumerate(message.inputs):  # the check may say why one is missing
                self._check_place(index, tensor)
            raise bad_request(
                f"the request has {len(self._raw)} raw_input_contents for {len(message.inputs)} inputs; "
                "each input has its own, in their order"
            )

    def _check_place(self, index: int, tensor: Any) -> None:
        """Checks that an input's numbers are in one place only."""
        if tensor.parameters:
            refuse_unoffered(_parameters(tensor.parameters), f"input {tensor.name!r}")
        if self._raw and index in self._typed:
            # The sentence is Triton's, because clients look for its words.
            raise bad_request(
                f"contents field must not be specified when using raw_input_contents for {tensor.name!r} "
                f"for model {self._model!r}"
            )

    def array(self, index: int, tensor: Any) -> Array:
        """Returns the array of one input."""
        name = tensor.name
        dtype = dtype_of(tensor.datatype, name, takes_bytes=self._takes_bytes)
        check_dimensions(len(tensor.shape), name)  # checked before thousands are copied
        shape, count = shape_of(list(tensor.shape), name)
        self._check_place(index, tensor)
        if dtype.hasobject:
            return self._array_of_bytes(index, shape, count, name)
        if not self._raw:
            return self._array_of_numbers(tensor, self._typed.get(index), dtype, count).reshape(shape)
        first, size = self._raw[index]
        check_size(size, dtype, shape, count, name)
        return array_of_bytes(memoryview(self._body)[first : first + size], dtype).reshape(shape)

    def _array_of_bytes(self, index: int, shape: tuple[int, ...], count: int, name: str) -> Array:
        if self._raw:
            first, size = self._raw[index]
            return read_packed(memoryview(self._body)[first : first + size], shape, count, name)
        first, size = self._typed.get(index) or (0, 0)
        fault, _ = count_wire_numbers(self._body, first, size, MAX_FIELDS)
        if fault == "fields":
            raise bad_request(
                f"input {name!r} has more than {MAX_FIELDS} elements; send that many in raw_input_contents"
            )
        try:
            contents = _InferTensorContents.FromString(self._body[first : first + size])
        except DecodeError:
            raise _damaged(name) from None
        found = list(contents.bytes_contents)
        if len(found) != count:
            raise bad_request(
                f"input {name!r} has {len(found)} elements in its bytes_contents, "
                f"but its shape is {list(shape)}"
            )
        return read_list(found, shape, name)

    def _array_of_numbers(
        self, tensor: Any, place: tuple[int, int] | None, dtype: np.dtype[Any], count: int
    ) -> Array:
        """Reads the field of the contents that belongs to the datatype."""
        name, datatype = tensor.name, tensor.datatype
        if datatype not in _FIELD_OF:
            raise bad_request(
                f"input {name!r} has the datatype {datatype}, which only raw_input_contents can hold"
            )
        field, field_dtype = _FIELD_OF[datatype]
        first, size = place or (0, 0)
        fault, counts = count_wire_numbers(self._body, first, size, MAX_FIELDS)
        if fault == "fields":
            raise bad_request(
                f"input {name!r} has more than {MAX_FIELDS} numbers that are not packed; "
                "send that many in raw_input_contents"
            )
        if fault:
            raise _damaged(name)
        for other, number in _NUMBER_OF.items():
            if counts[number] and other != field:
                raise bad_request(f"input {name!r} of {datatype} has {other}, where {field} would be right")
        found = counts[_NUMBER_OF[field]]
        if found != count:
            raise bad_request(
                f"input {name!r} has {found} elements in its {field}, but its shape is {list(tensor.shape)}"
                if found
                else f"input {name!r} has neither {field} nor raw_input_contents"
            )
        if field_dtype.kind != "f":
            self._integers_left -= count
            if self._integers_left < 0:
                raise bad_request(
                    f"the request has more than {_MAX_INTEGERS} integers in typed contents, "
                    "which is the most; raw_input_contents can hold more"
                )
        array = np.empty(count, field_dtype)
        if not read_wire_numbers(self._body, first, size, _NUMBER_OF[field], array):
            raise _damaged(name)
        if array.dtype != dtype and count:
            check_range(int(array.min()), int(array.max()), dtype, f"{field} of input {name!r}")
        return array.astype(dtype, copy=False)


def _damaged(name: str) -> RequestError:
    return bad_request(
        f"the message is not an inference.ModelInferRequest: the contents of input {name!r} are damaged"
    )


def encode_response(
    model: str,
    version: str,
    request: InferRequest,
    results: Mapping[str, Array],
    parameters: Mapping[str, Mapping[str, Any]],
) -> list[bytes | memoryview]:
    """Returns the bytes, in parts, of a ModelInferResponse with these parameters.

    Its tensors are raw, as Triton's always are. Each raw part is a view of its array: fields may come in any
    order, and so a tensor is copied once and not three times.
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
        elif is_bytes(array):
            message.outputs.add(name=output.name, datatype=BYTES, shape=array.shape)
            data = packed(array)
        else:
            message.outputs.add(name=output.name, datatype=DATATYPE_OF[array.dtype], shape=array.shape)
            data = array.reshape(-1).view(np.uint8).data if array.size else b""
        raw += [length_delimited(_RAW_OUTPUT_CONTENTS, len(data)), data]
    return [message.SerializeToString(), *raw]
