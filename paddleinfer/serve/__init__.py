"""Services: Python around one or several engines, from a client's request to its answer.

May import: the engine and everything below it. Knows neither HTTP nor gRPC; the server in ``shim/`` gives it
requests.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddleinfer.serve.answer import Answer as Answer
    from paddleinfer.serve.engines import Engines as Engines
    from paddleinfer.serve.limits import ServiceLimits as ServiceLimits
    from paddleinfer.serve.request import Request as Request
    from paddleinfer.serve.service import Service as Service
    from paddleinfer.serve.upload import Upload as Upload

_HOME_OF = {
    "Service": "service",
    "Request": "request",
    "Answer": "answer",
    "Upload": "upload",
    "ServiceLimits": "limits",
    "Engines": "engines",
}

__all__ = [*_HOME_OF]  # noqa: PLE0604 - names only


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
