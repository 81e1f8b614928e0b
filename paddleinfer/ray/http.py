"""The routes of the server in ``shim/``, as the answer of a replica of Ray Serve to a request over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["Request", "ServerRoutes", "check_http_options"]


class ServerRoutes:
    """All routes of ``paddleinfer-http`` around one engine.

    Parameters
    ----------
    name
        The model's name in the routes.
    engine
        The engine, which its owner closes.
    options
        Fields of ``paddleinfer.shim.ServiceOptions``.
    """

    def __init__(self, name: str, engine: Engine, options: Mapping[str, Any]) -> None:
        from paddleinfer.shim import create_app

        self._app = create_app({name: engine}, _service_options(options))
        self.service = self._app.service
        """What answers over gRPC, too."""

    def answer(self, request: Request) -> Response:
        """What Serve sends: an answer that is made while it is sent, by the application itself."""
        return _ByApplication(self._app, request)


class _ByApplication(Response):
    """Serve calls an answer with the ASGI arguments of its request, and so it can make itself."""

    def __init__(self, app: Any, request: Request) -> None:
        super().__init__()
        self._app = app
        self._request = request

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers the request whose arguments these are."""
        await self._app(scope, receive, send)


def check_http_options(name: str, options: Mapping[str, Any]) -> None:
    """Raises ConfigError if the routes cannot be made of these; before a replica tries to."""
    from paddleinfer.shim.service.served_models import check_name

    check_name(name)
    _service_options(options)


def _service_options(options: Mapping[str, Any]) -> Any:
    from paddleinfer.shim import ServiceOptions

    known = ServiceOptions.__dataclass_fields__
    for option in options:
        if option not in known:
            raise ConfigError(
                f"http has no option {shown(option)}; it takes the fields of paddleinfer.shim.ServiceOptions"
            )
    return ServiceOptions(**options)
