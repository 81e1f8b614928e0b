"""One request for inference over gRPC: from its bytes to what is asked, and from results to bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from paddleinfer.models.wire import length_delimited

from ..protocol.bytes_tensors import has_bytes
from ..protocol.response import is_long_response, result_bytes
from ..service.served_request import ServedRequest
from .limits import CutField, MessageReader
from .messages import SERVICE, STREAM, message_class
from .tensors import encode_response, parse_message

if TYPE_CHECKING:
    from ..protocol.request import InferRequest
    from ..service.inference import Inference
    from ..service.model_use import ModelUse
    from ..service.models import Models
    from ..service.served_models import ServedModel

__all__ = ["FINAL", "RpcRequest"]

_read_request = MessageReader(message_class("ModelInferRequest"))
_INFER_RESPONSE: Final = (
    message_class("ModelStreamInferResponse").DESCRIPTOR.fields_by_name["infer_response"].number
)

# Longer messages are not parsed on the loop's own thread.
_LONG_BODY_BYTES: Final = 1 << 20

FINAL: Final = {"triton_final_response": {"bool_param": True}}
"""Triton sends this with each answer of a stream."""


class RpcRequest(ServedRequest):
    """One request: first its bytes, then its parsed fields, and at last its answer."""

    __slots__ = ("_body", "_peer", "_use", "in_stream", "names", "payload", "size_bytes")

    def __init__(self, inference: Inference, peer: Callable[[], str], body: bytes, in_stream: bool) -> None:
        super().__init__(inference)
        self._peer = peer
        self._body: bytes | None = body
        self._use: ModelUse | None = None
        self.size_bytes = len(body)
        self.in_stream = in_stream
        self.names: dict[str, str] = {}
        """The fields that its answer repeats."""
        self.payload: bytes | None = None
        """The bytes of its response, once it has one."""

    @property
    def method(self) -> str:
        """The service and method that it calls."""
        return f"{SERVICE}/{STREAM if self.in_stream else 'ModelInfer'}"

    def begin(self) -> None:
        """Begins the request. A message arrives whole, so receiving it takes no time of its own."""
        super().begin()
        self._began_ns = self._received_ns

    def client_address(self) -> str | None:
        """The address of the connection's client."""
        kind, _, rest = self._peer().partition(":")
        return unquote(rest).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else None

    def take_body(self) -> bytes:
        """Returns the bytes, which the request no longer holds."""
        body, self._body = self._body, None
        assert body is not None
        return body

    async def answered(self, models: Models, remaining_s: float | None) -> bytes:
        """Returns the bytes of its answer, for which its client waits `remaining_s` at most."""
        asked = await self.read(models)
        return await self.encoded(asked, await self.infer(asked, remaining_s))

    async def encoded(self, asked: InferRequest, results: Any) -> bytes:
        """Returns the bytes of an answer with these results of an engine."""
        size_bytes = result_bytes(results)
        writing = self.written(
            size_bytes, is_long_response(asked, size_bytes), partial(self.write, asked, results)
        )
        del results
        return await writing

    async def written(self, size_bytes: int, is_long: bool, write: Callable[[], bytes]) -> bytes:
        """Returns what `write` gives, of results of this size."""
        with self._inference.results.of_one() as held:
            held.resize(size_bytes)
            writing = self.work(size_bytes, is_long, write)
            del write
            return await writing

    async def read(self, models: Models) -> InferRequest:
        """Returns what it asks, and says which model it is for."""
        body, message, cut = await self.work(self.size_bytes, False, self._message)
        self.use(models, models.choose(message.model_name, message.model_version))
        takes_bytes = has_bytes(self.model.inputs)
        is_long = len(body) > _LONG_BODY_BYTES
        decoding = self.work(len(body), is_long, parse_message, body, message, cut, takes_bytes=takes_bytes)
        del body, message  # the arrays hold the part that they need
        return await decoding

    def use(self, models: Models, model: ServedModel) -> None:
        """Begins to use the model that it is for; raises RequestError 503 if that accepts no requests."""
        self.serve(model)
        self._use = models.use(model)

    async def infer(self, request: InferRequest, remaining_s: float | None = None) -> Any:
        """Does what that of every request does, once the model is loaded."""
        assert self._use is not None
        return await super().infer(request, await self._use.loaded(request.timeout_s, remaining_s))

    def end_use(self) -> None:
        """Lets go of the model: the answer is encoded, or there will be none."""
        if self._use is not None:
            self._use.end()

    def _message(self) -> tuple[bytes, Any, list[CutField]]:
        """Returns the bytes, the message, and where its tensors lie."""
        body = self.take_body()
        message, cut = _read_request.with_cut(body)
        self.names = {
            "model_name": message.model_name,
            "model_version": message.model_version,
            "id": message.id,
        }
        return body, message, cut

    def write(self, asked: InferRequest, results: Any) -> bytes:
        """Returns the bytes of its answer."""
        final = FINAL if self.in_stream else {}
        parts = encode_response(self.model.name, self.model.version, asked, results, final)
        if self.in_stream:
            parts.insert(0, length_delimited(_INFER_RESPONSE, sum(map(len, parts))))
        return b"".join(parts)
