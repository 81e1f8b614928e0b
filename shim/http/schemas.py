"""Defines the JSON schemas of requests and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from ..protocol.datatypes import DTYPE_OF

__all__ = [
    "ANY",
    "BINARY",
    "FORM",
    "GENERAL_FAILURE",
    "PREDICTION",
    "PREDICTION_FAILURE",
    "PROTO_BODY",
    "Schema",
    "components",
    "json_of",
    "object_with",
    "ref",
    "text_of",
]

Schema = dict[str, Any]

# JSON followed by tensors; a header gives the length of the JSON.
BINARY: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

FORM: Final = {"multipart/form-data": {"schema": {"type": "object"}}}

# What a service answers is its own affair.
ANY: Final[Schema] = {"*/*": {"schema": {}}}


def json_of(schema: Schema) -> Schema:
    """Describes a JSON body, by its media type."""
    return {"application/json": {"schema": schema}}


def text_of(media_type: str) -> Schema:
    """Describes a text body, by its media type."""
    return {media_type: {"schema": {"type": "string"}}}


def ref(name: str) -> Schema:
    """Refers to one of components()."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_with(*required: str) -> Schema:
    """Describes an object that has at least these properties."""
    return {"type": "object", "required": list(required)} if required else {"type": "object"}


# Paddle Serving's

PROTO_BODY: Final = {"application/proto": {"schema": {"type": "string", "format": "binary"}}}
PREDICTION: Final[Schema] = {
    "type": "object",
    "anyOf": [object_with("err_no", "err_msg"), object_with("result")],
}
PREDICTION_FAILURE: Final[Schema] = {"type": "object", "anyOf": [ref("Error"), PREDICTION]}
GENERAL_FAILURE: Final[Schema] = {"type": "object", "anyOf": [ref("Error"), object_with("err_no", "err_msg")]}


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
        "description": "Requests with a result, over HTTP and gRPC, since the server started.",
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
        "version": {"type": "string"},
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


def components(fewest_inputs: int) -> Schema:
    """Returns name -> schema; a request for any of the models has at least `fewest_inputs` inputs."""
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
                    "items": object_with("name", "version", "inference_stats", "batch_stats"),
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
            "required": ["inputs"] if fewest_inputs else [],
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
                    "minItems": min(fewest_inputs, 1),
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
