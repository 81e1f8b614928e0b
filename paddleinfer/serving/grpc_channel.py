"""A channel to Paddle Serving's general service over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from paddleinfer.errors import ConfigError, DeadlineExceeded

__all__ = ["GrpcChannel"]

_METHOD: Final = "/baidu.paddle_serving.predictor.general_model.GeneralModelService/inference"


class GrpcChannel:
    """To "HOST:PORT", where a server's ``--grpc-port`` is.

    Raises
    ------
    ConfigError
        grpcio is not installed.
    """

    def __init__(self, address: str) -> None:
        try:
            import grpc
        except ModuleNotFoundError:
            raise ConfigError(
                "a client over gRPC needs grpcio; pip install 'paddleinfer[grpc]' brings it"
            ) from None
        self.address = address
        self._grpc = grpc
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        self._call = self._channel.unary_unary(_METHOD)

    def post(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> bytes:
        """The Response to a Request, both as bytes.

        Raises
        ------
        DeadlineExceeded
            There was no answer in time.
        ConnectionError
            There is no such server, or it refused the call.
        """
        metadata = [(name.lower(), value) for name, value in headers.items()]
        try:
            answer: bytes = self._call(body, timeout=timeout_s, metadata=metadata)
        except self._grpc.RpcError as error:
            if error.code() is self._grpc.StatusCode.DEADLINE_EXCEEDED:
                raise DeadlineExceeded(f"{self.address} did not answer within {timeout_s:g} s") from error
            raise ConnectionError(
                f"{self.address} did not answer: {error.code().name}: {error.details()}"
            ) from error
        return answer

    def close(self) -> None:
        """Ends it."""
        self._channel.close()
