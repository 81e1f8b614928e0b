"""Paddle Serving's classes over an Engine: the import line changes, and names, arguments and returns stay.

``local_predictor`` runs a model in the process; ``client``, ``http_client`` and ``pipeline_client`` ask
servers; ``server`` is one, ``serve`` its command; ``web_service`` is one around a model, or around a graph of
models, which ``pipeline`` makes.
``translated_options`` says what each of Paddle Serving's options becomes, ``formats`` what its requests mean.
May import: engine, metrics, and below; ``http_server`` the server in shim/.
"""

from typing import TYPE_CHECKING

from paddleinfer.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from paddleinfer.serving.client import Client as Client
    from paddleinfer.serving.http_client import HttpClient as HttpClient
    from paddleinfer.serving.local_predictor import LocalPredictor as LocalPredictor
    from paddleinfer.serving.op_makers import OpGraphMaker as OpGraphMaker
    from paddleinfer.serving.op_makers import OpMaker as OpMaker
    from paddleinfer.serving.op_makers import OpSeqMaker as OpSeqMaker
    from paddleinfer.serving.pipeline.op import Op as Op
    from paddleinfer.serving.pipeline.op import RequestOp as RequestOp
    from paddleinfer.serving.pipeline.op import ResponseOp as ResponseOp
    from paddleinfer.serving.pipeline.op import VirtualOp as VirtualOp
    from paddleinfer.serving.pipeline.server import PipelineServer as PipelineServer
    from paddleinfer.serving.pipeline_client import PipelineClient as PipelineClient
    from paddleinfer.serving.server import Server as Server
    from paddleinfer.serving.web_service import WebService as WebService

_HOME_OF = {
    "Client": "client",
    "HttpClient": "http_client",
    "LocalPredictor": "local_predictor",
    "Op": "pipeline.op",
    "OpGraphMaker": "op_makers",
    "OpMaker": "op_makers",
    "OpSeqMaker": "op_makers",
    "PipelineClient": "pipeline_client",
    "PipelineServer": "pipeline.server",
    "RequestOp": "pipeline.op",
    "ResponseOp": "pipeline.op",
    "Server": "server",
    "VirtualOp": "pipeline.op",
    "WebService": "web_service",
}

__all__ = [*_HOME_OF]  # noqa: PLE0604 - names only
__getattr__, __dir__ = lazy_exports(__name__, _HOME_OF)
