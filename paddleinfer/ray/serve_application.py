"""What a file of ``serve deploy`` names as its ``import_path``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddleinfer.errors import ConfigError
from paddleinfer.ray.serve_deployment import deployment
from paddleinfer.sentences import shown

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = ["application"]


def application(args: dict[str, Any]) -> Application:
    """Makes an application of Ray Serve from the ``args`` of its file.

    Parameters
    ----------
    args
        The arguments of ``paddleinfer.ray.deployment`` by their names; "path" is needed.

    Raises
    ------
    ConfigError
        One is missing, unknown or out of range.
    """
    if "path" not in args:
        raise ConfigError(f"args needs the model's path, as in {{path: model_dir}}; it is {shown(args)}")
    return deployment(**args).bind()
