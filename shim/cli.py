"""The command ``paddleinfer-http``."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddleinfer._version import __version__
from paddleinfer.config import BatchingOptions, EngineConfig, RuntimeOptions
from paddleinfer.errors import ConfigError, PaddleInferError
from paddleinfer.flags import Flag, add_flags, flags_of, from_environment, given_flags
from paddleinfer.model import load_spec

from .models import ModelSource, check_name
from .server_options import ServerOptions
from .settings_file import SettingsFile, read_settings

__all__ = ["main"]

_USAGE_ERROR = 2

_EPILOG = """\
An option is taken from the command line, else from the environment (PADDLEINFER_…), else from the model's
table in the --config file, else from its [server] or [engine] table. Every flag may be spelled with
underscores, too.
"""


@dataclass(frozen=True)
class Plan:
    """What a command line asks for."""

    server: ServerOptions
    models: Mapping[str, ModelSource]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until a signal; gives the process's exit code."""
    parser = _parser()
    try:
        plan = plan_of(parser.parse_args(arguments), os.environ)
        service = plan.server.service_options()
    except PaddleInferError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return _USAGE_ERROR
    try:
        from .server import serve  # brings uvicorn
    except ModuleNotFoundError as error:
        print(
            f"{parser.prog}: {error.name} is not installed; pip install 'paddleinfer[http]' brings it",
            file=sys.stderr,
        )
        return _USAGE_ERROR
    return serve(plan.models, plan.server, service)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="paddleinfer-http",
        description="Serves PaddlePaddle models over HTTP and gRPC (Open Inference Protocol), with batching.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="a model, as the engine takes it")
    parser.add_argument(
        "--model",
        metavar="[NAME=]DIR",
        action="append",
        default=[],
        help="a model; may be given several times",
    )
    parser.add_argument(
        "--config", metavar="FILE.toml", type=Path, help="options and models; see docs/server.md"
    )
    parser.add_argument("--version", action="version", version=f"paddleinfer {__version__}")
    for title, flags in _groups().items():
        add_flags(parser, title, flags)
    return parser


def _groups() -> dict[str, list[Flag]]:
    return {
        "the server": flags_of(ServerOptions),
        "the models: how Paddle runs": flags_of(RuntimeOptions),
        "the models: how requests are merged": flags_of(BatchingOptions),
        "the models: further": flags_of(EngineConfig),
    }


def plan_of(namespace: argparse.Namespace, environment: Mapping[str, str]) -> Plan:
    """What is to be served, and how.

    Raises
    ------
    ConfigError, ModelLoadError
        Something is wrong with an option or with a model's files; one sentence says what.
    """
    file = read_settings(namespace.config) if namespace.config else SettingsFile()
    server_flags, *engine_groups = _groups().values()
    engine_flags = [flag for group in engine_groups for flag in group]
    known = {field.name for field in dataclasses.fields(ServerOptions)}
    unknown = sorted(set(file.server) - known)
    if unknown:
        raise ConfigError(
            f"[server] of {namespace.config} has {unknown[0]!r}; the options are {', '.join(sorted(known))}"
        )
    server = ServerOptions(
        **{
            **file.server,
            **from_environment(environment, server_flags),
            **given_flags(namespace, server_flags),
        }
    )
    stronger = {**from_environment(environment, engine_flags), **given_flags(namespace, engine_flags)}
    models: dict[str, ModelSource] = {}
    for name, path, options in _named(namespace, file):
        if name in models:
            raise ConfigError(f"two models are named {name!r}; name them: --model NAME=DIR")
        load_spec(path)  # in a sentence and at once, where a load would take its time
        config = EngineConfig.from_options({**file.engine, **options, **stronger})
        models[check_name(name)] = ModelSource(path, config)
    if not models:
        raise ConfigError(
            "name a model to serve: paddleinfer-http DIR, --model NAME=DIR, or [models.NAME] in --config"
        )
    return Plan(server, models)


def _named(namespace: argparse.Namespace, file: SettingsFile) -> list[tuple[str, Path, Mapping[str, Any]]]:
    given = ([namespace.directory] if namespace.directory else []) + namespace.model
    named: list[tuple[str, Path, Mapping[str, Any]]] = []
    for text in given:
        name, separator, path = text.partition("=")
        if not separator:
            name, path = Path(text).resolve().name, text
        if not path:
            raise ConfigError(f"--model {text!r} names no directory; write NAME=DIR")
        named.append((name, Path(path), {}))
    named += [(name, table.path, table.options) for name, table in file.models.items()]
    return named
