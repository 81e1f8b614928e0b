"""Results of the engine -> a response of the Open Inference Protocol: JSON, or JSON and binary tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from .datatypes import DATATYPE_OF, DTYPE_OF
from .errors import bad_request
from .infer_request import InferRequest, WantedOutput

__all__ = ["classified", "encode_response", "packed_texts"]

Array = npt.NDArray[Any]

_HALVES = frozenset({DTYPE_OF["FP16"], DTYPE_OF["BF16"]})


def encode_response(
    model: str, version: str, request: InferRequest, results: Mapping[str, Array]
) -> tuple[bytes, int | None]:
    """The body, and the bytes of its JSON where binary tensors follow it, else None.

    Numbers that JSON has no word for (NaN, infinities) become null there; the binary form keeps them.
    """
    wanted = request.outputs or [WantedOutput(name, request.binary) for name in results]
    outputs: list[dict[str, Any]] = []
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
        else:
            described = {
                "name": output.name,
                "datatype": DATATYPE_OF[array.dtype],
                "shape": array.shape,
            }
            if output.binary:
                described["parameters"] = {"binary_data_size": array.nbytes}
                binary.append(array.reshape(-1).view(np.uint8).data if array.size else b"")
            else:
                described["data"] = _jsonable(array).reshape(-1)
        outputs.append(described)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id is not None:
        document["id"] = request.id
    header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(output.binary for output in wanted):
        return header, None
    return b"".join([header, *binary]), len(header)


def _jsonable(array: Array) -> Array:
    """In a dtype that orjson writes; every value of the 16-bit floats is one of float32, too."""
    return array.astype(np.float32) if array.dtype in _HALVES else array


def classified(output: WantedOutput, array: Array) -> tuple[list[str], list[int]]:
    """The `classes` largest of each row as "value:index", the largest first, and their shape: as Triton does.

    Raises
    ------
    RequestError
        400: the output has no rows of numbers.
    """
    if array.ndim < 1 or array.dtype.kind == "b":
        raise bad_request(
            f"output {output.name!r} cannot be classified: it is not a list of numbers for each row"
        )
    rows = array.reshape(1, -1) if array.ndim == 1 else array.reshape(array.shape[0], -1)
    numbers = _jsonable(rows)
    count = min(output.classes, numbers.shape[1])
    order = np.argsort(-numbers.astype(np.float64), axis=1, kind="stable")[:, :count]
    texts = [f"{numbers[row, index]:f}:{index}" for row, indices in enumerate(order) for index in indices]
    return texts, [count] if array.ndim == 1 else [numbers.shape[0], count]


def packed_texts(texts: Iterable[str]) -> bytes:
    """A BYTES tensor in binary: each element after its length."""
    return b"".join(len(text).to_bytes(4, "little") + text.encode() for text in texts)
