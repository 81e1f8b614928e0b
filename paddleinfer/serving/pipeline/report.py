"""What became of each key of a pipeline's configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from paddleinfer.serve.limits import ServiceLimits
from paddleinfer.serving.pipeline.conf import OpConf, PipelineConf
from paddleinfer.serving.pipeline.keys import LOCAL, OP, Key

__all__ = ["report_of"]

_SERVER: Final = {"http_port": "port", "rpc_port": "grpc_port"}
# Of the document and the DAG: what the pipeline does with a value.
_DOES: Final = {
    "worker_num": "so many requests may be in functions or wait for engines at once, and never fewer than {}",
    "dag.is_thread_op": "True: requests share what init_op made; False: each copy of an Op has its own",
    "dag.retry": "tries of a request that ran out of an Op's time",
    "dag.use_profile": "a PROFILE line on standard error for each request",
}
# Below an Op.
_OP_DOES: Final = {
    "batch_size": "rows that run together; with 1 each request runs by itself",
    "auto_batching_timeout": "milliseconds that a batch of several may wait for more, where that pays",
    "concurrency": "requests that may be in the Op's functions at once",
    "timeout": "milliseconds that a run of the model may take, waiting included; 0 and below: any time",
    "retry": "tries of a run that took longer than timeout",
    "server_endpoints": "servers that run the model; they take turns",
    "client_config": "the names of the servers' model",
    "client_type": "brpc asks the servers over HTTP, grpc over gRPC",
    "fetch_list": "the outputs that postprocess gets",
    "local_service_conf.fetch_list": "the outputs that postprocess gets",
    "local_service_conf.model_config": "the directory of the model",
}
_OF_MODELS: Final = ("timeout", "retry", "batch_size", "auto_batching_timeout", "fetch_list")


def report_of(
    conf: PipelineConf,
    ops: Mapping[str, OpConf],
    with_models: Collection[str],
    engine_lines: Mapping[str, Mapping[str, Mapping[str, Any]]],
    server_options: Any,
) -> dict[str, dict[str, Any]]:
    """Key -> its ``value``, and what it became; see ``PipelineServer.effective_config``.

    Parameters
    ----------
    conf, ops
        The configuration, and that of each Op with the Op's own arguments.
    with_models
        The Ops that have a model.
    engine_lines
        Op -> key -> its ``engine``, what is in force of it.
    server_options
        Those in force.
    """
    report: dict[str, dict[str, Any]] = {}
    for level, (values, keys) in conf.levels().items():
        for name, value in values.items():
            path = f"{level}.{name}" if level else name
            entry = report[path] = _entry(value, keys[name])
            if name in _SERVER:
                entry["server"] = {_SERVER[name]: getattr(server_options, _SERVER[name])}
            elif path in _DOES:
                entry["pipeline"] = _DOES[path].format(ServiceLimits().threads)
    for op, op_conf in ops.items():
        for below, values, keys in (("", op_conf.values, OP), ("local_service_conf.", op_conf.local, LOCAL)):
            for name, value in values.items():
                entry = report[f"op.{op}.{below}{name}"] = _entry(value, keys[name])
                line = engine_lines.get(op, {}).get(name, {})
                if line.get("engine"):
                    entry["engine"] = line["engine"]
                if name in _OF_MODELS and op not in with_models:
                    entry["note"] = "the Op has no model"
                elif f"{below}{name}" in _OP_DOES:
                    entry["pipeline"] = _OP_DOES[f"{below}{name}"]
    return report


def _entry(value: Any, key: Key) -> dict[str, Any]:
    entry = {"value": value}
    note = key.note or key.refused
    if note is not None:
        entry["note"] = note
    return entry
