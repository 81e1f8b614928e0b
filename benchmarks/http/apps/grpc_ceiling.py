"""The ceiling of gRPC: a bare server of grpc.aio whose one call takes bytes and gives back fixed ones."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc
import uvloop

from benchmarks.transport.grpc import INFER


class Ceiling(grpc.GenericRpcHandler):
    """Gives the same answer to every call of `ModelInfer`."""

    def __init__(self, answer: bytes) -> None:
        async def call(message: bytes, context: Any) -> bytes:
            return answer

        self._handler = grpc.unary_unary_rpc_method_handler(call)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The one handler."""
        return self._handler if handler_call_details.method == INFER else None


async def serve() -> None:
    """Until the process is ended."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Ceiling(Path(os.environ["BENCH_ANSWER"]).read_bytes())])
    server.add_insecure_port(f"127.0.0.1:{os.environ['BENCH_GRPC_PORT']}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(serve())
