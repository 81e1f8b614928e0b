"""Describes the server and its models: metadata, configuration, statistics, index."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from paddleinfer._version import __version__
from paddleinfer.engine.engine import Engine
from paddleinfer.models.reader import ModelFormat, TensorSpec

from ..protocol.datatypes import config_type, datatype_of
from .models import Models
from .served_models import ServedModel

__all__ = ["index", "live", "model_config", "model_metadata", "server_metadata", "statistics"]

_EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "parameters",
    "schedule_policy",
    "statistics",
)


def server_metadata(name: str, repository_control: bool) -> dict[str, Any]:
    """Returns the name, the version, and the extensions that are really offered."""
    extensions = sorted([*_EXTENSIONS, *(["model_repository"] if repository_control else [])])
    return {"name": name, "version": __version__, "extensions": extensions}


def model_metadata(model: ServedModel, versions: Sequence[ServedModel]) -> dict[str, Any]:
    """Returns the protocol's metadata of one of a model's `versions`; -1 is a free dimension.

    Raises
    ------
    RequestError
        503: it is not known, because the model was not loaded.
    """
    return {
        "name": model.name,
        "versions": [one.version for one in versions if one.engine is not None or one.loads_on_demand],
        "platform": _platform(model),
        "inputs": [_tensor(spec) for spec in model.inputs],
        "outputs": [_tensor(spec) for spec in model.outputs],
    }


def _platform(model: ServedModel) -> str:
    format = model.format
    if format is ModelFormat.CALLABLE:
        return "python"
    if model.engine is not None:
        runtime = model.engine.effective_config()["backend"]["value"]
    else:  # it is loaded on demand, from its source
        assert model.source is not None
        runtime = model.source.config.runtime.backend
    return f"paddle_{format.strip('_')}" if runtime in ("paddle", "auto") else f"{runtime}_onnx"


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": _shape(spec)}


def _shape(spec: TensorSpec) -> list[int]:
    return [-1] if spec.shape is None else list(spec.shape)


def model_config(model: ServedModel, engine: Engine) -> dict[str, Any]:
    """Returns Triton's model configuration, as far as it has a meaning here."""
    in_force = {name: line["value"] for name, line in engine.effective_config().items()}
    batches = in_force["batchable"] != "no"
    first = 1 if batches else 0

    def tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {"name": spec.name, "data_type": config_type(spec.dtype), "dims": _shape(spec)[first:]}
            for spec in specs
        ]

    config: dict[str, Any] = {
        "name": model.name,
        "platform": _platform(model),
        "backend": "paddleinfer",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": in_force["max_batch_size"] if batches else 0,
        "input": tensors(engine.inputs),
        "output": tensors(engine.outputs),
        "instance_group": [{"name": model.name, "count": in_force["instances"], "kind": _kind(in_force)}],
        "model_transaction_policy": {"decoupled": False},
        "parameters": {name: {"string_value": str(value)} for name, value in in_force.items()},
    }
    if in_force["cache_bytes"]:
        config["response_cache"] = {"enable": True}
    if batches:
        config["dynamic_batching"] = {
            "preferred_batch_size": list(in_force["preferred_batch_sizes"]),
            "max_queue_delay_microseconds": in_force["max_queue_delay_us"] or 0,
        }
    return config


def _kind(in_force: dict[str, Any]) -> str:
    return "KIND_GPU" if "gpu" in str(in_force.get("device", "cpu")) else "KIND_CPU"


def statistics(models: Sequence[tuple[ServedModel, Engine]]) -> dict[str, Any]:
    """Returns statistics by Triton's extension, as perf_analyzer reads them; durations in nanoseconds."""
    return {"model_stats": [_statistics(model, engine.stats()) for model, engine in models]}


def _statistics(model: ServedModel, stats: dict[str, Any]) -> dict[str, Any]:
    def duration(count: int, ns: int) -> dict[str, int]:
        return {"count": count, "ns": ns}

    return {
        "name": model.name,
        "version": model.version,
        "inference_count": stats["executed_rows"],
        "execution_count": stats["executions"],
        "inference_stats": {
            "success": duration(stats["results"], stats["result_ns"]),
            "fail": duration(_failed(stats), 0),
            "queue": duration(_started(stats), stats["queue_ns"]),
            "compute_input": duration(stats["executions"], stats["gather_ns"]),
            "compute_infer": duration(stats["executions"], stats["run_ns"]),
            "compute_output": duration(stats["executions"], stats["scatter_ns"]),
            "cache_hit": duration(stats["cache_hits"], stats["cache_hit_ns"]),
            "cache_miss": duration(stats["cache_misses"], stats["cache_miss_ns"]),
        },
        "batch_stats": [
            {"batch_size": rows, "compute_infer": {"count": count}}
            for rows, count in sorted(stats["batch_rows"].items())
        ],
    }


def _started(stats: dict[str, Any]) -> int:
    """Requests that went through the queue to a run of their own, and have ended."""
    answered = stats["cache_hits"] + stats["cache_coalesced"]
    return int(stats["results"] + stats["errors"] - answered)


def _failed(stats: dict[str, Any]) -> int:
    return sum(int(stats[end]) for end in ("errors", "refused", "expired", "shed", "cancelled"))


def live(models: Sequence[tuple[ServedModel, Engine]]) -> dict[str, Any]:
    """Returns the numbers that the page polls. Counters only grow: two answers' difference gives a rate."""
    return {"seconds": monotonic(), "models": [_live(model, engine) for model, engine in models]}


def _live(model: ServedModel, engine: Engine) -> dict[str, Any]:
    stats = engine.stats()
    return {
        "name": model.name,
        "version": model.version,
        "generation": stats["generation"],
        "instances": engine.effective_config()["instances"]["value"],
        "instances_busy": stats["running_executions"],
        "queued_requests": stats["queued_requests"],
        "queued_rows": stats["queued_rows"],
        "results": stats["results"],
        "failed": _failed(stats),
        "started": _started(stats),
        "rows": stats["executed_rows"],
        "executions": stats["executions"],
        "queue_ns": stats["queue_ns"],
        "run_ns": stats["run_ns"],
        "batch_rows": {str(rows): count for rows, count in sorted(stats["batch_rows"].items())},
        "latency": model.latencies.as_dict(),
    }


def index(models: Models, only_ready: bool) -> list[dict[str, str]]:
    """Returns Triton's repository index."""
    listed = [
        {"name": model.name, "version": model.version, "state": model.state, "reason": model.reason}
        for model in models.with_services()
    ]
    return [line for line in listed if line["state"] == "READY"] if only_ready else listed
