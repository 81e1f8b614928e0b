"""What Ops of one's own call the request and the response: the names of Paddle Serving's messages."""

from __future__ import annotations

from paddleinfer.serving.formats.pipeline import PipelineRequest as Request
from paddleinfer.serving.formats.pipeline import PipelineResponse as Response

__all__ = ["Request", "Response"]
