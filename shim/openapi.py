"""The server's OpenAPI 3.1 document, with the models it serves."""

from __future__ import annotations

from typing import Any

from paddleinfer._version import __version__

from .datatypes import DTYPE_OF
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
    "413": "The body is too large, also after decompression.",
    "415": "The Content-Encoding is not gzip or deflate.",
    "429": "Too much waits; Retry-After says in how many seconds to come back.",
    "431": "The headers are too large.",
    "500": "The model failed on this request.",
    "503": "The model is not ready, or the server is ending.",
    "504": "The request's deadline passed.",
}


def document(models: Models, options: ServiceOptions) -> Schema:
    """As ``/openapi.json`` gives it."""
    names = [model.name for model in models]
    secured = options.api_key is not None
    paths: Schema = {
        "/v2/health/live": {
            "get": _operation("live", "Whether the process answers", _object("live"), secured=False)
        },
        "/v2/health/ready": {
            "get": _operation("ready", "Whether it takes requests", _object("ready"), "503", secured=False)
        },
        "/v2": {"get": _operation("server_metadata", "Name, version, extensions", _ref("ServerMetadata"))},
        "/v2/models/stats": {
            "get": _operation("all_statistics", "Statistics of all models", _object("model_stats"))
        },
        "/v2/repository/index": {"post": _index()},
        "/metrics": {"get": _operation("metrics", "Prometheus' text format", None)},
    }
    for verb in ("load", "unload"):
        operation = _operation(
            f"{verb}_model", f"{verb.title()} a model", _object(), "400", "403", "404", "503"
        )
        operation["parameters"] = [_path("model", names)]
        paths[f"/v2/repository/models/{{model}}/{verb}"] = {"post": operation}
    for suffix, at in (("", "/v2/models/{model}"), ("_of_version", "/v2/models/{model}/versions/{version}")):
        parameters = [_path("model", names)] + ([_path("version", [VERSION])] if suffix else [])
        for end, name, text, schema in (
            ("", "model_metadata", "Inputs and outputs", _ref("ModelMetadata")),
            ("/ready", "model_ready", "Whether the model takes requests", _object("name", "ready")),
            ("/config", "model_config", "The configuration in force", _object("name", "max_batch_size")),
            ("/stats", "model_statistics", "Statistics", _object("model_stats")),
        ):
            operation = _operation(name + suffix, text, schema, "404", "503")
            paths[at + end] = {"get": {**operation, "parameters": parameters}}
        paths[at + "/infer"] = {"post": {**_infer(suffix), "parameters": parameters}}
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
    if secured:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
        _add_unauthorised(paths)
    return described


def _add_unauthorised(paths: Schema) -> None:
    for operations in paths.values():
        for operation in operations.values():
            if operation.get("security") != []:
                operation["responses"]["401"] = _failure("401")


def _operation(
    name: str, summary: str, schema: Schema | None, *failures: str, secured: bool = True
) -> Schema:
    content = {"text/plain": {"schema": {"type": "string"}}}
    if schema is not None:
        content = {"application/json": {"schema": schema}}
    operation: Schema = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "Done.", "content": content},
            **{status: _failure(status) for status in (*failures, "405")},
        },
    }
    return operation if secured else {**operation, "security": []}


def _failure(status: str) -> Schema:
    return {"description": _WHY[status], "content": {"application/json": {"schema": _ref("Error")}}}


def _index() -> Schema:
    operation = _operation(
        "repository_index",
        "The models and their state",
        {"type": "array", "items": _object("name", "state")},
        "400",
        "413",
    )
    schema = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": schema}}}
    return operation


def _infer(suffix: str) -> Schema:
    statuses = ("400", "404", "413", "415", "429", "500", "503", "504")
    operation = _operation(f"infer{suffix}", "Run the model", _ref("InferResponse"), *statuses)
    binary: Schema = {
        "description": "JSON followed by tensors; Inference-Header-Content-Length says how long the JSON is.",
        "schema": {"type": "string", "format": "binary"},
    }
    operation["responses"]["200"]["content"]["application/octet-stream"] = binary
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": _ref("InferRequest")}, "application/octet-stream": binary},
    }
    return operation


def _path(name: str, values: list[str]) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": values or ["none"]},
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(*required: str) -> Schema:
    return {"type": "object", "required": list(required)} if required else {"type": "object"}


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
            "datatype": datatype,
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
