"""Serves paddleinfer over HTTP and gRPC: the Open Inference Protocol around the engine's public API.

``create_app(engines)`` returns a Starlette application; ``paddleinfer-http`` runs one.
"""

from typing import TYPE_CHECKING

from paddleinfer.lazy_exports import lazy_exports

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
__getattr__, __dir__ = lazy_exports(__name__, _HOME_OF)
