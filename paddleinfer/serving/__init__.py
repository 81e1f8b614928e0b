"""Paddle Serving's classes over an Engine: the import line changes, and names, arguments and returns stay.

``local_predictor`` runs a model in the process, ``client`` and ``http_client`` ask servers;
``server`` is one, and ``serve`` its command.
``translated_options`` says what each of Paddle Serving's options becomes, ``formats`` what its requests mean.
May import: engine, metrics, and below; ``server`` the server in shim/.
"""

from typing import TYPE_CHECKING

from paddleinfer.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from paddleinfer.serving.client import Client as Client
    from paddleinfer.serving.http_client import HttpClient as HttpClient
    from paddleinfer.serving.local_predictor import LocalPredictor as LocalPredictor
    from paddleinfer.serving.server import Server as Server

_HOME_OF = {
    "Client": "client",
    "HttpClient": "http_client",
    "LocalPredictor": "local_predictor",
    "Server": "server",
}

__all__ = [*_HOME_OF]  # noqa: PLE0604 - names only
__getattr__, __dir__ = lazy_exports(__name__, _HOME_OF)
