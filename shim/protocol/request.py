"""Reads an inference request of the Open Inference Protocol from its bytes.

It may be JSON, JSON followed by binary tensors (``Inference-Header-Content-Length``), or raw binary (the same
header, 0). Sources: KServe's "Predict Protocol, Version 2" and Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import orjson

from paddleinfer.models.reader import TensorSpec
from paddleinfer.sentences import listed, shown

from .body import Headers, byte_count
from .bytes_tensors import BYTES, has_bytes, read_list, read_packed
from .checks import (
    MOST_PARAMETERS,
    MOST_TENSORS,
    array_of_bytes,
    check_count,
    check_name,
    check_range,
    check_size,
    dtype_of,
    flag,
    priority_of,
    refuse_unoffered,
    shape_of,
    timeout_s_of,
    whole,
)
from .datatypes import DATATYPE_OF, DTYPE_OF
from .errors import RequestError, bad_request
from .large_json import SMALL_BYTES, NumberText, check_unread, parse_large

__all__ = [
    "InferRequest",
    "WantedOutput",
    "has_binary",
    "json_size",
    "parse_request",
    "plain_request",
    "refuse_texts",
    "wanted_outputs",
]

Array = npt.NDArray[Any]

_LENGTH = b"inference-header-content-length"
_FLOATS = frozenset(DTYPE_OF[name] for name in ("FP16", "BF16", "FP32", "FP64"))
# The largest finite floats, as C has them.
_C_TYPES = {DTYPE_OF["FP32"]: "f", DTYPE_OF["FP64"]: "d"}


@dataclass(slots=True)
class WantedOutput:
    """One requested output."""

    name: str
    binary: bool
    classes: int = 0
    """How many of the most likely classes to return as text; 0: the tensor itself."""


@dataclass(slots=True)
class InferRequest:
    """The contents of one request."""

    inputs: dict[str, Array]
    outputs: list[WantedOutput] | None
    """The requested outputs; None: all, in the model's order."""
    binary: bool
    """Whether outputs that were not named are binary."""
    id: str | None
    priority: int
    timeout_s: float | None


def refuse_texts(tensors: Iterable[TensorSpec]) -> None:
    """Raises RequestError 400 where one of these is of BYTES, which Paddle Serving's forms do not carry."""
    name = next((tensor.name for tensor in tensors if tensor.dtype == "bytes"), None)
    if name is not None:
        raise bad_request(
            f"{name!r} is of BYTES, and Paddle Serving's forms carry numbers here; ask /v2/models/NAME/infer"
        )


def plain_request(inputs: dict[str, Array], wanted: Sequence[str]) -> InferRequest:
    """One without parameters, for these outputs; none are all.

    Raises
    ------
    RequestError
        400: an output is asked for twice.
    """
    if len(set(wanted)) < len(wanted):
        raise bad_request(f"an output is asked for twice: {listed(wanted)}")
    return InferRequest(inputs, [WantedOutput(name, False) for name in wanted] or None, False, None, 1, None)


def parse_request(body: bytes, headers: Headers, specs: Sequence[TensorSpec]) -> InferRequest:
    """Reads a request for a model with these inputs.

    Raises
    ------
    RequestError
        400, with a sentence that names what is wrong.
    """
    takes_bytes = has_bytes(specs)
    if _LENGTH not in headers:
        return _of_document(*_document(body), b"", takes_bytes)
    json_bytes = byte_count(headers, _LENGTH)
    if json_bytes > len(body):
        raise bad_request(
            f"Inference-Header-Content-Length is {json_bytes}, but the body has {len(body)} bytes"
        )
    if json_bytes == 0:
        return InferRequest(_raw_input(body, specs), None, True, None, 1, None)
    return _of_document(*_document(body[:json_bytes]), memoryview(body)[json_bytes:], takes_bytes)


def json_size(body: bytes, headers: Headers) -> int:
    """Returns how many bytes of a body are JSON, by its header; raises RequestError 400 for a bad header."""
    return byte_count(headers, _LENGTH) if has_binary(headers) else len(body)


def has_binary(headers: Headers) -> bool:
    """Tells whether a request has binary tensors."""
    return _LENGTH in headers


def _document(body: bytes) -> tuple[dict[str, Any], dict[str, NumberText]]:
    """Parses the document; returns it and the texts' lists, as parse_large() does."""
    texts: dict[str, NumberText] = {}
    if len(body) > SMALL_BYTES:
        document, texts = parse_large(body)
    else:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"the body is not JSON: {error}") from None
    if type(document) is not dict:
        raise bad_request("the body must be a JSON object")
    return document, texts


def _of_document(
    document: dict[str, Any],
    texts: dict[str, NumberText],
    binary: bytes | memoryview,
    takes_bytes: bool,
) -> InferRequest:
    tensors = document.get(
        "inputs", []
    )  # a model may have no inputs; the engine knows whether one is missing
    if type(tensors) is not list:
        raise bad_request(f'"inputs" must be a list of tensors, not {shown(tensors)}')
    check_count(len(tensors), MOST_TENSORS, "the request", "inputs")
    inputs: dict[str, Array] = {}
    used = 0
    for tensor in tensors:
        name, array, taken = _input(tensor, texts, binary, used, takes_bytes)
        if name in inputs:
            raise bad_request(f"input {name!r} is given twice")
        inputs[name] = array
        used += taken
    if used < len(binary):
        raise bad_request(f"the body has {len(binary)} bytes of tensors, and the inputs account for {used}")
    if texts:
        check_unread(texts.values())
    parameters = _parameters(document, "the request")
    binary_outputs = flag(parameters, "binary_data_output", "the request") or False
    identity = document.get("id")
    if identity is not None and type(identity) is not str:
        raise bad_request(f'"id" must be a string, not {shown(identity)}')
    outputs = document.get("outputs")
    return InferRequest(
        inputs,
        None if outputs is None else wanted_outputs(outputs, binary_outputs),
        binary_outputs,
        identity,
        priority_of(parameters),
        timeout_s_of(parameters),
    )


def _parameters(owner: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise bad_request(f'"parameters" of {what} must be an object')
    check_count(len(parameters), MOST_PARAMETERS, what, "parameters")
    refuse_unoffered(parameters, what)
    return parameters


# -- inputs


def _input(
    tensor: Any,
    texts: dict[str, NumberText],
    binary: bytes | memoryview,
    used: int,
    takes_bytes: bool,
) -> tuple[str, Array, int]:
    """Returns name, array, and the bytes it takes of the binary part, of which `used` are already taken."""
    if type(tensor) is not dict:
        raise bad_request('each of "inputs" must be an object')
    name = tensor.get("name")
    if type(name) is not str:
        raise bad_request(f'an input needs a "name", a string, not {shown(name)}')
    check_name(name, "an input")
    dtype = dtype_of(tensor.get("datatype"), name, takes_bytes=takes_bytes)
    shape, count = shape_of(tensor.get("shape"), name)
    parameters = _parameters(tensor, f"input {name!r}") if "parameters" in tensor else {}
    size = whole(parameters, "binary_data_size", f"input {name!r}")
    if size is None:
        if "data" not in tensor:
            raise bad_request(f'input {name!r} needs "data", or binary_data_size among its parameters')
        data = tensor["data"]
        if type(data) is str and data in texts:
            numbers = texts.pop(data)
            if dtype.hasobject and count:
                raise _not_of({int}, dtype, name)
            numbers.check(shape, count, name)
            array = numbers.read(count, dtype, partial(_typed, dtype=dtype, name=name))
            return name, array.reshape(shape), 0
        return name, _numbers(data, dtype, shape, count, name), 0
    if "data" in tensor:
        raise bad_request(f'input {name!r} has both "data" and binary_data_size')
    if size > len(binary) - used:
        raise bad_request(
            f"input {name!r} wants {size} bytes, and the body has {max(0, len(binary) - used)} left for it"
        )
    if dtype.hasobject:
        return name, read_packed(binary[used : used + size], shape, count, name), size
    check_size(size, dtype, shape, count, name)
    return name, array_of_bytes(binary[used : used + size], dtype).reshape(shape), size


def _numbers(data: Any, dtype: np.dtype[Any], shape: tuple[int, ...], count: int, name: str) -> Array:
    """Reads JSON numbers, flat or nested as the shape says."""
    if type(data) is not list:
        raise bad_request(f'"data" of input {name!r} must be a list, not {shown(data)}')
    flat = (
        data if len(data) == count and not (data and type(data[0]) is list) else _flattened(data, shape, name)
    )
    return _typed(flat, dtype, name).reshape(shape)


def _typed(flat: list[Any], dtype: np.dtype[Any], name: str) -> Array:
    if dtype.hasobject:
        return read_list(flat, (len(flat),), name)
    kinds = set(map(type, flat))
    if dtype in _FLOATS:
        return _floats(flat, kinds, dtype, name)
    wanted = {bool} if kinds == {bool} else {int}
    if (dtype.kind != "b" and bool in kinds) or not kinds <= wanted:
        raise _not_of(kinds, dtype, name)
    if flat:
        check_range(min(flat), max(flat), dtype, f'"data" of input {name!r}')
    return np.array(flat, dtype)


def _flattened(data: list[Any], shape: tuple[int, ...], name: str) -> list[Any]:
    if data and not any(type(part) is list for part in data):
        raise bad_request(
            f'"data" of input {name!r} has {len(data)} elements, but its shape is {list(shape)}'
        )
    level = [data]
    for size in shape:
        if not all(type(part) is list and len(part) == size for part in level):
            raise bad_request(f'"data" of input {name!r} is not nested as its shape {list(shape)} says')
        level = list(itertools.chain.from_iterable(level))
    return level


def _floats(flat: list[Any], kinds: set[type], dtype: np.dtype[Any], name: str) -> Array:
    if not kinds <= {float, int}:
        raise _not_of(kinds, dtype, name)
    if dtype in _C_TYPES:
        try:
            return _packed(flat, dtype)
        except OverflowError:
            raise _too_large(dtype, name) from None
    with np.errstate(over="ignore"):
        array = np.array(flat, np.float64).astype(dtype)
    if not np.isfinite(array.astype(np.float32)).all():  # JSON has no infinities
        raise _too_large(dtype, name)
    return array


def _packed(flat: list[Any], dtype: np.dtype[Any]) -> Array:
    return np.frombuffer(struct.pack(f"<{len(flat)}{_C_TYPES[dtype]}", *flat), dtype)


def _too_large(dtype: np.dtype[Any], name: str) -> RequestError:
    return bad_request(f'"data" of input {name!r} holds numbers too large for {DATATYPE_OF[dtype]}')


def _not_of(kinds: set[type], dtype: np.dtype[Any], name: str) -> RequestError:
    words = {str: "strings", bool: "true or false", float: "fractions", list: "lists", type(None): "null"}
    found = next((word for kind, word in words.items() if kind in kinds), "values")
    return bad_request(f'"data" of input {name!r} holds {found} that are not {DATATYPE_OF.get(dtype, BYTES)}')


def _raw_input(body: bytes, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Reads the whole body as the one row of the only input; its size gives a single free dimension."""
    if len(specs) != 1:
        raise bad_request(f"a raw binary request is for models with one input, and this one has {len(specs)}")
    spec = specs[0]
    dims = list(spec.shape[1:]) if spec.shape else None
    if dims is None or dims.count(-1) > 1:
        raise bad_request(
            f"a raw binary request does not say the shape of input {spec.name!r}, "
            "which has more than one free dimension"
        )
    if spec.dtype == "bytes":
        return {spec.name: _raw_bytes(body, dims, spec.name)}
    dtype = np.dtype(ml_dtypes.bfloat16 if spec.dtype == "bfloat16" else spec.dtype)
    row_bytes = math.prod(dim for dim in dims if dim != -1) * dtype.itemsize
    fits = row_bytes > 0 and (len(body) % row_bytes == 0 if -1 in dims else len(body) == row_bytes)
    if not fits or not body:
        what = f"a multiple of {row_bytes}" if -1 in dims else f"{row_bytes}"
        raise bad_request(f"the body has {len(body)} bytes, and one row of input {spec.name!r} has {what}")
    return {spec.name: array_of_bytes(body, dtype).reshape(1, *dims)}


def _raw_bytes(body: bytes, dims: list[int], name: str) -> Array:
    """The whole body as the one element."""
    if any(dim not in (-1, 1) for dim in dims):
        raise bad_request(
            f"a raw binary request is one element of BYTES, and a row of input {name!r} is {dims}"
        )
    array = np.empty((1, *[1] * len(dims)), object)
    array[...] = body
    return array


# -- outputs


def wanted_outputs(outputs: Any, binary_default: bool) -> list[WantedOutput] | None:
    """Reads "outputs", a list of objects with names and parameters; None: all outputs.

    Raises
    ------
    RequestError
        400, with a sentence that names what is wrong.
    """
    if type(outputs) is not list:
        raise bad_request('"outputs" must be a list of objects')
    check_count(len(outputs), MOST_TENSORS, "the request", "outputs")
    wanted: list[WantedOutput] = []
    names: set[str] = set()
    for output in outputs:
        if type(output) is not dict or type(output.get("name")) is not str:
            raise bad_request('each of "outputs" must be an object with a "name"')
        name = output["name"]
        check_name(name, "an output")
        what = f"output {name!r}"
        if name in names:
            raise bad_request(f"{what} is asked for twice")
        names.add(name)
        parameters = _parameters(output, what)
        binary = flag(parameters, "binary_data", what)
        classes = whole(parameters, "classification", what) or 0
        wanted.append(WantedOutput(name, binary_default if binary is None else binary, classes))
    return wanted or None
