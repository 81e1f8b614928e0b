"""A pipeline's configuration: ``config.yml``, or the same as a dict."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown
from paddleinfer.serving.pipeline.keys import DAG, LOCAL, OP, TOP, TRACER, Key, checked

__all__ = ["LocalServiceHandler", "OpConf", "PipelineConf", "read_conf"]

_LEVELS: Final = {"": TOP, "dag": DAG, "dag.tracer": TRACER}


class LocalServiceHandler:
    """Says in Python what ``op.NAME.local_service_conf`` says in a configuration, by the same names."""

    def __init__(self, model_config: str, client_type: str = "local_predictor", **conf: Any) -> None:
        self.conf = {"model_config": model_config, "client_type": client_type, **conf}
        """By the configuration's keys."""


@dataclass(frozen=True)
class OpConf:
    """Below ``op.NAME``, without what is not given."""

    values: Mapping[str, Any] = field(default_factory=dict)
    local: Mapping[str, Any] = field(default_factory=dict)
    """Of ``local_service_conf``."""

    def overridden(self, name: str, given: Mapping[str, Any], handler: Any) -> OpConf:
        """With the arguments of an Op of this name in the place of what the configuration says.

        Raises
        ------
        ConfigError
            An argument cannot be.
        """
        path = f"op.{name}"
        values = {**self.values, **checked(path, given, OP)}
        local = self.local
        if handler is not None:
            if not isinstance(handler, LocalServiceHandler):
                raise ConfigError(
                    f"local_service_handler of Op {name!r} must be a LocalServiceHandler, "
                    f"not {shown(handler)}"
                )
            local = checked(f"{path}.local_service_conf", handler.conf, LOCAL)
        return OpConf(values, local)


@dataclass(frozen=True)
class PipelineConf:
    """A configuration whose keys and values are right."""

    top: Mapping[str, Any]
    dag: Mapping[str, Any]
    tracer: Mapping[str, Any]
    ops: Mapping[str, OpConf]

    def levels(self) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Key]]]:
        """Path -> its values, and the keys that there are; of the document and the DAG."""
        values = {"": self.top, "dag": self.dag, "dag.tracer": self.tracer}
        return {path: (values[path], keys) for path, keys in _LEVELS.items()}


def read_conf(
    yml_file: str | os.PathLike[str] | None = None, yml_dict: Mapping[str, Any] | None = None
) -> PipelineConf:
    """Reads the one that is given; a relative ``model_config`` stays relative to the working directory.

    Raises
    ------
    ConfigError
        Neither or both are given, the file is no YAML, or a key or value cannot be.
    """
    if (yml_file is None) == (yml_dict is None):
        raise ConfigError("a pipeline's configuration is one of yml_file and yml_dict: give either")
    document = _load(Path(yml_file)) if yml_file is not None else yml_dict
    top = checked("", document, TOP)
    dag = checked("dag", top.pop("dag", {}), DAG)
    tracer = checked("dag.tracer", dag.pop("tracer", {}), TRACER)
    ops = {}
    for name, given in top.pop("op", {}).items():
        if not isinstance(name, str):
            raise ConfigError(f"the names below op must be texts, not {shown(name)}")
        values = checked(f"op.{name}", {} if given is None else given, OP)
        local = checked(f"op.{name}.local_service_conf", values.pop("local_service_conf", {}), LOCAL)
        ops[name] = OpConf(values, local)
    if "rpc_port" not in top and "http_port" not in top:
        raise ConfigError("the configuration needs http_port, rpc_port, or both: where to listen")
    return PipelineConf(top, dag, tracer, ops)


def _load(path: Path) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path} is YAML, and PyYAML is not installed: pip install 'paddleinfer[serving]', "
            "or give the configuration as yml_dict"
        ) from None
    try:
        with path.open(encoding="utf-8") as file:
            return yaml.safe_load(file)
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"the configuration {path} is not YAML: {' '.join(str(error).split())}") from None
