"""The services of a server: under which name, from where, and around which of its models."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError, EngineClosed, PaddleInferError
from paddleinfer.sentences import listed, shown
from paddleinfer.serve.service import Service as ModelService

from ..protocol.errors import RequestError
from .daemon_thread import DaemonCalls
from .engine_on_demand import EngineOnDemand
from .latencies import Latencies
from .models import Models
from .served_models import check_name
from .service_model import ServiceModel

__all__ = ["ROUTES", "ServedService", "Services", "import_service"]

ROUTES: Final = frozenset({"GeneralModelService", "services", "v2"})
"""What the server's own longer paths begin with; those of services and pipelines begin with their names."""


class _EnginesOfModels(Mapping[str, Engine]):
    """The open engine of each of a server's models, whichever it is at the moment, or has it loaded."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def __getitem__(self, name: str) -> Engine:
        model = self._models.find(name)
        if model is None:
            raise KeyError(name)
        if self._models.room is not None and model.source is not None:
            return cast(Engine, EngineOnDemand(self._models, name))
        if model.engine is None:
            raise EngineClosed(f"model {name!r} is not ready: {model.reason}")
        return model.engine

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._models.find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._models.names)

    def __len__(self) -> int:
        return sum(1 for _ in self._models)


class ServedService:
    """One name of the server."""

    def __init__(self, name: str, service: ModelService) -> None:
        self.name = name
        self.service = service
        self.latencies = Latencies()
        """Of requests with an answer, from their last byte to it."""


class Services:
    """All services of one server, by name."""

    def __init__(self, services: Mapping[str, ModelService], models: Models) -> None:
        """Gives the models' engines to those services that have none.

        Raises
        ------
        ConfigError
            A name cannot stand in a URL or is a model's, or a service does not fit these models.
        """
        self._served: dict[str, ServedService] = {}
        self._calls = DaemonCalls()
        for name, service in services.items():
            check_name(name)
            if name in ROUTES:
                raise ConfigError(
                    f"a service or pipeline cannot be named {name!r}: the server answers /{name}/… itself"
                )
            if models.find(name) is not None:
                raise ConfigError(f"a model and a service are both named {shown(name)}")
            if not isinstance(service, ModelService):
                raise ConfigError(
                    f"service {name!r} must be a paddleinfer.serve.Service, not {shown(service)}"
                )
            if service.has_engines:
                service.rename(name)
            else:
                service.use(_EnginesOfModels(models), name)
            self._served[name] = ServedService(name, service)
            if service.calls.inputs:
                models.add_service(name, cast(Engine, ServiceModel(service)))

    def __iter__(self) -> Iterator[ServedService]:
        return iter(self._served.values())

    def __len__(self) -> int:
        return len(self._served)

    def get(self, name: str) -> ServedService:
        """Raises RequestError 404 for a name that is not served."""
        served = self._served.get(name)
        if served is None:
            raise RequestError(
                HTTPStatus.NOT_FOUND,
                f"there is no service {shown(name)}; the server has {listed(self._served)}",
            )
        return served

    async def close(self, timeout_s: float) -> None:
        """Closes them all, at once: what they have accepted ends."""
        closing = [
            self._calls.start(functools.partial(served.service.close, True, timeout_s)) for served in self
        ]
        await asyncio.gather(*closing)


def import_service(place: str) -> ModelService:
    """The service that ``module:Name`` names: one, or a class or function that makes one without arguments.

    Modules of the working directory are found, too.

    Raises
    ------
    ConfigError
        There is none; one sentence says what is missing.
    """
    module_name, separator, name = place.partition(":")
    if not (module_name and separator and name):
        raise ConfigError(f"a service is named as module:Name, such as pipeline:Ocr, not {shown(place)}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise ConfigError(f"the module {module_name} has no {name}") from None
    except PaddleInferError:
        raise
    except Exception as error:
        raise ConfigError(f"the module {module_name} cannot be imported: {_told(error)}") from error
    if isinstance(found, ModelService):
        return found
    if not callable(found) or inspect.iscoroutinefunction(found):
        raise ConfigError(f"{place} must be a Service, or make one, and is {shown(found)}")
    try:
        made = found()
    except PaddleInferError:
        raise
    except Exception as error:
        raise ConfigError(f"{place} makes no service: {_told(error)}") from error
    if not isinstance(made, ModelService):
        raise ConfigError(f"{place} must make a Service, and gave {shown(made)}")
    return made


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
