"""Lets clients load models, and override options of them (Triton's model repository extension)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

import orjson

from paddleinfer.config import EngineConfig, Origin
from paddleinfer.errors import PaddleInferError
from paddleinfer.sentences import shown

from ..protocol.errors import RequestError, bad_request, to_request_error
from .models import Models
from .served_models import ServedModel
from .service import ServiceOptions

__all__ = ["check_controlled", "load_config", "load_model", "unload_model"]

_MOST_CHARACTERS: Final = 1 << 16


def check_controlled(options: ServiceOptions) -> None:
    """Raises RequestError 403 if clients may not load and unload models."""
    if not options.repository_control:
        raise RequestError(
            HTTPStatus.FORBIDDEN, "clients may load and unload models only with --repository-control"
        )


async def load_model(models: Models, name: str, body: Mapping[str, Any], max_batch_size: int) -> None:
    """Loads a model's versions with the `parameters` of a request's body, which may ask for such batches.

    Versions that have appeared in its directory are served from then on, and those that its policy chooses no
    longer are dropped.

    Raises
    ------
    RequestError
        It could not be loaded; the sentence says why.
    """
    try:
        versions = _loadable(models, name)
        changes, new = models.version_changes.get(name), []
        if changes is not None:
            changes.check_idle()
            found = changes.difference()
            versions, new = found.staying, found.new
        configs = {model: load_config(body, model, max_batch_size) for model in (*versions, *new)}
        for model in versions:
            await models.load(model, configs[model], while_serving=True)
        if changes is not None:
            for model in new:
                await changes.serve(model, configs[model])
            await changes.drop_leaving()
    except (RequestError, PaddleInferError) as error:
        refused = to_request_error(error)
        # Clients of Triton look for the first words.
        message = f"failed to load {shown(name)}: {refused.message}"
        raise RequestError(refused.status, message, refused.headers) from error


async def unload_model(models: Models, name: str) -> None:
    """Unloads a model with all its versions.

    Raises
    ------
    RequestError
        It could not be unloaded.
    """
    for model in _loadable(models, name):
        await models.unload(model)


def _loadable(models: Models, name: str) -> list[ServedModel]:
    """Returns a model's versions, which are loaded and unloaded together."""
    versions = models.versions(name)
    if any(model.is_service for model in versions):
        raise bad_request(f"{name!r} is a service, which is neither loaded nor unloaded")
    for model in versions:
        models.check_room(model)
    return versions


def load_config(body: Mapping[str, Any], model: ServedModel, max_batch_size: int) -> EngineConfig | None:
    """Returns the configuration to load this model with; None: its own.

    A client may ask for batches of up to `max_batch_size` rows, or up to the model's own limit.

    Raises
    ------
    RequestError, ConfigError
        The request asks for something that is not offered; the sentence says what.
    """
    parameters = body.get("parameters")
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise bad_request('"parameters" must be an object')
    for name in parameters:
        if name != "config":
            raise bad_request(
                f"the parameter {shown(name)} is not offered, only 'config' is; files stay on the server"
            )
    given = parameters.get("config")
    if given is None:
        return None
    if model.source is None:
        raise bad_request("it was given as an engine, so its configuration is fixed")
    config = model.source.config
    size = _max_batch_size(given)
    most = max(max_batch_size, config.batching.max_batch_size)
    if size > most:
        raise bad_request(f"max_batch_size may be {most} at most in a request to load, and {size} is more")
    origins: dict[str, Origin] = {**config.origins, "max_batch_size": "option"}
    return replace(config, batching=replace(config.batching, max_batch_size=size), origins=origins)


def _max_batch_size(config: Any) -> int:
    if isinstance(config, (str, bytes)) and len(config) > _MOST_CHARACTERS:
        raise bad_request(
            f"the configuration has {len(config)} characters, and {_MOST_CHARACTERS} is the most"
        )
    try:
        described = orjson.loads(config)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the configuration is not JSON: {error}") from None
    if not isinstance(described, dict) or list(described) != ["max_batch_size"]:
        raise bad_request("only max_batch_size of the configuration can be given")
    size = described["max_batch_size"]
    # Triton's clients also write numbers as strings, as the JSON of protocol buffers does.
    if isinstance(size, str) and size.isdecimal() and len(size) < 10:
        size = int(size)
    if isinstance(size, bool) or not isinstance(size, int):
        raise bad_request(f"max_batch_size must be an integer, not {shown(size)}")
    return size
