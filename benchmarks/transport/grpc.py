"""Speaks the protocol over gRPC with grpcio's synchronous client: a call per request, or one stream."""

from __future__ import annotations

import queue
from typing import Any

import grpc
import numpy as np

from benchmarks.transport.client import TIMEOUT_S
from paddleinfer.shim.grpc.messages import SERVICE, STREAM, message_class

Array = np.ndarray[Any, Any]

INFER = f"/{SERVICE}/ModelInfer"
_REQUEST, _RESPONSE = message_class("ModelInferRequest"), message_class("ModelInferResponse")
_STREAMED = message_class("ModelStreamInferResponse")
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def channel(address: str) -> grpc.Channel:
    """Opens a connection to "HOST:PORT" or "unix:PATH", for messages of any size."""
    return grpc.insecure_channel(address, options=_OPTIONS)


def encoded(row: Array, model: str) -> bytes:
    """Makes a request for one row with raw numbers."""
    request = _REQUEST(model_name=model, raw_input_contents=[row.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=row.shape)
    message: bytes = request.SerializeToString()
    return message


def decoded(answer: bytes) -> Array:
    """Returns the only output, as a view of the message."""
    return _output(_RESPONSE.FromString(answer))


def _output(response: Any) -> Array:
    (output,), (raw,) = response.outputs, response.raw_output_contents
    array: Array = np.frombuffer(raw, np.float32).reshape(output.shape)
    return array


class Unary:
    """`ModelInfer`: one call per request; its bytes are made and read outside of it, to be timed apart."""

    def __init__(self, connection: grpc.Channel, model: str) -> None:
        self._call = connection.unary_unary(INFER)
        self._model = model

    def begin(self) -> None:
        """Does nothing: the channel keeps its connection."""

    def encode(self, row: Array) -> bytes:
        """Serialises the message."""
        return encoded(row, self._model)

    def trip(self, encoded: bytes) -> bytes:
        """One call."""
        answer: bytes = self._call(encoded, timeout=TIMEOUT_S)
        return answer

    def decode(self, answer: bytes) -> Array:
        """Reads the serialised answer."""
        return decoded(answer)


class Stream:
    """`ModelStreamInfer`: one call for all requests; `close` ends it."""

    def __init__(self, connection: grpc.Channel, model: str) -> None:
        self._model = model
        self._asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers = connection.stream_stream(f"/{SERVICE}/{STREAM}")(iter(self._asked.get, None))

    def begin(self) -> None:
        """Does nothing: the stream stays open."""

    def encode(self, row: Array) -> bytes:
        """Serialises the message."""
        return encoded(row, self._model)

    def trip(self, encoded: bytes) -> bytes:
        """Sends one message and waits for its answer."""
        self._asked.put(encoded)
        answer: bytes = next(self._answers)
        return answer

    def decode(self, answer: bytes) -> Array:
        """Reads the serialised answer."""
        response = _STREAMED.FromString(answer)
        if response.error_message:
            raise OSError(response.error_message)
        return _output(response.infer_response)

    def close(self) -> None:
        """Ends the stream."""
        self._asked.put(None)
