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
from paddleinfer.config import EngineConfig
from paddleinfer.errors import ConfigError, ModelLoadError, PaddleInferError
from paddleinfer.models.reader import ModelSpec, is_model, load_spec
from paddleinfer.options.flags import Flag, add_flags, engine_flags, flags_of, from_environment, given_flags
from paddleinfer.options.parser import OneSentenceParser
from paddleinfer.sentences import shown
from paddleinfer.serve.service import Service

from .options import ServerOptions
from .service.model_shapes import ModelShapes
from .service.served_models import ModelSource, check_name
from .service.services import import_service
from .service.versions import VersionPolicy
from .settings_file import SettingsFile, read_settings

__all__ = ["main"]

_USAGE_ERROR = 2
# Of a weight.
_MOST_DIGITS = 7

_EPILOG = """\
An option is taken from the command line, else from the environment (PADDLEINFER_…), else from the model's
table in the --config file, else from its [server] or [engine] table. Every flag may be spelled with
underscores, too.
"""


@dataclass(frozen=True)
class Named:
    """A model, or one of its variants, as command line or file name it."""

    name: str
    path: Path
    weight: int | None
    version_policy: VersionPolicy
    options: Mapping[str, Any]
    """Its own ones."""
    pinned: bool = False


@dataclass(frozen=True)
class Plan:
    """What to serve, by the command line."""

    server: ServerOptions
    models: Mapping[str, ModelSource | list[ModelSource]]
    services: Mapping[str, Service]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until a signal, and returns the exit code of the process."""
    parser = _parser()
    try:
        plan = plan_of(parser.parse_args(arguments), os.environ)
        service = plan.server.service_options()
    except PaddleInferError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return _USAGE_ERROR
    try:
        from .server import serve  # imports uvicorn
    except ModuleNotFoundError as error:
        print(
            f"{parser.prog}: {error.name} is not installed; pip install 'paddleinfer[http]' brings it",
            file=sys.stderr,
        )
        return _USAGE_ERROR
    return serve(plan.models, plan.server, service, plan.services)


def _parser() -> argparse.ArgumentParser:
    parser = OneSentenceParser(
        prog="paddleinfer-http",
        usage="%(prog)s [OPTION ...] [DIR]",
        description="Serve PaddlePaddle models over HTTP and gRPC (Open Inference Protocol), with batching.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="a model's directory, file or file stem")
    parser.add_argument(
        "--model",
        metavar="[NAME=]DIR[@WEIGHT]",
        action="append",
        default=[],
        help="a model and its name; may be given several times, and for one name with weights",
    )
    parser.add_argument(
        "--service",
        metavar="[NAME=]MODULE:NAME",
        action="append",
        default=[],
        help="a service around the models (docs/services.md); may be given several times",
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
        **{f"the models: {title}": flags for title, flags in engine_flags().items()},
    }


def plan_of(namespace: argparse.Namespace, environment: Mapping[str, str]) -> Plan:
    """Reads from the command line what to serve, and how.

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
            f"[server] of {namespace.config} has {shown(unknown[0])}; "
            f"the options are {', '.join(sorted(known))}"
        )
    server = ServerOptions(
        **_merged(
            file.server,
            from_environment(environment, server_flags),
            given_flags(namespace, server_flags),
        )
    )
    stronger = {**from_environment(environment, engine_flags), **given_flags(namespace, engine_flags)}
    named = _named(namespace, file, VersionPolicy.of(server.version_policy))
    services = _services(namespace, file)
    specs = _specs(named, file.engine, stronger, needs_one=not services)
    for_all = ModelShapes(specs, file.engine), ModelShapes(specs, stronger)
    models: dict[str, ModelSource | list[ModelSource]] = {}
    for one in named:
        weak, strong = (shapes.options_of(one.name) for shapes in for_all)
        config = EngineConfig.from_options({**weak, **one.options, **strong})
        if server.trace is not None and config.trace_requests == 0:
            raise ConfigError(
                f"trace needs trace_requests above 0, and for the model {shown(one.name)} it is 0"
            )
        if one.pinned and server.max_loaded_bytes is None:
            raise ConfigError(f"pinned in [models.{one.name}] needs max_loaded_bytes in [server]")
        source = ModelSource(one.path, config, one.version_policy, one.weight, one.pinned)
        variants = models.setdefault(one.name, source if one.weight is None else [])
        if isinstance(variants, list):
            variants.append(source)
    return Plan(server, models, services)


def _merged(*levels: Mapping[str, Any]) -> dict[str, Any]:
    """Merges options; the later ones win, also between port and Unix socket, which exclude each other."""
    merged: dict[str, Any] = {}
    for level in levels:
        if "port" in level and level.get("uds") is not None:
            raise ConfigError("port and uds both say where to listen; give one of them")
        if "port" in level:
            merged.pop("uds", None)
        merged.update(level)
    return merged


def _specs(
    named: Sequence[Named],
    weaker: Mapping[str, Any],
    stronger: Mapping[str, Any],
    *,
    needs_one: bool,
) -> dict[str, ModelSpec | None]:
    """Returns the specs of the models by name. A path without a model is an error at once, before any load.

    A damaged model gets None if others are whole: they are served, and it is not ready.
    """
    specs: dict[str, ModelSpec | None] = {}
    damage: list[ModelLoadError] = []
    variants = {one.name for one in named if one.weight is not None}
    for one in named:
        name, path = one.name, one.path
        if name in variants and one.weight is None:
            raise ConfigError(f"one variant of {shown(name)} has no weight; write --model NAME=DIR@WEIGHT")
        if name in specs and one.weight is None:
            raise ConfigError(f"two models are named {shown(name)}; name them: --model NAME=DIR")
        check_name(name)
        chosen = one.version_policy.chosen(path)
        place = chosen[max(chosen)] if chosen else path
        try:
            params = {**weaker, **one.options, **stronger}.get("params")
            specs[name] = load_spec(place, params)
        except ModelLoadError as error:
            if not is_model(place):
                raise
            specs[name] = None
            damage.append(error)
    if not specs and needs_one:
        raise ConfigError(
            "name a model to serve: paddleinfer-http DIR, --model NAME=DIR, or [models.NAME] in --config"
        )
    if damage and len(damage) == len(specs):
        raise damage[0]
    return specs


def _services(namespace: argparse.Namespace, file: SettingsFile) -> dict[str, Service]:
    """Returns the services by name: the given one, or that in the module."""
    places = dict(file.services)
    for text in namespace.service:
        name, separator, place = text.partition("=")
        if not separator:
            name, place = text.rpartition(":")[2], text
        if name in places:
            raise ConfigError(f"two services are named {shown(name)}; name them: --service NAME=MODULE:NAME")
        places[name] = place
    services = {name: import_service(place) for name, place in places.items()}
    for name in services:
        check_name(name)
    return services


def _named(namespace: argparse.Namespace, file: SettingsFile, policy: VersionPolicy) -> list[Named]:
    given = ([namespace.directory] if namespace.directory else []) + namespace.model
    named: list[Named] = []
    for text in given:
        name, separator, path = text.partition("=")
        place, weight = _weighted(path if separator else text)
        if not separator:
            name = place.resolve().name
        elif not path:
            raise ConfigError(f"--model {shown(text)} has no directory; write NAME=DIR")
        named.append(Named(name, place, weight, policy, {}))
    for name, tables in file.models.items():
        for table in tables:
            own = policy if table.version_policy is None else VersionPolicy.of(table.version_policy)
            named.append(Named(name, table.path, table.weight, own, table.options, table.pinned))
    return named


def _weighted(text: str) -> tuple[Path, int | None]:
    """``DIR@3``: its path and its weight, unless there is something of that whole name."""
    path, at, weight = text.rpartition("@")
    if not at or not path or not weight.isdecimal() or len(weight) > _MOST_DIGITS or Path(text).exists():
        return Path(text), None
    return Path(path), int(weight)
