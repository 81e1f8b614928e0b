"""Services: Python around one or several engines, from a client's request to its answer.

May import: the engine and everything below it. Knows neither HTTP nor gRPC; the server in ``shim/`` gives it
requests.
"""

from typing import TYPE_CHECKING

from paddleinfer.lazy_exports import lazy_exports

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
__getattr__, __dir__ = lazy_exports(__name__, _HOME_OF)
