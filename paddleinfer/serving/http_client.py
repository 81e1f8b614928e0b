"""``HttpClient``: Paddle Serving's client of its general service over HTTP."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paddleinfer.config.checks import check_bool, check_int
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.reader import TensorSpec
from paddleinfer.sentences import shown
from paddleinfer.serving.client_config import ClientConfig
from paddleinfer.serving.formats.general_model import fill_request, request
from paddleinfer.serving.formats.tensors import jsonable
from paddleinfer.serving.grpc_channel import GrpcChannel
from paddleinfer.serving.http_connections import HttpConnections

__all__ = ["HttpClient"]

_PROTO: Final = "application/proto"
_OK: Final = 200
# Of less compression gains nothing.
_WORTHWHILE_BYTES: Final = 512
_MOST_INT: Final = (1 << 63) - 1


class HttpClient:
    """Asks a server of Paddle Serving's general service; any number of threads may use one.

    Parameters
    ----------
    ip, port, service_name
        Where the server is. ``connect`` says so, too.
    """

    def __init__(
        self,
        ip: str = "127.0.0.1",
        port: str | int = "9393",
        service_name: str = "/GeneralModelService/inference",
    ) -> None:
        self._config: ClientConfig | None = None
        self._connections = HttpConnections(f"{ip}:{port}")
        self._channel: GrpcChannel | None = None
        self._uses_grpc = False
        self._headers: dict[str, str] = {}
        self._timeout_ms = 20_000
        self._retries = 0
        self._max_body_size = 512 << 20
        self._is_proto = True
        self._compresses_requests = self._compresses_answers = False
        self.set_service_name(service_name)

    def load_client_config(self, model_config_path_list: str | Sequence[str]) -> None:
        """Reads what the model takes and gives: ``serving_client_conf.prototxt``, or its directory.

        Raises
        ------
        ConfigError, ModelLoadError
            There is none, or it is none.
        """
        self._config = ClientConfig(model_config_path_list)

    def connect(self, url: str | Sequence[str] | None = None, encryption: bool = False) -> None:
        """Says where the server is: "127.0.0.1:9393", also in a list, or a URL with http or https.

        Raises
        ------
        ConfigError
            It is no address, or several; or `encryption` is asked for, which is not offered.
        """
        if encryption:
            raise ConfigError("encryption=True is not offered: encrypted models are not read; leave it out")
        addresses = [url] if isinstance(url, str) or url is None else list(url)
        if len(addresses) != 1:
            raise ConfigError(f"an HttpClient asks one server, and {len(addresses)} were given")
        if addresses[0] is not None:
            self.close()
            self._connections = HttpConnections(addresses[0])

    def set_use_grpc_client(self, use_grpc_client: bool) -> None:
        """Over gRPC, of a server with ``--grpc-port``, which ``connect`` then names."""
        check_bool("use_grpc_client", use_grpc_client)
        self._uses_grpc = use_grpc_client

    def set_service_name(self, service_name: str) -> None:
        """The path of the service."""
        if not isinstance(service_name, str) or not service_name.startswith("/"):
            raise ConfigError(f"service_name must be a path that begins with /, not {shown(service_name)}")
        self._path = service_name

    def set_timeout_ms(self, timeout_ms: int) -> None:
        """Milliseconds to wait for the server each time."""
        check_int("timeout_ms", timeout_ms, 1, _MOST_INT)
        self._timeout_ms = timeout_ms

    def set_max_retries(self, retry_times: int = 3) -> None:
        """How often a request is sent again where the server takes no connection."""
        check_int("retry_times", retry_times, 0, 1000)
        self._retries = retry_times

    def set_max_body_size(self, max_body_size: int) -> None:
        """Bytes of a request at most; the server has its own limit."""
        check_int("max_body_size", max_body_size, 1, _MOST_INT)
        self._max_body_size = max_body_size

    def set_http_proto(self, http_proto: bool) -> None:
        """Messages (the default), or JSON."""
        check_bool("http_proto", http_proto)
        self._is_proto = http_proto

    def set_request_compress(self, try_request_gzip: bool) -> None:
        """gzip for requests of more than 512 bytes."""
        check_bool("try_request_gzip", try_request_gzip)
        self._compresses_requests = try_request_gzip

    def set_response_compress(self, try_response_gzip: bool) -> None:
        """gzip for answers."""
        check_bool("try_response_gzip", try_response_gzip)
        self._compresses_answers = try_response_gzip

    def add_http_headers(self, headers: Mapping[str, str]) -> None:
        """Further headers, as ``{"Authorization": "Bearer KEY"}``."""
        if not isinstance(headers, Mapping):
            raise ConfigError(f"headers must be a dict, not {shown(headers)}")
        self._headers.update({str(name): str(value) for name, value in headers.items()})

    def get_feed_names(self) -> list[str]:
        """The inputs' aliases."""
        return self._configured().feed_names

    def get_fetch_names(self) -> list[str]:
        """The outputs' aliases."""
        return self._configured().fetch_names

    def predict(
        self,
        feed: Any = None,
        fetch: str | Sequence[str] | None = None,
        batch: bool = False,
        need_variant_tag: bool = False,
        log_id: int = 0,
    ) -> Any:
        """Asks the server.

        Parameters
        ----------
        feed
            Alias or name -> array or list, or the values alone, in the order of the inputs.
        fetch
            Aliases of the outputs; None is all.
        batch
            Whether the arrays have their batch axis.
        log_id
            Comes back in the answer.

        Returns
        -------
        Response or dict
            The message, or the document where ``set_http_proto(False)`` was called; of a request that failed
            it has ``err_no`` and ``err_msg``.

        Raises
        ------
        InvalidInput
            The feed does not fit the configuration.
        DeadlineExceeded, ConnectionError
            The server did not answer in time, or not at all, or with another status than 200.
        """
        if need_variant_tag:
            raise ConfigError("need_variant_tag=True is not offered: there are no variants; leave it out")
        media_type, answer = self.ask(feed, fetch, batch, log_id)
        if media_type != _PROTO:
            return json.loads(answer)
        from paddleinfer.serving.formats.messages import answer_of, general_model

        return answer_of(general_model("Response"), answer)

    def http_client_predict(
        self,
        feed: Any = None,
        fetch: str | Sequence[str] | None = None,
        batch: bool = False,
        need_variant_tag: bool = False,
        log_id: int = 0,
    ) -> Any:
        """``predict`` after ``set_use_grpc_client(False)``."""
        self.set_use_grpc_client(False)
        return self.predict(feed, fetch, batch, need_variant_tag, log_id)

    def grpc_client_predict(
        self,
        feed: Any = None,
        fetch: str | Sequence[str] | None = None,
        batch: bool = False,
        need_variant_tag: bool = False,
        log_id: int = 0,
    ) -> Any:
        """``predict`` after ``set_use_grpc_client(True)``."""
        self.set_use_grpc_client(True)
        return self.predict(feed, fetch, batch, need_variant_tag, log_id)

    def ask(self, feed: Any, fetch: Any, batch: bool, log_id: int) -> tuple[str, bytes]:
        """The media type and the body of the answer."""
        config = self._configured()
        check_int("log_id", log_id, 0, (1 << 64) - 1)
        if not isinstance(batch, bool):
            raise InvalidInput(f"batch must be True or False, not {shown(batch)}")
        body = self._body(config.arrays(feed, batch=batch), config.inputs, config.fetched(fetch), log_id)
        if len(body) > self._max_body_size:
            raise InvalidInput(
                f"the request has {len(body)} bytes, and set_max_body_size allows {self._max_body_size}"
            )
        if self._uses_grpc:
            if self._channel is None:
                from paddleinfer.serving.formats.messages import GENERAL_SERVICE

                address = self._connections.address.partition("://")[2]
                self._channel = GrpcChannel([address], GENERAL_SERVICE)
            return _PROTO, self._channel.post(body, self._headers, self._timeout_ms / 1000)
        headers = {"Content-Type": _PROTO if self._is_proto else "application/json", **self._headers}
        if self._compresses_requests and len(body) > _WORTHWHILE_BYTES:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        if self._compresses_answers:
            headers["Accept-Encoding"] = "gzip"
        connections = self._connections
        status, media_type, answer = connections.post(
            self._path, body, headers, self._timeout_ms / 1000, self._retries
        )
        if status != _OK and media_type != _PROTO and not answer.startswith(b'{"err_no"'):
            said = shown(answer[:400].decode(errors="replace"))
            raise ConnectionError(f"{connections.address}{self._path} answers {status}: {said}")
        return media_type, answer

    def close(self) -> None:
        """Ends the connections; the next request makes new ones."""
        self._connections.close()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _configured(self) -> ClientConfig:
        if self._config is None:
            raise ConfigError("the client has no configuration; call load_client_config(path) first")
        return self._config

    def _body(
        self,
        arrays: Mapping[str, npt.NDArray[np.generic]],
        inputs: Sequence[TensorSpec],
        fetch: Sequence[str],
        log_id: int,
    ) -> bytes:
        document = request(arrays, inputs, fetch, log_id)
        if not self._is_proto and not self._uses_grpc:
            return json.dumps({**document, "tensor": [jsonable(one) for one in document["tensor"]]}).encode()
        from paddleinfer.serving.formats.messages import general_model

        message = general_model("Request")()
        fill_request(message, document)
        data: bytes = message.SerializeToString()
        return data
