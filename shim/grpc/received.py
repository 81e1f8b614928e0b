"""Answers calls of ``inference.GRPCInferenceService`` that another program's gRPC server has received."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import grpc

from ..service.service import Service
from .infer import GrpcInference
from .keys import has_key, key_required
from .messages import METHODS, SERVICE
from .service import OPEN_METHODS, inference_behaviours
from .status import code_of, sentence_of
from .transfers import Patience, Unsent

__all__ = ["ReceivedCalls", "Refused", "add_handlers"]


class CallContext(Protocol):
    """What is asked of the context of a call."""

    def peer(self) -> str:
        """Returns the client's address, as gRPC writes it."""

    def invocation_metadata(self) -> Iterable[tuple[str, str]]:
        """Returns the metadata that the client sent."""

    def time_remaining(self) -> float | None:
        """Returns how many seconds the client still waits; None where it waits for ever."""


class Refused(Exception):
    """A call that failed: the status code, and the sentence."""

    def __init__(self, code: grpc.StatusCode, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence


class ReceivedCalls:
    """Answers them from a Service."""

    def __init__(self, service: Service) -> None:
        limits = service.options
        # Who received a call also sends its answer, so nothing waits here.
        patience = Patience(limits.write_timeout_s, limits.min_bytes_per_s, limits.request_timeout_s)
        inference = GrpcInference(service, Unsent(service.buffered_bytes, patience))
        self._service = service
        self._behaviours = inference_behaviours(service, inference)

    async def answer(self, method: str, body: bytes, context: CallContext) -> bytes:
        """Returns the bytes of the answer to a call of METHODS.

        Raises
        ------
        Refused
            It fails.
        """
        if len(body) > self._service.options.max_body_bytes:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the message has {len(body)} bytes, more than the {self._service.options.max_body_bytes} of "
                "max_body_bytes",
            )
        try:
            if f"/{SERVICE}/{method}" not in OPEN_METHODS and not has_key(
                self._service, context.invocation_metadata()
            ):
                raise key_required()
            answer: bytes = await self._behaviours[method](body, context)
        except Exception as error:
            raise Refused(code_of(error), sentence_of(error)) from error
        return answer


def add_handlers(servicer: object, server: grpc.Server) -> None:
    """Adds handlers of bytes to a server; `servicer` has a method for each of METHODS."""
    methods = {method: grpc.unary_unary_rpc_method_handler(getattr(servicer, method)) for method in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
