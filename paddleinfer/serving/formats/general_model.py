"""What Paddle Serving's C++ server takes and gives: ``/GeneralModelService/inference``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paddleinfer.errors import InvalidInput
from paddleinfer.models.reader import TensorSpec
from paddleinfer.sentences import shown
from paddleinfer.serving.formats.tensors import array_of, fields_of, fill_tensor, sequence_of

__all__ = [
    "ENGINE_NAME",
    "ERROR_NUMBERS",
    "GeneralRequest",
    "failure",
    "fill_request",
    "read_request",
    "read_response",
    "request",
    "response",
]

Array = npt.NDArray[Any]

ENGINE_NAME: Final = "GeneralInferOp_0"

ERROR_NUMBERS: Final = {429: -5002, 500: -5100, 503: -5001}
"""HTTP status -> ``err_no``: no room, the model failed, no memory or no model. All else is -5000."""
_OTHER_ERROR: Final = -5000
_MOST_TENSORS: Final = 1024


@dataclass(frozen=True)
class GeneralRequest:
    """What one asks."""

    inputs: dict[str, Array]
    fetch: list[str]
    """Empty: all."""
    log_id: int


def read_request(document: Mapping[str, Any]) -> GeneralRequest:
    """Of a JSON document, or of a message's fields.

    Raises
    ------
    InvalidInput
        It is no such request.
    """
    tensors = sequence_of(document, "tensor")
    fetch = sequence_of(document, "fetch_var_names")
    for what, count in (("tensors", len(tensors)), ("fetch_var_names", len(fetch))):
        if count > _MOST_TENSORS:
            raise InvalidInput(f"the request has {count} {what}, and {_MOST_TENSORS} is the most")
    if not all(isinstance(name, str) for name in fetch):
        raise InvalidInput(f'"fetch_var_names" must be a list of names, not {shown(list(fetch))}')
    inputs: dict[str, Array] = {}
    for tensor in tensors:
        if not isinstance(tensor, Mapping):
            raise InvalidInput('each of "tensor" must be an object')
        name, array = array_of(tensor)
        if name in inputs:
            raise InvalidInput(f"tensor {name!r} is given twice")
        inputs[name] = array
    log_id = document.get("log_id", 0)
    if type(log_id) is not int or not 0 <= log_id < 1 << 64:
        raise InvalidInput(f'"log_id" must be an integer from 0 up, not {shown(log_id)}')
    return GeneralRequest(inputs, list(fetch), log_id)


def response(results: Mapping[str, Array], outputs: Sequence[TensorSpec], log_id: int) -> dict[str, Any]:
    """The fields of a Response; numbers are arrays."""
    specs = {name: spec for spec in outputs for name in (spec.name, spec.alias) if name is not None}
    tensors = [
        fields_of(specs[name].name, specs[name].alias or specs[name].name, array)
        for name, array in results.items()
    ]
    document: dict[str, Any] = {"outputs": [{"tensor": tensors, "engine_name": ENGINE_NAME}]}
    if log_id:
        document["log_id"] = log_id
    return {**document, "err_no": 0, "err_msg": ""}


def request(
    inputs: Mapping[str, Array], specs: Sequence[TensorSpec], fetch: Sequence[str], log_id: int
) -> dict[str, Any]:
    """The fields of a Request; numbers are arrays. `inputs` are by the names of `specs`."""
    tensors = [fields_of(one.name, one.alias or one.name, inputs[one.name]) for one in specs]
    return {"tensor": tensors, "fetch_var_names": list(fetch), "log_id": log_id}


def fill_request(message: Any, document: Mapping[str, Any]) -> None:
    """Puts the fields of `request` into a message."""
    message.fetch_var_names.extend(document["fetch_var_names"])
    message.log_id = document["log_id"]
    for tensor in document["tensor"]:
        fill_tensor(message.tensor.add(), tensor)


def failure(status: int, sentence: str) -> dict[str, Any]:
    """The fields of a Response to a request that gets no result."""
    return {"err_no": ERROR_NUMBERS.get(status, _OTHER_ERROR), "err_msg": sentence}


def read_response(document: Mapping[str, Any]) -> dict[str, Array]:
    """Alias -> array, of a Response without an error.

    Raises
    ------
    InvalidInput
        It is no such response.
    """
    results: dict[str, Array] = {}
    for output in sequence_of(document, "outputs"):
        for tensor in sequence_of(output, "tensor"):
            name, array = array_of(tensor)
            results[name] = np.array(array)  # writable, and of its own
    return results
