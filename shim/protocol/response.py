"""Writes the engine's results as a response of the Open Inference Protocol: JSON, with or without tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from .bytes_tensors import BYTES, is_bytes, packed, size_of, texts_of
from .datatypes import DATATYPE_OF, DTYPE_OF
from .errors import bad_request
from .request import InferRequest, WantedOutput

__all__ = ["classified", "encode_response", "is_long_response", "packed_texts", "result_bytes"]

Array = npt.NDArray[Any]

# Larger responses are not written on the loop's own thread; the second limit is for those to be sorted.
_LONG_BYTES: Final = 1 << 20
_LONG_CLASSIFIED_BYTES: Final = 1 << 16
# How many numbers of a list are written in one call.
_PIECE_ELEMENTS: Final = 1 << 16
_SORTED_ELEMENTS: Final = 1 << 16
# The most classes; each is a text.
_MOST_CLASSES: Final = 1 << 16

_HALVES = frozenset({DTYPE_OF["FP16"], DTYPE_OF["BF16"]})


def result_bytes(results: Mapping[str, Array]) -> int:
    """Returns the bytes of a request's results, before they are written."""
    return sum(size_of(array) if is_bytes(array) else array.nbytes for array in results.values())


def is_long_response(request: InferRequest, size_bytes: int) -> bool:
    """Tells whether writing results of this size takes too long for the loop's own thread."""
    most = _LONG_BYTES
    if request.outputs is not None and any(output.classes for output in request.outputs):
        most = _LONG_CLASSIFIED_BYTES
    return size_bytes > most


def encode_response(
    model: str, version: str, request: InferRequest, results: Mapping[str, Array]
) -> tuple[bytes | bytearray, int | None]:
    """Returns the body, and the bytes of its JSON if binary tensors follow it, else None.

    Numbers that JSON cannot express (NaN, infinities) become null there; the binary form keeps them.

    Raises
    ------
    RequestError
        400: an output has no classes, or too many are asked for.
    """
    wanted = request.outputs or [WantedOutput(name, request.binary) for name in results]
    outputs: list[dict[str, Any]] = []
    long_lists: dict[int, Array] = {}
    binary: list[bytes | memoryview] = []
    for output in wanted:
        array = results[output.name]
        if output.classes:
            texts, shape = classified(output, array)
            described: dict[str, Any] = {"name": output.name, "datatype": "BYTES", "shape": shape}
            if output.binary:
                binary.append(packed_texts(texts))
                described["parameters"] = {"binary_data_size": len(binary[-1])}
            else:
                described["data"] = texts
        elif is_bytes(array):
            described = {"name": output.name, "datatype": BYTES, "shape": array.shape}
            if output.binary:
                binary.append(packed(array))
                described["parameters"] = {"binary_data_size": len(binary[-1])}
            else:
                described["data"] = texts_of(array, output.name)
        else:
            described = {
                "name": output.name,
                "datatype": DATATYPE_OF[array.dtype],
                "shape": array.shape,
            }
            if output.binary:
                described["parameters"] = {"binary_data_size": array.nbytes}
                binary.append(array.reshape(-1).view(np.uint8).data if array.size else b"")
            elif array.size > _PIECE_ELEMENTS:
                long_lists[len(outputs)] = array.reshape(-1)
            else:
                described["data"] = _jsonable(array).reshape(-1)
        outputs.append(described)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id is not None:
        document["id"] = request.id
    if not binary and not long_lists:
        return _written(document), None
    parts: list[bytes | memoryview] = [
        *(_in_pieces(document, long_lists) if long_lists else [_written(document)])
    ]
    json_bytes = sum(map(len, parts)) if any(output.binary for output in wanted) else None
    return _joined([*parts, *binary]), json_bytes


def _joined(parts: list[bytes | memoryview]) -> bytes | bytearray:
    """Joins parts in pieces, between which other threads may take the GIL."""
    if len(parts) == 1 and isinstance(parts[0], bytes):
        return parts[0]
    size = sum(map(len, parts))
    if size <= _LONG_BYTES:
        return b"".join(parts)
    whole = bytearray(size)
    place = 0
    for part in parts:
        for begin in range(0, len(part), _LONG_BYTES):
            piece = memoryview(part)[begin : begin + _LONG_BYTES]
            whole[place : place + len(piece)] = piece
            place += len(piece)
    return whole


def _in_pieces(document: dict[str, Any], long_lists: Mapping[int, Array]) -> list[bytes]:
    """Writes the JSON of a response; the argument maps outputs to long lists of data.

    A list is written in pieces, between which other threads may take the GIL.
    """
    outputs, identity = document.pop("outputs"), document.pop("id", None)
    parts = [_written(document)[:-1], b',"outputs":[']
    for place, described in enumerate(outputs):
        parts += [b"," if place else b"", _written(described)]
        array = long_lists.get(place)
        if array is None:
            continue
        parts[-1] = parts[-1][:-1]
        for begin in range(0, array.size, _PIECE_ELEMENTS):
            piece = _written(_jsonable(array[begin : begin + _PIECE_ELEMENTS]))
            parts += [b"," if begin else b',"data":[', piece[1:-1]]
        parts.append(b"]}")
    return [*parts, b"]}" if identity is None else b'],"id":%b}' % _written(identity)]


def _written(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _jsonable(array: Array) -> Array:
    """Converts to a dtype that orjson writes; float32 has every value of the 16-bit floats."""
    return array.astype(np.float32) if array.dtype in _HALVES else array


def classified(output: WantedOutput, array: Array) -> tuple[list[str], list[int]]:
    """Returns the `classes` largest of each row as "value:index", as Triton does, and their shape.

    Raises
    ------
    RequestError
        400: the output has no rows of numbers, or too many classes are asked for.
    """
    if array.ndim < 1 or array.dtype.kind in "bO":
        raise bad_request(
            f"output {output.name!r} cannot be classified: it is not a list of numbers for each row"
        )
    rows = (
        array.reshape(1, -1) if array.ndim == 1 else array.reshape(array.shape[0], math.prod(array.shape[1:]))
    )
    numbers = _jsonable(rows)
    count = min(output.classes, numbers.shape[1])
    if count * numbers.shape[0] > _MOST_CLASSES:
        raise bad_request(
            f"classification of output {output.name!r} asks for {count} of each of {numbers.shape[0]} rows, "
            f"and {_MOST_CLASSES} in all is the most"
        )
    texts = [
        f"{numbers[row, index]:f}:{index}"
        for row, indices in enumerate(_largest(numbers, count))
        for index in indices
    ]
    return texts, [count] if array.ndim == 1 else [numbers.shape[0], count]


def _largest(rows: Array, count: int) -> Iterator[npt.NDArray[np.intp]]:
    """Returns the places of each row's largest values, the largest first, and the first of equal ones."""
    part = max(_SORTED_ELEMENTS, 4 * count)
    if rows.shape[1] > part:
        yield from (_largest_of_long(row, count, part) for row in rows)
        return
    step = max(1, part // max(1, rows.shape[1]))
    for begin in range(0, rows.shape[0], step):
        yield from _falling(rows[begin : begin + step])[:, :count]


def _largest_of_long(row: Array, count: int, part: int) -> npt.NDArray[np.intp]:
    # Sorting the whole row would take six times its bytes. The largest are among the largest of its parts.
    begins = range(0, row.size, part)
    parts = [begin + np.sort(_falling(row[begin : begin + part])[:count]) for begin in begins]
    places = np.concatenate(parts)
    return places[_falling(row[places])[:count]]


def _falling(numbers: Array) -> npt.NDArray[np.intp]:
    return np.argsort(-numbers.astype(np.float64), axis=-1, kind="stable")


def packed_texts(texts: Iterable[str]) -> bytes:
    """Writes a BYTES tensor in binary: each element follows its length."""
    return b"".join(len(text).to_bytes(4, "little") + text.encode() for text in texts)
