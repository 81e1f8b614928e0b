"""Tensors of Paddle Serving: fields with a type number, a shape and numbers <-> arrays."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt

from paddleinfer.errors import InvalidInput
from paddleinfer.models.serving_conf import ELEM_TYPES
from paddleinfer.models.wire import length_delimited
from paddleinfer.sentences import listed, shown

__all__ = [
    "DTYPE_OF",
    "NUMBER_FIELDS",
    "array_of",
    "check_text",
    "field_text",
    "fields_of",
    "file_fields_of",
    "fill_tensor",
    "jsonable",
    "message_fields",
    "numbers_of",
    "sequence_of",
    "text_or_array_of",
    "web_fields_of",
]

Array = npt.NDArray[Any]

DTYPE_OF: Final = {
    number: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    for name, number in ELEM_TYPES.items()
}
_NUMBER_OF: Final = {dtype: number for number, dtype in DTYPE_OF.items()}

NUMBER_FIELDS: Final = {
    0: "int64_data",
    1: "float_data",
    2: "int_data",
    3: "float64_data",
    9: "bool_data",
}
"""Type number -> where its numbers stand; the others stand in ``tensor_content``, as bytes."""

_SHORT_FIELDS: Final = {4: "int_data", 5: "float_data", 6: "uint32_data", 7: "uint32_data", 8: "int_data"}
"""Where a web service's tensors have the short numbers; those of bfloat16 are its bits."""
_TEXT: Final = 12
_TEXTS: Final = (_TEXT, 20)
_NPY: Final = 13
# What stands for bfloat16 in Paddle Serving, as in NumPy without it.
_BITS: Final = np.dtype(np.uint16)
_FLOAT_FIELDS: Final[dict[str, np.dtype[Any]]] = {
    "float_data": np.dtype("<f4"),
    "float64_data": np.dtype("<f8"),
}
_PIECE_NUMBERS: Final = 1 << 16
_MOST_DIMENSIONS: Final = 32
_MOST_NAME_CHARACTERS: Final = 1024
# Of a file of ``numpy.save``: its own reader takes no header of more than 10,000 bytes.
_MOST_HEAD_BYTES: Final = 1 << 14


def array_of(tensor: Mapping[str, Any]) -> tuple[str, Array]:
    """The name (its alias, where it has one) and the array of a tensor's fields.

    Raises
    ------
    InvalidInput
        The fields contradict each other, or hold what Paddle's models do not take.
    """
    name = _name_of(tensor)
    elem_type = tensor.get("elem_type", 0)
    if elem_type in _TEXTS:
        raise InvalidInput(
            f"tensor {name!r} has texts (elem_type {elem_type}), which Paddle's models do not take"
        )
    if sequence_of(tensor, "lod"):
        raise InvalidInput(
            f"tensor {name!r} has the lengths of sequences (lod), which Paddle 3's models do not take; "
            "send padded rows, and their lengths or a mask as an input of the model"
        )
    if elem_type == _NPY:
        return name, _array_of_npy(_content(tensor, "byte_data", name), name)
    if type(elem_type) is not int or elem_type not in DTYPE_OF:
        known = ", ".join(f"{number} {dtype}" for dtype, number in ELEM_TYPES.items())
        raise InvalidInput(f"the elem_type of tensor {name!r} must be one of {known}, not {shown(elem_type)}")
    dtype = DTYPE_OF[elem_type]
    shape, count = _shape(sequence_of(tensor, "shape"), name)
    content = tensor.get("tensor_content")
    if content:
        array = _array_of_bytes(_content(tensor, "tensor_content", name), dtype, name)
    else:
        field = NUMBER_FIELDS.get(elem_type) or _SHORT_FIELDS[elem_type]
        given = sequence_of(tensor, field)
        if field not in tensor and count:  # what is empty is left out of messages
            wanted = field if elem_type in NUMBER_FIELDS else f"tensor_content or {field}"
            raise InvalidInput(f"tensor {name!r} of elem_type {elem_type} needs {wanted}")
        read_as = _BITS if elem_type == ELEM_TYPES["bfloat16"] else dtype
        array = numbers_of(given, read_as, f"{field} of tensor {name!r}").view(dtype)
    if array.size != count:
        raise InvalidInput(
            f"tensor {name!r} has {array.size} numbers, and its shape {list(shape)} holds {count}"
        )
    return name, _shaped(array, shape, "C", name)


def text_or_array_of(tensor: Mapping[str, Any]) -> tuple[str, str | Array]:
    """The name and the value of a tensor: its array, or its texts, one after the other, as one.

    Raises
    ------
    InvalidInput
        As of `array_of`.
    """
    if tensor.get("elem_type") != _TEXT:
        return array_of(tensor)
    name, texts = _name_of(tensor), sequence_of(tensor, "str_data")
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise InvalidInput(f"str_data of tensor {name!r} must be a list of texts, not of {shown(wrong)}")
    return name, "".join(texts)


def fields_of(name: str, alias: str, array: Array) -> dict[str, Any]:
    """The fields of a tensor. Its numbers are an array, flat, or bytes under ``tensor_content``."""
    elem_type = _NUMBER_OF[array.dtype]
    field = NUMBER_FIELDS.get(elem_type)
    flat = np.ascontiguousarray(array).reshape(-1)
    numbers = {"tensor_content": flat.tobytes()} if field is None else {field: flat}
    return {
        **numbers,
        "elem_type": elem_type,
        "shape": list(array.shape),
        "name": name,
        "alias_name": alias,
    }


def web_fields_of(name: str, array: Array) -> dict[str, Any]:
    """The fields of a web service's tensor, which has no ``tensor_content``; its numbers are an array, flat.

    Raises
    ------
    InvalidInput
        The array is of a dtype that these tensors do not have.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    shape = list(array.shape)
    if array.dtype.kind in "OU":
        texts = flat.tolist()
        if not all(isinstance(text, str) for text in texts):
            raise InvalidInput(f"{name!r} is an array of objects, and only texts among these can be sent")
        for text in texts:
            check_text(repr(name), text)
        return {"str_data": texts, "elem_type": _TEXT, "shape": shape, "name": name}
    dtype = array.dtype.newbyteorder("=")
    elem_type = ELEM_TYPES["bfloat16"] if dtype == _BITS else _NUMBER_OF.get(dtype)
    if elem_type is None:
        raise InvalidInput(f"{name!r} is of {array.dtype}, and can be of {listed(ELEM_TYPES)} or texts")
    flat = flat.astype(dtype, copy=False)
    if elem_type in NUMBER_FIELDS:
        field = NUMBER_FIELDS[elem_type]
    else:
        field = _SHORT_FIELDS[elem_type]
        flat = flat.view(_BITS) if elem_type == ELEM_TYPES["bfloat16"] else flat
        wide: npt.DTypeLike = {"float_data": "float32", "uint32_data": "uint32"}.get(field, "int32")
        flat = flat.astype(wide)
    return {field: flat, "elem_type": elem_type, "shape": shape, "name": name}


def file_fields_of(name: str, array: Array) -> dict[str, Any]:
    """The same as a file of ``numpy.save``, under ``byte_data``; texts stay texts."""
    if array.dtype.kind in "OU":
        return web_fields_of(name, array)
    web_fields_of(name, array[:0] if array.ndim else array)  # which looks at the dtype
    if array.dtype == DTYPE_OF[ELEM_TYPES["bfloat16"]]:  # which that format does not know
        array = array.view(_BITS)
    file = io.BytesIO()
    np.save(file, array.astype(array.dtype.newbyteorder("<"), copy=False), allow_pickle=False)
    return {"byte_data": file.getvalue(), "elem_type": _NPY, "shape": list(array.shape), "name": name}


def check_text(what: str, text: object) -> None:
    """Raises InvalidInput for what is no text, or one that UTF-8 cannot say."""
    if not isinstance(text, str):
        raise InvalidInput(f"{what} must be a text, not {shown(text)}")
    if not text.isascii():  # which costs nothing
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"{what} has half a character at {error.start}, which UTF-8 cannot say: {shown(text)}"
            ) from None


def message_fields(message: Any, tensors: str) -> dict[str, Any]:
    """The fields that are set in a message, as a document has them; `tensors` is that of its tensors."""
    fields = {field.name: value for field, value in message.ListFields()}
    fields[tensors] = [
        {field.name: value for field, value in one.ListFields()} for one in getattr(message, tensors)
    ]
    return fields


def fill_tensor(message: Any, fields: Mapping[str, Any]) -> None:
    """Puts such fields into a message."""
    for name, value in fields.items():
        if isinstance(value, np.ndarray) and name in _FLOAT_FIELDS:
            packed = np.ascontiguousarray(value, _FLOAT_FIELDS[name])
            number = message.DESCRIPTOR.fields_by_name[name].number
            message.MergeFromString(b"".join((length_delimited(number, packed.nbytes), packed.data)))
        elif isinstance(value, np.ndarray):
            field = getattr(message, name)
            for begin in range(0, value.size, _PIECE_NUMBERS):  # between which others may use the interpreter
                field.extend(value[begin : begin + _PIECE_NUMBERS].tolist())
        elif isinstance(value, (str, bytes, int)):
            setattr(message, name, value)
        elif isinstance(value, memoryview):
            setattr(message, name, bytes(value))
        else:
            getattr(message, name).extend(value)


def jsonable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Such fields as a document: numbers in lists, bytes in base64."""
    return {
        name: value.tolist()
        if isinstance(value, np.ndarray)
        else base64.b64encode(value).decode()
        if isinstance(value, bytes)
        else value
        for name, value in fields.items()
    }


def numbers_of(values: Sequence[Any], dtype: np.dtype[Any], what: str) -> Array:
    """A flat array of a list's numbers, or of a repeated field's.

    Raises
    ------
    InvalidInput
        It holds something else, or a number that the dtype cannot have.
    """
    if isinstance(values, np.ndarray):
        array = values
    elif type(values) is not list:  # of a message, where all are of the field's own kind
        array, given = np.empty(len(values), _wide(dtype)), iter(values)
        for begin in range(0, array.size, _PIECE_NUMBERS):  # between which others may use the interpreter
            part = array[begin : begin + _PIECE_NUMBERS]
            part[:] = np.fromiter(itertools.islice(given, part.size), array.dtype, part.size)
    else:
        kinds = set(map(type, values))
        fits = {bool} if dtype.kind == "b" else {int, float} if _is_float(dtype) else {int}
        if not kinds <= fits:
            found = next(kind.__name__ for kind in kinds if kind not in fits)
            raise InvalidInput(f"{what} holds a {found}, which is no {dtype.name}")
        try:
            array = np.array(values, _wide(dtype))
        except OverflowError:
            raise InvalidInput(f"{what} holds a number that {dtype.name} cannot") from None
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InvalidInput(f"{what} holds a number that {dtype.name} cannot")
    with np.errstate(over="ignore"):  # too large becomes infinite, as everywhere in NumPy
        return array.astype(dtype, copy=False)


def sequence_of(owner: Mapping[str, Any], field: str) -> Sequence[Any]:
    """A repeated field of a document or message; () where it is not there.

    Raises
    ------
    InvalidInput
        It is no list.
    """
    value = owner.get(field)
    if value is None:
        return ()
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__len__"):
        raise InvalidInput(f'"{field}" must be a list, not {shown(value)}')
    return value  # type: ignore[no-any-return]


def field_text(owner: Mapping[str, Any], field: str) -> str:
    """A text of a document or message; "" where it is not there.

    Raises
    ------
    InvalidInput
        It is no text.
    """
    value = owner.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput(f'"{field}" must be a text, not {shown(value)}')
    return value


def _name_of(tensor: Mapping[str, Any]) -> str:
    name = field_text(tensor, "alias_name") or field_text(tensor, "name")
    if not name or len(name) > _MOST_NAME_CHARACTERS:
        raise InvalidInput(
            f'a tensor needs a "name" of 1 to {_MOST_NAME_CHARACTERS} characters, not {shown(name)}'
        )
    return name


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What numbers are read as, before they are looked at."""
    if _is_float(dtype):
        return np.dtype(np.float64)
    return np.dtype(bool) if dtype.kind == "b" else np.dtype(np.int64)


def _shape(given: Sequence[Any], name: str) -> tuple[tuple[int, ...], int]:
    dims = list(itertools.islice(given, _MOST_DIMENSIONS + 1))
    if not all(type(dim) is int and 0 <= dim < 1 << 31 for dim in dims) or len(dims) > _MOST_DIMENSIONS:
        raise InvalidInput(
            f"the shape of tensor {name!r} must be a list of at most {_MOST_DIMENSIONS} integers from 0 up, "
            f"with the batch axis, not {shown(dims)}"
        )
    return tuple(dims), math.prod(dims)


def _content(tensor: Mapping[str, Any], field: str, name: str) -> bytes | memoryview:
    """Bytes of a message, or of a document as base64."""
    value = tensor.get(field)
    if isinstance(value, (bytes, memoryview)):
        return value
    try:
        return base64.b64decode(value, validate=True)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidInput(
            f"{field} of tensor {name!r} must be bytes in base64, not {shown(value)}"
        ) from None


def _array_of_bytes(data: bytes | memoryview, dtype: np.dtype[Any], name: str) -> Array:
    if len(data) % dtype.itemsize:
        raise InvalidInput(
            f"tensor_content of tensor {name!r} has {len(data)} bytes, "
            f"and {dtype.name} takes {dtype.itemsize} for each number"
        )
    if dtype.kind == "b":
        return np.frombuffer(data, np.uint8).astype(bool)  # any byte but 0 is true
    array = np.frombuffer(data, dtype)
    return array if array.flags.aligned else array.copy()  # a message may have it at any place


def _array_of_npy(data: bytes | memoryview, name: str) -> Array:
    """Of NumPy's file format, read where it lies and without objects, which would be a pickle."""
    file = io.BytesIO(data[:_MOST_HEAD_BYTES])
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(file)
    except Exception as error:  # ast's and numpy's own, of a header that somebody made up
        raise InvalidInput(
            f"byte_data of tensor {name!r} is not an array of numpy.save: {shown(str(error))}"
        ) from None
    if dtype.hasobject or (dtype not in _NUMBER_OF and dtype != _BITS):
        raise InvalidInput(
            f"byte_data of tensor {name!r} is an array of {shown(str(dtype))}; "
            "objects and pickles are not read"
        )
    numbers = memoryview(data)[file.tell() :]
    if math.prod(shape) * dtype.itemsize != len(numbers):
        raise InvalidInput(
            f"byte_data of tensor {name!r} has {len(numbers)} bytes for its shape {shown(shape)}"
        )
    return _shaped(_array_of_bytes(numbers, dtype, name), shape, "F" if is_fortran else "C", name)


def _shaped(array: Array, shape: tuple[int, ...], order: Literal["C", "F"], name: str) -> Array:
    """The numbers in a shape that holds as many, which may be none that an array can have."""
    try:
        return array.reshape(shape, order=order)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"the shape {shown(shape)} of tensor {name!r} cannot be: {error}") from None
