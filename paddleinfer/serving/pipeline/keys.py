"""The keys of a pipeline's configuration: what each may be, and why some change nothing here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import listed, shown

__all__ = ["DAG", "LOCAL", "OP", "TOP", "TRACER", "Key", "checked"]

_KINDS: Final = {
    bool: "True or False",
    int: "an integer",
    str: "a text",
    list: "a list of texts",
    dict: "a mapping",
}
_METRICS: Final = "metrics are at /metrics on the port of HTTP, and timelines at /v2/trace"
_HERE: Final = "the models run in this process"


@dataclass(frozen=True)
class Key:
    """One key."""

    kind: type
    least: int | None = None
    most: int | None = None
    among: tuple[Any, ...] = ()
    """The values that it may have; (): any."""
    note: str | None = None
    """Why the value changes nothing here; None: it does."""
    refused: str | None = None
    """Why it can only be off or empty."""

    def check(self, path: str, value: Any) -> None:
        """Raises ConfigError, which says what would be right."""
        kind = type(value)
        if kind is not self.kind or (kind is list and not all(isinstance(one, str) for one in value)):
            raise ConfigError(f"{path} must be {_KINDS[self.kind]}, not {shown(value)}")
        if self.least is not None and value < self.least:
            raise ConfigError(f"{path} must be an integer from {self.least} up, not {shown(value)}")
        if self.most is not None and value > self.most:
            raise ConfigError(f"{path} must be at most {self.most}, not {shown(value)}")
        if self.among and value not in self.among:
            raise ConfigError(f"{path} must be one of {listed(map(shown, self.among))}, not {shown(value)}")
        if self.refused is not None and value not in (False, 0, "", [], {}):
            raise ConfigError(f"{path}: {shown(value)} is not offered: {self.refused}; leave it out")


_PORT: Final = Key(int, 0, 65535)

TOP: Final = {
    "rpc_port": _PORT,
    "http_port": _PORT,
    "worker_num": Key(int, 1, 4096),
    "build_dag_each_worker": Key(bool, note="one process answers all, for its instances run without the GIL"),
    "grpc_gateway_port": Key(int, note="HTTP needs no gateway to gRPC"),
    "dag": Key(dict),
    "op": Key(dict),
}
"""Of the document."""

TRACER: Final = {"interval_s": Key(int, note=_METRICS)}
"""Below ``dag.tracer``."""

DAG: Final = {
    "is_thread_op": Key(bool),
    "retry": Key(int, 1, 1000),
    "client_type": Key(str, note="each Op says how its model is asked"),
    "use_profile": Key(bool),
    "channel_size": Key(int, 0, note="what waits is in the engines' queues, of max_queue_rows"),
    "tracer": Key(dict),
    "channel_recv_frist_arrive": Key(bool, refused="every input of an Op is waited for"),
    "enable_prometheus": Key(bool, note=_METRICS),
    "prometheus_port": Key(int, note=_METRICS),
}
"""Below ``dag``."""

OP: Final = {
    "concurrency": Key(int, 1, 1024),
    "timeout": Key(int, most=(1 << 63) - 1),
    "retry": Key(int, 1, 1000),
    "batch_size": Key(int, 1, 1 << 20),
    "auto_batching_timeout": Key(int),
    "local_service_conf": Key(dict),
    "server_endpoints": Key(list),
    "fetch_list": Key(list),
    "client_config": Key(str),
    "client_type": Key(str, among=("brpc", "grpc", "local_predictor")),
    "use_encryption_model": Key(bool, refused="encrypted models are not read"),
    "encryption_key": Key(str, refused="encrypted models are not read"),
}
"""Below ``op.NAME``."""

LOCAL: Final = {
    "model_config": Key(str),
    "client_type": Key(str, among=("brpc", "grpc", "local_predictor"), note=_HERE),
    "workdir": Key(str, note="nothing is written"),
    "thread_num": Key(int, 1, 1024),
    "device_type": Key(int, -1, 6),
    "devices": Key(str),
    "mem_optim": Key(bool),
    "ir_optim": Key(bool),
    "precision": Key(str),
    "use_calib": Key(bool, refused="calibration for int8 is made offline, by PaddleSlim"),
    "use_mkldnn": Key(bool),
    "mkldnn_cache_capacity": Key(int, 0),
    "mkldnn_op_list": Key(list, refused="oneDNN takes every operator that it has a kernel for"),
    "mkldnn_bf16_op_list": Key(list, refused="bfloat16 is for every operator that has it"),
    "min_subgraph_size": Key(int, among=(3,), note="TensorRT's subgraphs have at least 3 operators"),
    "fetch_list": Key(list),
}
"""Below ``op.NAME.local_service_conf``."""


def checked(path: str, given: Any, keys: Mapping[str, Key]) -> dict[str, Any]:
    """The values of a mapping, without those that are null.

    Raises
    ------
    ConfigError
        It is no mapping, has a key that there is not, or a value that cannot be.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{path or 'the configuration'} must be a mapping, not {shown(given)}")
    values = {}
    for name, value in given.items():
        place = f"{path}.{name}" if path else str(name)
        if name not in keys:
            near = difflib.get_close_matches(str(name), keys, 1)
            hint = f"did you mean {near[0]}" if near else f"the keys are {listed(keys)}"
            raise ConfigError(f"{shown(place)} is no key of a pipeline's configuration: {hint}")
        if value is not None:
            keys[name].check(place, value)
            values[name] = value
    return values
