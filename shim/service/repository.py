"""A request to load a model: what it overrides of the configuration (Triton's model repository extension)."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from paddleinfer.config import EngineConfig

from .errors import bad_request
from .models import ServedModel

__all__ = ["load_config"]


def load_config(body: Mapping[str, Any], model: ServedModel) -> EngineConfig | None:
    """The configuration to load this model with; None: its own.

    Raises
    ------
    RequestError, ConfigError
        The request asks for what cannot be had; one sentence says for what.
    """
    parameters = body.get("parameters")
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise bad_request('"parameters" must be an object')
    for name in parameters:
        if name != "config":
            raise bad_request(
                f"the parameter {name!r} is not offered, only 'config' is; files lie on the server"
            )
    given = parameters.get("config")
    if given is None:
        return None
    if model.source is None:
        raise bad_request("it was given as an engine, whose configuration stays")
    config = model.source.config
    return replace(config, batching=replace(config.batching, max_batch_size=_max_batch_size(given)))


def _max_batch_size(config: Any) -> int:
    try:
        described = orjson.loads(config)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the configuration is not JSON: {error}") from None
    if not isinstance(described, dict) or list(described) != ["max_batch_size"]:
        raise bad_request("of the configuration only max_batch_size can be given")
    size = described["max_batch_size"]
    # Triton's clients write numbers as texts, too, as JSON of protocol buffers does.
    if isinstance(size, str) and size.isdecimal() and len(size) < 10:
        size = int(size)
    if isinstance(size, bool) or not isinstance(size, int):
        raise bad_request(f"max_batch_size must be an integer, not {reprlib.repr(size)}")
    return size
