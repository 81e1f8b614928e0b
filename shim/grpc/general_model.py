"""Paddle Serving's ``GeneralModelService`` over gRPC: the messages that its HTTP route takes, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paddleinfer.serving.formats import general_model
from paddleinfer.serving.formats.messages import GENERAL_SERVICE

from ..protocol.errors import RequestError
from ..protocol.general_model_message import read_message, write_message
from ..protocol.large_json import SMALL_BYTES
from ..protocol.request import plain_request, refuse_texts
from .calls import Behaviour, Calls
from .rpc_request import RpcRequest

if TYPE_CHECKING:
    from ..protocol.request import InferRequest
    from ..service.models import Models

__all__ = ["GeneralRequest", "general_handlers"]


def general_handlers(calls: Calls, infer: Behaviour) -> Mapping[str, Any]:
    """Method -> its handler."""
    return {name: calls.unary(f"GeneralModelService/{name}", infer) for name in ("inference", "debug")}


class GeneralRequest(RpcRequest):
    """A Request of the general service, for the only model there is."""

    __slots__ = ("_log_id",)

    _log_id: int

    @property
    def method(self) -> str:
        """The service and method that it calls."""
        return f"{GENERAL_SERVICE}/inference"

    async def read(self, models: Models) -> InferRequest:
        """Returns what it asks, and says which model it is for."""
        self.use(models, models.choose(models.sole()))
        refuse_texts((*self.model.inputs, *self.model.outputs))
        is_long = self.size_bytes > SMALL_BYTES
        return await self.work(self.size_bytes, is_long, self._asked)

    def _asked(self) -> InferRequest:
        read = general_model.read_request(read_message(self.take_body()))
        self._log_id = read.log_id
        return plain_request(read.inputs, read.fetch)

    def write(self, asked: InferRequest, results: Any) -> bytes:
        """Returns the bytes of its answer."""
        return write_message(general_model.response(results, self.model.outputs, self._log_id))

    @staticmethod
    def failure(error: RequestError) -> bytes:
        """Returns the bytes of an answer without a result."""
        return write_message(general_model.failure(error.status, error.message))
