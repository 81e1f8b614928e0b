"""Paddle Serving's pipelines: Ops of users around models, in a graph, and ``config.yml``.

``op`` has what users derive from, ``graph`` who gives whom, ``keys``, ``conf`` and ``op_options`` what the
configuration means, ``op_copies``, ``op_run`` and ``walk`` a request's way, and ``server`` the whole.
May import: what ``paddleinfer.serving`` may.
"""

from typing import TYPE_CHECKING

from paddleinfer.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from paddleinfer.serving.formats.pipeline import PipelineRequest as PipelineRequest
    from paddleinfer.serving.formats.pipeline import PipelineResponse as PipelineResponse
    from paddleinfer.serving.pipeline.channel_data import ChannelData as ChannelData
    from paddleinfer.serving.pipeline.channel_data import ChannelDataType as ChannelDataType
    from paddleinfer.serving.pipeline.conf import LocalServiceHandler as LocalServiceHandler
    from paddleinfer.serving.pipeline.errors import ChannelDataErrcode as ChannelDataErrcode
    from paddleinfer.serving.pipeline.errors import CustomException as CustomException
    from paddleinfer.serving.pipeline.errors import CustomExceptionCode as CustomExceptionCode
    from paddleinfer.serving.pipeline.errors import ProductErrCode as ProductErrCode
    from paddleinfer.serving.pipeline.op import Op as Op
    from paddleinfer.serving.pipeline.op import RequestOp as RequestOp
    from paddleinfer.serving.pipeline.op import ResponseOp as ResponseOp
    from paddleinfer.serving.pipeline.op import VirtualOp as VirtualOp
    from paddleinfer.serving.pipeline.server import PipelineServer as PipelineServer
    from paddleinfer.serving.pipeline_client import PipelineClient as PipelineClient

_HERE = "pipeline"
_HOME_OF = {
    "ChannelData": f"{_HERE}.channel_data",
    "ChannelDataErrcode": f"{_HERE}.errors",
    "ChannelDataType": f"{_HERE}.channel_data",
    "CustomException": f"{_HERE}.errors",
    "CustomExceptionCode": f"{_HERE}.errors",
    "LocalServiceHandler": f"{_HERE}.conf",
    "Op": f"{_HERE}.op",
    "PipelineClient": "pipeline_client",
    "PipelineRequest": "formats.pipeline",
    "PipelineResponse": "formats.pipeline",
    "PipelineServer": f"{_HERE}.server",
    "ProductErrCode": f"{_HERE}.errors",
    "RequestOp": f"{_HERE}.op",
    "ResponseOp": f"{_HERE}.op",
    "VirtualOp": f"{_HERE}.op",
}

__all__ = [*_HOME_OF]  # noqa: PLE0604 - names only
__getattr__, __dir__ = lazy_exports("paddleinfer.serving", _HOME_OF)
