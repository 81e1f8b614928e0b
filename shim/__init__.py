"""Serves paddleinfer over HTTP and gRPC: the Open Inference Protocol around the engine's public API.

``create_app(engines)`` returns a Starlette application; ``paddleinfer-http`` runs one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .http.app import create_app as create_app
    from .service.served_models import ModelSource as ModelSource
    from .service.service import ServiceOptions as ServiceOptions

_HOME_OF = {
    "create_app": "http.app",
    "ModelSource": "service.served_models",
    "ServiceOptions": "service.service",
}

__all__ = [*_HOME_OF]  # noqa: PLE0604 - names only


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
