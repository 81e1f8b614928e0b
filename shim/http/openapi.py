"""Makes the server's OpenAPI 3.1 document: its operations, with the models it serves."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from paddleinfer._version import __version__
from paddleinfer.models.reader import TensorSpec

from ..protocol.datatypes import datatype_of
from ..service.models import Models
from ..service.served_models import VERSION
from ..service.service import ServiceOptions
from ..service.services import Services
from .operations import Operation, Parameter
from .schemas import Schema, components, json_of, ref

__all__ = ["document"]

_WHY = {
    "400": "The request is malformed, or does not fit the model.",
    "401": "The API key is missing or wrong.",
    "403": "This server does not offer it, or not to pages of other sites.",
    "404": "There is no such path, model or version.",
    "405": "The path does not take this method.",
    "408": "The request arrived too slowly.",
    "413": "The body is too large, also after decompression.",
    "415": "The Content-Encoding is not gzip or deflate.",
    "421": "The Host is not a name of this server.",
    "429": "Too much is waiting; Retry-After says after how many seconds to retry.",
    "431": "The headers are too large.",
    "500": "The model failed on this request.",
    "501": "The Transfer-Encoding is not chunked, or the method is CONNECT.",
    "503": "The model is not ready, the server is ending, or it has too many connections.",
    "504": "The request's deadline passed.",
    "505": "The version of HTTP is neither 1.1 nor 1.0.",
}
# The statuses that any request can get before its purpose is known.
_ALWAYS = ("400", "405", "408", "421", "431", "501", "503", "505")

_MANY = 256
_HEADERS: dict[str, tuple[str, Schema]] = {
    "401": ("WWW-Authenticate", {"type": "string"}),
    "429": ("Retry-After", {"type": "integer", "minimum": 1}),
}


def document(
    operations: Iterable[Operation], models: Models, services: Services, options: ServiceOptions
) -> Schema:
    """Makes the document that ``/openapi.json`` returns."""
    values = {
        "model": sorted({model.name for model in models.with_services()}),
        "version": sorted({VERSION, *(model.version for model in models)}, key=int),
        "service": [served.name for served in services],
    }
    examples = {
        model.name: {"value": _example(model.engine.inputs)} for model in models if model.engine is not None
    }
    paths: dict[str, Schema] = {}
    for operation in operations:
        for suffix, path in operation.paths.items():
            described = _described(operation, suffix, path, values)
            content = described.get("requestBody", {}).get("content", {}).get("application/json", {})
            if examples and content.get("schema") == ref("InferRequest"):
                content["examples"] = examples
            paths.setdefault(path, {})[operation.method.lower()] = described
    parts: Schema = {"schemas": components(_fewest_inputs(models))}
    whole: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "paddleinfer",
            "version": __version__,
            "description": "Open Inference Protocol (REST) over PaddlePaddle models.",
        },
        "paths": paths,
        "components": parts,
    }
    if options.api_key is not None:
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"key": []}]
        _add_unauthorised(paths)
    return whole


def _described(operation: Operation, suffix: str, path: str, values: dict[str, list[str]]) -> Schema:
    answer: Schema = {"description": "Done.", "content": operation.answer}
    if operation.answer_headers:
        answer["headers"] = operation.answer_headers
    statuses = sorted({*map(str, operation.failures), *_ALWAYS})
    described: Schema = {
        "operationId": operation.name + suffix,
        "summary": operation.summary,
        "responses": {"200": answer, **{status: _failure(status, operation.failure) for status in statuses}},
    }
    in_path = [Parameter(name, "path") for name in re.findall(r"{(\w+)}", path)]
    parameters = [_parameter(one, values) for one in (*in_path, *operation.parameters)]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content = {media_type: dict(body) for media_type, body in operation.body.items()}
        described["requestBody"] = {"required": operation.body_is_required, "content": content}
    if not operation.needs_key:
        described["security"] = []
    return described


def _parameter(parameter: Parameter, values: dict[str, list[str]]) -> Schema:
    schema = parameter.schema
    if schema is None:
        known = values[parameter.name]
        schema = {"type": "string", "enum": known} if known else {"type": "string"}
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "schema": schema,
    }


def _add_unauthorised(paths: Schema) -> None:
    for operations in paths.values():
        for operation in operations.values():
            if operation.get("security") != []:
                operation["responses"]["401"] = _failure("401")


def _failure(status: str, content: Schema | None = None) -> Schema:
    failure: Schema = {"description": _WHY[status], "content": content or json_of(ref("Error"))}
    if status in _HEADERS:
        name, schema = _HEADERS[status]
        failure["headers"] = {name: {"schema": schema}}
    return failure


def _example(inputs: Sequence[TensorSpec]) -> Schema:
    """Makes one row of zeros, without its numbers if they are many."""
    tensors: list[Schema] = []
    for spec in inputs:
        shape = [max(size, 1) for size in spec.shape or (1,)]
        count = math.prod(shape)
        tensor = {"name": spec.name, "shape": shape, "datatype": datatype_of(spec.dtype)}
        tensors.append({**tensor, "data": [0] * count} if count <= _MANY else tensor)
    return {"inputs": tensors}


def _fewest_inputs(models: Models) -> int:
    """Returns how many inputs a request for any of the models must have."""
    return min((len(engine.inputs) for _, engine in models.opened()), default=1)
