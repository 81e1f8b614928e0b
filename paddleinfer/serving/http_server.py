"""The server in ``shim/``, as Paddle Serving's classes start it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddleinfer.engine.engine import Engine
from paddleinfer.serving.formats.pipeline import Pipeline

__all__ = ["application", "serve", "server_options"]


def server_options(options: Mapping[str, Any]) -> Any:
    """The server's options.

    Raises
    ------
    ConfigError
        One is out of range, or needs what is not installed.
    """
    from paddleinfer.shim.options import ServerOptions

    return ServerOptions(**options)


def serve(
    engines: Mapping[str, Engine], options: Any, pipelines: Mapping[str, Pipeline] | None = None
) -> int:
    """Serves until a signal; returns the exit code of ``paddleinfer-http``.

    Raises
    ------
    EngineClosed
        An engine belongs to the process that this one was forked from.
    """
    from paddleinfer.shim.server import serve

    for engine in engines.values():
        engine.stats()  # which says so

    return int(serve(engines, options, options.service_options(), pipelines=pipelines))


def application(engines: Mapping[str, Engine], options: Any, pipelines: Mapping[str, Pipeline]) -> Any:
    """The same as an application of ASGI, which any server runs."""
    from paddleinfer.shim import create_app

    return create_app(engines, options.service_options(), pipelines=pipelines)
