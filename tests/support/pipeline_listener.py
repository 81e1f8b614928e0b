"""A gRPC server that keeps what a pipeline's client sends, and answers what a test says."""

from __future__ import annotations

from concurrent import futures
from typing import Any

import grpc

PIPELINES = "baidu.paddle_serving.pipeline_serving.PipelineService"


class Listener:
    """It answers each request with ``answer``, an empty message at first."""

    def __init__(self, service: str = PIPELINES) -> None:
        self.bodies: list[bytes] = []
        self.answer = b""
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(self._inference)
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {"inference": handler})]
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def _inference(self, body: bytes, context: Any) -> bytes:
        self.bodies.append(body)
        return self.answer

    def __enter__(self) -> Listener:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
