"""The server's OpenAPI 3.1 document, with the models it serves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from paddleinfer._version import __version__
from paddleinfer.model import TensorSpec

from .datatypes import DTYPE_OF, datatype_of
from .models import VERSION, Models
from .service import ServiceOptions

__all__ = ["document"]

Schema = dict[str, Any]

_WHY = {
    "400": "The request is not understood, or does not fit the model.",
    "401": "The key is missing or another.",
    "403": "Not offered by this server.",
    "404": "No such path, model or version.",
    "405": "The path does not take this method.",
    "408": "The client fell silent in the middle of the request.",
    "413": "The body is too large, also after decompression.",
    "415": "The Content-Encoding is not gzip or deflate.",
    "429": "Too much waits; Retry-After says in how many seconds to come back.",
    "431": "The headers are too large.",
    "500": "The model failed on this request.",
    "503": "The model is not ready, or the server is ending.",
    "504": "The request's deadline passed.",
}

_MANY = 256
_JSON_BYTES = "Inference-Header-Content-Length"
_HEADERS: dict[str, tuple[str, Schema]] = {
    "401": ("WWW-Authenticate", {"type": "string"}),
    "429": ("Retry-After", {"type": "integer", "minimum": 1}),
}


def document(models: Models, options: ServiceOptions) -> Schema:
    """As ``/openapi.json`` gives it."""
    names = [model.name for model in models]
    examples = {
        model.name: {"value": _example(model.engine.inputs)} for model in models if model.engine is not None
    }
    metadata = _ref("ServerMetadata")
    paths: Schema = {
        "/": {"get": _open(_operation("page", "A page that shows the models", _text("text/html")))},
        "/openapi.json": {"get": _operation("openapi", "This document", _json(_object("openapi", "paths")))},
        "/metrics": {"get": _operation("metrics", "Prometheus' text format", _text("text/plain"))},
        "/v2": {"get": _operation("server_metadata", "Name, version, extensions", _json(metadata))},
        "/v2/": {"get": _operation("server_metadata_too", "Name, version, extensions", _json(metadata))},
        "/v2/health/live": {
            "get": _open(_operation("live", "Whether the process answers", _json(_object("live"))))
        },
        "/v2/health/ready": {
            "get": _open(_operation("ready", "Whether it takes requests", _json(_object("ready")), "503"))
        },
        "/v2/models/stats": {
            "get": _operation("all_statistics", "Statistics of all models", _json(_ref("Statistics")))
        },
        "/v2/live": {"get": _operation("live_numbers", "What the page shows live", _json(_ref("Live")))},
        "/v2/trace": {"get": _trace(names)},
        "/v2/repository/index": {"post": _index()},
    }
    statuses = ("400", "403", "404", "500", "503")
    load = _operation("load_model", "Load a model", _json(_object()), *statuses, "413")
    load["requestBody"] = {"required": False, "content": _json(_load_request())}
    unload = _operation("unload_model", "Unload a model", _json(_object()), *statuses)
    for verb, operation in (("load", load), ("unload", unload)):
        operation["parameters"] = [_path("model", names)]
        paths[f"/v2/repository/models/{{model}}/{verb}"] = {"post": operation}
    for suffix, at in (("", "/v2/models/{model}"), ("_of_version", "/v2/models/{model}/versions/{version}")):
        parameters = [_path("model", names)] + ([_path("version", [VERSION])] if suffix else [])
        for end, name, text, schema in (
            ("", "model_metadata", "Inputs and outputs", _ref("ModelMetadata")),
            ("/ready", "model_ready", "Whether the model takes requests", _object("name", "ready")),
            ("/config", "model_config", "The configuration in force", _object("name", "max_batch_size")),
            ("/stats", "model_statistics", "Statistics", _ref("Statistics")),
            ("/diagnosis", "model_diagnosis", "What binds its requests", _object("model", "verdict")),
        ):
            operation = _operation(name + suffix, text, _json(schema), "404", "503")
            paths[at + end] = {"get": {**operation, "parameters": parameters}}
        paths[at + "/infer"] = {"post": _infer(suffix, parameters, examples)}
    components: Schema = {"schemas": _schemas()}
    described: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "paddleinfer",
            "version": __version__,
            "description": "Open Inference Protocol (REST) over PaddlePaddle models.",
        },
        "paths": paths,
        "components": components,
    }
    if options.api_key is not None:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
        _add_unauthorised(paths)
    return described


def _trace(names: list[str]) -> Schema:
    operation = _operation("trace", "Records a Chrome trace", _json(_object("traceEvents")), "400", "404")
    seconds = {"type": "number", "exclusiveMinimum": 0, "maximum": 60, "default": 1}
    operation["parameters"] = [
        {"name": "seconds", "in": "query", "required": False, "schema": seconds},
        {**_path("model", names), "in": "query", "required": False},
    ]
    return operation


def _add_unauthorised(paths: Schema) -> None:
    for operations in paths.values():
        for operation in operations.values():
            if operation.get("security") != []:
                operation["responses"]["401"] = _failure("401")


def _operation(name: str, summary: str, content: Schema, *failures: str) -> Schema:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "Done.", "content": content},
            **{status: _failure(status) for status in sorted((*failures, "405", "408", "431"))},
        },
    }


def _open(operation: Schema) -> Schema:
    return {**operation, "security": []}


def _failure(status: str) -> Schema:
    failure: Schema = {"description": _WHY[status], "content": _json(_ref("Error"))}
    if status in _HEADERS:
        name, schema = _HEADERS[status]
        failure["headers"] = {name: {"schema": schema}}
    return failure


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _text(media_type: str) -> Schema:
    return {media_type: {"schema": {"type": "string"}}}


def _index() -> Schema:
    listed = _json({"type": "array", "items": _ref("RepositoryModel")})
    operation = _operation("repository_index", "The models and their state", listed, "400", "413")
    ready = {"type": "boolean", "description": "Only models that are ready."}
    wanted = {"type": "object", "properties": {"ready": ready}}
    operation["requestBody"] = {"required": False, "content": _json(wanted)}
    return operation


def _load_request() -> Schema:
    config = {"type": "string", "description": 'Of the configuration, as JSON: {"max_batch_size": 16}.'}
    parameters = {"type": "object", "properties": {"config": config}}
    return {"type": "object", "properties": {"parameters": parameters}}


def _infer(suffix: str, parameters: list[Schema], examples: Schema) -> Schema:
    statuses = ("400", "404", "413", "415", "429", "500", "503", "504")
    # JSON followed by tensors; the header says how long the JSON is.
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    content = {**_json(_ref("InferResponse")), **binary}
    operation = _operation(f"infer{suffix}", "Run the model", content, *statuses)
    length = {"schema": {"type": "integer", "minimum": 0}}
    operation["responses"]["200"]["headers"] = {_JSON_BYTES: length}
    operation["parameters"] = [*parameters, {"name": _JSON_BYTES, "in": "header", **length}]
    given: Schema = {**_json(_ref("InferRequest")), **binary}
    if examples:
        given["application/json"]["examples"] = examples
    operation["requestBody"] = {"required": True, "content": given}
    return operation


def _example(inputs: Sequence[TensorSpec]) -> Schema:
    """One row of zeros; without its numbers where they are many."""
    tensors: list[Schema] = []
    for spec in inputs:
        shape = [max(size, 1) for size in spec.shape or (1,)]
        count = math.prod(shape)
        tensor = {"name": spec.name, "shape": shape, "datatype": datatype_of(spec.dtype)}
        tensors.append({**tensor, "data": [0] * count} if count <= _MANY else tensor)
    return {"inputs": tensors}


def _path(name: str, values: list[str]) -> Schema:
    schema: Schema = {"type": "string", "enum": values} if values else {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(*required: str) -> Schema:
    return {"type": "object", "required": list(required)} if required else {"type": "object"}


def _live() -> Schema:
    count = {"type": "integer", "minimum": 0}
    time = {"type": ["number", "null"], "description": "Microseconds; null: no request yet."}
    bucket = {
        "type": "array",
        "items": {"type": "number"},
        "description": "From and to, in microseconds, and how many.",
    }
    latency = {
        "type": "object",
        "description": "Of HTTP requests with a result since the server began.",
        "required": ["count", "p50_us", "p90_us", "p99_us", "buckets"],
        "properties": {
            "count": count,
            **dict.fromkeys(("p50_us", "p90_us", "p99_us"), time),
            "buckets": {"type": "array", "items": bucket},
        },
    }
    now = ("instances", "instances_busy", "queued_requests", "queued_rows")
    counters = ("results", "failed", "started", "rows", "executions", "queue_ns", "run_ns")
    model = {
        "name": {"type": "string"},
        "generation": {"type": "integer", "minimum": 1},
        **dict.fromkeys((*now, *counters), count),
        "batch_rows": {
            "type": "object",
            "additionalProperties": count,
            "description": "Rows of a run: how many.",
        },
        "latency": latency,
    }
    return {
        "type": "object",
        "required": ["seconds", "models"],
        "properties": {
            "seconds": {"type": "number", "description": "The server's clock, for differences."},
            "models": {
                "type": "array",
                "items": {"type": "object", "required": list(model), "properties": model},
            },
        },
    }


def _schemas() -> Schema:
    text, flag = {"type": "string"}, {"type": "boolean"}
    shape = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    count = {"type": "integer", "minimum": 0}
    datatype = {"type": "string", "enum": list(DTYPE_OF)}
    data = {"type": "array", "items": {}, "description": "Numbers, flat or nested as the shape says."}
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": text,
            "datatype": {"type": "string", "enum": [*DTYPE_OF, "UNKNOWN"]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        },
    }
    return {
        "Error": {"type": "object", "required": ["error"], "properties": {"error": text}},
        "ServerMetadata": {
            "type": "object",
            "required": ["name", "version", "extensions"],
            "properties": {"name": text, "version": text, "extensions": {"type": "array", "items": text}},
        },
        "RepositoryModel": {
            "type": "object",
            "required": ["name", "version", "state", "reason"],
            "properties": {
                "name": text,
                "version": text,
                "state": {"type": "string", "enum": ["LOADING", "READY", "UNLOADING", "UNAVAILABLE"]},
                "reason": text,
            },
        },
        "Statistics": {
            "type": "object",
            "required": ["model_stats"],
            "properties": {
                "model_stats": {
                    "type": "array",
                    "items": _object("name", "version", "inference_stats", "batch_stats"),
                }
            },
        },
        "Live": _live(),
        "ModelMetadata": {
            "type": "object",
            "required": ["name", "versions", "platform", "inputs", "outputs"],
            "properties": {
                "name": text,
                "versions": {"type": "array", "items": text},
                "platform": text,
                "inputs": {"type": "array", "items": tensor},
                "outputs": {"type": "array", "items": tensor},
            },
        },
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": text,
                "parameters": {
                    "type": "object",
                    "properties": {
                        "priority": {**count, "description": "1 is the most urgent; 0: the default."},
                        "timeout": {**count, "description": "Microseconds to the deadline; 0: none."},
                        "binary_data_output": flag,
                    },
                },
                "inputs": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["name", "shape", "datatype"],
                        "properties": {
                            "name": text,
                            "shape": shape,
                            "datatype": datatype,
                            "data": data,
                            "parameters": {"type": "object", "properties": {"binary_data_size": count}},
                        },
                    },
                },
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": text,
                            "parameters": {
                                "type": "object",
                                "properties": {"binary_data": flag, "classification": count},
                            },
                        },
                    },
                },
            },
        },
        "InferResponse": {
            "type": "object",
            "required": ["model_name", "outputs"],
            "properties": {
                "model_name": text,
                "model_version": text,
                "id": text,
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "datatype", "shape"],
                        "properties": {
                            "name": text,
                            "datatype": {"type": "string", "enum": [*DTYPE_OF, "BYTES"]},
                            "shape": shape,
                            "data": data,
                            "parameters": {"type": "object"},
                        },
                    },
                },
            },
        },
    }
