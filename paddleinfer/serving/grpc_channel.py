"""A channel to one of Paddle Serving's services over gRPC."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from paddleinfer.errors import Cancelled, ConfigError, DeadlineExceeded
from paddleinfer.sentences import listed, shown

__all__ = ["Answer", "GrpcChannel"]

# gRPC counts deadlines in nanoseconds of 64 bits, and one that has more has passed at once.
_LONGEST_S: Final = float(1 << 31)
# Servers take turns, and one that takes no connections is passed over.
_TURNS: Final = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


class GrpcChannel:
    """To "HOST:PORT", where a server's ``--grpc-port`` is, or to several servers, which take turns.

    Parameters
    ----------
    addresses
        Of the servers.
    service
        Whose method ``inference`` is called.

    Raises
    ------
    ConfigError
        grpcio is not installed, or one of several hosts is not known.
    """

    def __init__(self, addresses: Sequence[str], service: str) -> None:
        try:
            import grpc
        except ModuleNotFoundError:
            raise ConfigError(
                "a client over gRPC needs grpcio; pip install 'paddleinfer[grpc]' brings it"
            ) from None
        self.name = listed(addresses)
        """In sentences."""
        self._grpc = grpc
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        if len(addresses) > 1:
            options.append(("grpc.service_config", _TURNS))
        target = addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(map(_numeric, addresses))}"
        self._channel = grpc.insecure_channel(target, options=options)
        self._call = self._channel.unary_unary(f"/{service}/inference")
        self._is_closed = False

    def post(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> bytes:
        """The Response to a Request, both as bytes.

        Raises
        ------
        DeadlineExceeded
            There was no answer in time.
        ConnectionError
            There is no such server, it refused the call, or ``close`` was called.
        """
        try:
            answer: bytes = self._called(self._call, body, headers, timeout_s)
        except self._grpc.RpcError as error:
            raise self.failure(error, timeout_s) from error
        return answer

    def begin(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """The same, for its answer to be asked for later; it takes a hop to another thread and back."""
        return Answer(self, self._called(self._call.future, body, headers, timeout_s), timeout_s)

    def _called(
        self, call: Callable[..., Any], body: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> Any:
        try:
            return call(body, timeout=min(timeout_s, _LONGEST_S), metadata=_metadata(headers))
        except ValueError as error:
            if not self._is_closed:
                raise
            raise ConnectionError(f"the client of {self.name} was released meanwhile") from error

    def failure(self, error: Any, timeout_s: float) -> Exception:
        """What a failed call is for its caller."""
        if error.code() is self._grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"{self.name} did not answer within {timeout_s:g} s")
        return ConnectionError(f"{self.name} did not answer: {error.code().name}: {error.details()}")

    def close(self) -> None:
        """Ends it."""
        self._is_closed = True
        self._channel.close()


class Answer:
    """What will be answered to one call."""

    def __init__(self, channel: GrpcChannel, call: Any, timeout_s: float) -> None:
        self._channel = channel
        self._call = call
        self._timeout_s = timeout_s

    def result(self, timeout_s: float | None = None) -> bytes:
        """Waits for it, and raises what ``GrpcChannel.post`` does.

        TimeoutError is raised where it is not there after `timeout_s`, and Cancelled after ``cancel``.
        """
        import grpc

        name = self._channel.name
        try:
            answer: bytes = self._call.result(timeout_s)
        except grpc.FutureTimeoutError:
            raise TimeoutError(f"{name} has not answered within {timeout_s:g} s") from None
        except grpc.FutureCancelledError:
            raise Cancelled(f"the request to {name} was cancelled") from None
        except grpc.RpcError as error:
            raise self._channel.failure(error, self._timeout_s) from error
        except BaseException:  # Ctrl-C, after which nobody waits
            self._call.cancel()
            raise
        return answer

    def done(self) -> bool:
        """Whether it is there, or never will be."""
        is_done: bool = self._call.done()
        return is_done

    def cancel(self) -> bool:
        """Gives the call up; False if it is over."""
        is_cancelled: bool = self._call.cancel()
        return is_cancelled


def _metadata(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in headers.items()]


def _numeric(address: str) -> str:
    """With the host's number, which gRPC wants of each of several."""
    host, _, port = address.rpartition(":")
    try:
        return f"{socket.gethostbyname(host)}:{port}"
    except OSError as error:
        raise ConfigError(f"the host of {shown(address)} is not known: {error}") from None
