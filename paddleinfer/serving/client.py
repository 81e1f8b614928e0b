"""``Client``: Paddle Serving's client, of servers or of a model in this process; its results are arrays."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy.typing as npt

from paddleinfer.config.checks import check_int
from paddleinfer.errors import ConfigError, InvalidInput, ModelError, OutOfMemory, PaddleInferError, QueueFull
from paddleinfer.sentences import shown
from paddleinfer.serving import profiling
from paddleinfer.serving.client_config import ClientConfig
from paddleinfer.serving.formats.general_model import read_response
from paddleinfer.serving.formats.tensors import message_fields
from paddleinfer.serving.http_client import HttpClient
from paddleinfer.serving.local_predictor import LocalPredictor
from paddleinfer.weighted_turns import WeightedTurns

__all__ = ["Client"]

_IN_PROCESS: Final = "inproc://"
_GRPC: Final = "grpc://"
_MOST_INT: Final = (1 << 63) - 1
_ERRORS: Final[dict[int, type[PaddleInferError]]] = {
    -5000: InvalidInput,
    -5001: OutOfMemory,
    -5002: QueueFull,
    -5100: ModelError,
}


class _Variant:
    """Servers of one model, which take turns."""

    ready = True

    def __init__(self, tag: str, servers: list[HttpClient], weight: int) -> None:
        self.tag = tag
        self.servers = servers
        self.weight: int | None = weight
        self.turns = itertools.count()


class Client:
    """Asks servers over HTTP or gRPC, or a model in this process; any number of threads may use one."""

    def __init__(self) -> None:
        self._config_paths: str | Sequence[str] | None = None
        self._config: ClientConfig | None = None
        self._timeout_ms = 200_000
        self._given: dict[str, tuple[list[str], int]] = {}  # tag -> endpoints and weight
        self._variants: list[_Variant] = []
        self._turns = WeightedTurns(0)
        self._choosing = threading.Lock()
        self._local: LocalPredictor | None = None

    def load_client_config(self, model_config_path_list: str | Sequence[str]) -> None:
        """As of ``HttpClient``; a model in this process needs none."""
        self._config = ClientConfig(model_config_path_list)
        self._config_paths = model_config_path_list
        for server in self._servers():
            server.load_client_config(model_config_path_list)

    def set_rpc_timeout_ms(self, rpc_timeout: int) -> None:
        """Milliseconds to wait for a server."""
        check_int("rpc_timeout", rpc_timeout, 1, _MOST_INT)
        self._timeout_ms = rpc_timeout
        for server in self._servers():
            server.set_timeout_ms(rpc_timeout)

    def add_variant(self, tag: str, cluster: str | Sequence[str], variant_weight: int) -> None:
        """Adds servers that are to get a part of the requests; ``connect()`` without endpoints follows.

        Parameters
        ----------
        tag
            What ``predict(need_variant_tag=True)`` calls it.
        cluster
            Its endpoints over HTTP or gRPC, as of ``connect``; they take turns.
        variant_weight
            Its part is this over the sum of all weights. No chance is in it.

        Raises
        ------
        ConfigError
            The tag is taken, or one of the others is none.
        """
        if not isinstance(tag, str) or not tag:
            raise ConfigError(f"tag must be a name, not {shown(tag)}")
        if tag in self._given:
            raise ConfigError(f"there is a variant {shown(tag)} already; give each its own tag")
        check_int("variant_weight", variant_weight, 0, _MOST_INT)
        endpoints = _endpoints(cluster)
        local = [one for one in endpoints if one.startswith(_IN_PROCESS)]
        if local:
            raise ConfigError(f"a variant is of servers, and {shown(local[0])} is in this process")
        self._given[tag] = (endpoints, variant_weight)

    def connect(self, endpoints: str | Sequence[str] | None = None, encryption: bool = False) -> None:
        """Says whom to ask.

        Parameters
        ----------
        endpoints
            "HOST:PORT" of servers over HTTP, or "grpc://HOST:PORT", which take turns; or "inproc://DIR", a
            model's directory, which is loaded into this process. None: those of ``add_variant``.
        encryption
            Is refused: encrypted models are not read.

        Raises
        ------
        ConfigError
            An endpoint is none of these.
        ModelLoadError
            The directory holds no model, or Paddle cannot load it.
        """
        if encryption:
            raise ConfigError("encryption=True is not offered: encrypted models are not read; leave it out")
        if self._given:
            self._connect_variants(endpoints)
            return
        given = _endpoints(endpoints)
        local = [one for one in given if one.startswith(_IN_PROCESS)]
        if local and len(given) > 1:
            raise ConfigError(f"{shown(local[0])} cannot stand beside other endpoints")
        variants = [] if local else [_Variant("", [self._server(one) for one in given], 1)]
        predictor = None
        if local:
            predictor = LocalPredictor()
            predictor.load_model_config(local[0].removeprefix(_IN_PROCESS))
        self.release()
        self._variants, self._turns, self._local = variants, WeightedTurns(len(variants)), predictor

    def _connect_variants(self, endpoints: object) -> None:
        if endpoints is not None:
            raise ConfigError("the client has variants, which name its endpoints; call connect() without any")
        if not any(weight for _, weight in self._given.values()):
            raise ConfigError("at least one variant needs a variant_weight above 0")
        variants = [
            _Variant(tag, [self._server(one) for one in cluster], weight)
            for tag, (cluster, weight) in self._given.items()
        ]
        self.release()
        self._variants, self._turns = variants, WeightedTurns(len(variants))

    def get_feed_names(self) -> list[str]:
        """The inputs' aliases."""
        return self._aliases("inputs") if self._config is None else self._config.feed_names

    def get_fetch_names(self) -> list[str]:
        """The outputs' aliases."""
        return self._aliases("outputs") if self._config is None else self._config.fetch_names

    def predict(
        self,
        feed: Any = None,
        fetch: str | Sequence[str] | None = None,
        batch: bool = False,
        need_variant_tag: bool = False,
        log_id: int = 0,
    ) -> Any:
        """Asks, and waits for the result.

        Parameters
        ----------
        feed
            Alias or name -> array or list. It is not written to.
        fetch
            The outputs wanted; None is all.
        batch
            Whether the arrays have their batch axis; without it they are one row each.
        need_variant_tag
            Also give the tag of the variant that answered.
        log_id
            A number that errors name.

        Returns
        -------
        dict
            Alias -> an array of its own. With `need_variant_tag` a list of it and the tag.

        Raises
        ------
        InvalidInput
            The feed does not fit the model.
        QueueFull, ModelError, OutOfMemory, PaddleInferError
            The server's ``err_no``, with its sentence.
        DeadlineExceeded, ConnectionError
            No server answered in time, or at all.
        """
        if need_variant_tag and not self._given:
            raise ConfigError("need_variant_tag=True needs variants; call add_variant first, or leave it out")
        if self._local is not None:
            return self._local.predict(feed, fetch, batch, log_id)
        if not self._variants:
            raise ConfigError("the client is not connected; call connect(['127.0.0.1:9393']) first")
        with self._choosing:
            variant = self._turns.next(self._variants)
        clock = profiling.StageClock() if profiling.is_asked_for() else None
        answer = _ask(variant, feed, fetch, batch, log_id)
        if clock is not None:
            clock.end("py_client_infer")
            clock.write()
        return [answer, variant.tag] if need_variant_tag else answer

    def release(self) -> None:
        """Ends the connections, or the model in this process."""
        servers = self._servers()
        self._variants = []
        local, self._local = self._local, None
        for server in servers:
            server.close()
        if local is not None:
            local.close()

    def _servers(self) -> list[HttpClient]:
        return [server for variant in self._variants for server in variant.servers]

    def _server(self, endpoint: str) -> HttpClient:
        server = HttpClient()
        server.set_use_grpc_client(endpoint.startswith(_GRPC))
        server.connect(endpoint.removeprefix(_GRPC))
        server.set_timeout_ms(self._timeout_ms)
        if self._config_paths is not None:
            server.load_client_config(self._config_paths)
        return server

    def _aliases(self, side: str) -> list[str]:
        if self._local is None:
            raise ConfigError("the client has no configuration; call load_client_config(path) first")
        return [tensor.alias or tensor.name for tensor in getattr(self._local.engine, side)]


def _endpoints(given: str | Sequence[str] | None) -> list[str]:
    endpoints = [given] if isinstance(given, str) else list(given or ())
    if not endpoints or not all(isinstance(one, str) for one in endpoints):
        raise ConfigError(
            f"endpoints are a list such as ['127.0.0.1:9393'] or ['{_IN_PROCESS}DIR'], not {shown(given)}"
        )
    return endpoints


def _ask(variant: _Variant, feed: Any, fetch: Any, batch: bool, log_id: int) -> dict[str, npt.NDArray[Any]]:
    from paddleinfer.serving.formats.messages import answer_of, general_model

    servers, first = variant.servers, next(variant.turns)
    for turn in range(len(servers)):
        server = servers[(first + turn) % len(servers)]
        try:
            _, answer = server.ask(feed, fetch, batch, log_id)
            break
        except ConnectionError:
            if turn == len(servers) - 1:
                raise
    response = answer_of(general_model("Response"), answer)
    if response.err_no:
        kind = _ERRORS.get(response.err_no, PaddleInferError)
        raise kind(f"{response.err_msg} (err_no {response.err_no})")
    return read_response({"outputs": [message_fields(one, "tensor") for one in response.outputs]})
