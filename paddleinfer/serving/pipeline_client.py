"""``PipelineClient``: Paddle Serving's client of its pipelines over gRPC, or of one in this process."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from paddleinfer.config.checks import check_bool, check_int
from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.sentences import listed, shown
from paddleinfer.serving import profiling
from paddleinfer.serving.formats.pipeline import PROFILE_KEY, Answering, document_of, read_document
from paddleinfer.serving.grpc_channel import Answer, GrpcChannel
from paddleinfer.serving.in_process import InProcess, LocalAnswer, pipeline_of
from paddleinfer.serving.pipeline_feeds import document_of_feed, message_of

__all__ = ["PipelineClient", "PipelineFuture"]

_ADDRESS: Final = re.compile(r"(?:grpc://)?((?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5}))")
_METADATA_NAME: Final = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_IN_PROCESS: Final = "inproc://"
_MOST_INT: Final = (1 << 63) - 1

Target = str | Engine | Answering


class PipelineFuture:
    """The answer to ``predict(asyn=True)``, once it is there."""

    def __init__(self, begun: Answer | LocalAnswer, read: Callable[[Any], Any]) -> None:
        self._begun = begun
        self._read = read

    def result(self, timeout: float | None = None) -> Any:
        """Waits for the Response, at most `timeout` seconds.

        Raises
        ------
        TimeoutError
            It is not there yet.
        DeadlineExceeded, ConnectionError
            As of ``predict``.
        """
        return self._read(self._begun.result(timeout))

    def done(self) -> bool:
        """Whether it is there, or never will be."""
        return self._begun.done()

    def cancel(self) -> bool:
        """Gives the request up; False if it is over."""
        return self._begun.cancel()


class PipelineClient:
    """Asks pipelines, models and services by keys and values, or tensors; any number of threads may use one.

    Parameters
    ----------
    name
        Whom to ask, where a server has several; "" is its only one.
    """

    def __init__(self, name: str = "") -> None:
        if not isinstance(name, str) or not name.isascii():
            raise ConfigError(f"name must be a text, in ASCII, not {shown(name)}")
        self._name = name
        self._timeout_ms = 200_000
        self._metadata: dict[str, str] = {}
        self._channel: GrpcChannel | None = None
        self._local: InProcess | None = None

    def connect(self, endpoints: Target | Sequence[Target]) -> None:
        """Says whom to ask.

        Parameters
        ----------
        endpoints
            "HOST:PORT" of servers over gRPC, which take turns. Or, in this process: "inproc://DIR", a model's
            directory, which is loaded; an open Engine; or a pipeline, such as a WebService's. What was given
            open stays its giver's to close.

        Raises
        ------
        ConfigError
            An endpoint is none of these.
        ModelLoadError
            The directory holds no model, or Paddle cannot load it.
        """
        given = list(endpoints) if isinstance(endpoints, (list, tuple)) else [endpoints]
        local = [one for one in given if not isinstance(one, str) or one.startswith(_IN_PROCESS)]
        if local and len(given) > 1:
            raise ConfigError(
                f"{shown(local[0])} is in this process, and cannot stand beside other endpoints"
            )
        if local:
            made = self._in_process(local[0])
            self.release()
            self._local = made
            return
        from paddleinfer.serving.formats.messages import PIPELINE_SERVICE

        channel = GrpcChannel(_addresses(given), PIPELINE_SERVICE)
        self.release()
        self._channel = channel

    def set_rpc_timeout_ms(self, rpc_timeout: int) -> None:
        """Milliseconds to wait for an answer, by default 200,000."""
        check_int("rpc_timeout", rpc_timeout, 1, _MOST_INT)
        self._timeout_ms = rpc_timeout

    def add_metadata(self, metadata: Mapping[str, str]) -> None:
        """Sends these with every call, as ``{"authorization": "Bearer KEY"}`` to a server with a key.

        Raises
        ------
        ConfigError
            gRPC cannot send them.
        """
        if not isinstance(metadata, Mapping):
            raise ConfigError(f"metadata must be a dict of texts, not {shown(metadata)}")
        for name, value in metadata.items():
            if not (isinstance(name, str) and _METADATA_NAME.fullmatch(name.lower())):
                raise ConfigError(
                    f"the name of metadata is letters, digits, '_', '.', '-', not {shown(name)}"
                )
            if not (isinstance(value, str) and value.isascii() and value.isprintable()):
                raise ConfigError(f"the metadata {name!r} must be printable ASCII")  # and is not shown
        self._metadata.update(metadata)

    def predict(
        self,
        feed_dict: Mapping[str, Any],
        fetch: Sequence[str] | None = None,
        asyn: bool = False,
        pack_tensor_format: bool = False,
        use_tensor_bytes: bool = False,
        profile: bool = False,
        log_id: int = 0,
    ) -> Any:
        """Asks, and waits for the answer.

        Parameters
        ----------
        feed_dict
            Key -> text, array or list. Arrays and lists go as text, nested lists in JSON. The keys
            ``logid`` and ``clientip`` are the request's own. It is not written to.
        fetch
            The keys and tensors of the answer that are wanted; None is all. All come, too, where it has none
            of them: Paddle Serving's client does not look at them, and its examples name others.
        asyn
            Do not wait: the answer is what ``result()`` of the returned future gives.
        pack_tensor_format
            Arrays go as tensors, of their own types: numbers, or texts.
        use_tensor_bytes
            Numbers of these tensors go as files of ``numpy.save``, which is less work for large ones.
        profile
            Ask for the stages of the request, which the answer has under the key ``pipeline.profile``.
        log_id
            Goes with the request, where `feed_dict` has no ``logid``.

        Returns
        -------
        Response or PipelineFuture
            The message: ``err_no``, 0 for a result, ``err_msg``, ``key``, ``value`` and ``tensors``.

        Raises
        ------
        InvalidInput
            `feed_dict` cannot be sent, or the answer has some of the names in `fetch`, but not all.
        DeadlineExceeded, ConnectionError
            The server did not answer in time, or not at all.
        """
        for what, flag in (
            ("asyn", asyn),
            ("pack_tensor_format", pack_tensor_format),
            ("use_tensor_bytes", use_tensor_bytes),
            ("profile", profile),
        ):
            check_bool(what, flag)
        if use_tensor_bytes and not pack_tensor_format:
            raise ConfigError("use_tensor_bytes=True is of tensors: give pack_tensor_format=True, too")
        wanted = _names(fetch)
        clock = profiling.StageClock() if profiling.is_asked_for() and not asyn else None
        document = document_of_feed(feed_dict, log_id, pack_tensor_format, use_tensor_bytes, profile)
        if clock is not None:
            clock.end("py_prepro")
        if asyn:
            return PipelineFuture(self._begin(document), lambda answer: _chosen(_response(answer), wanted))
        response = _chosen(_response(self._asked(document)), wanted)
        if clock is not None:
            clock.end("py_client_infer")
            clock.write()
        return response

    def release(self) -> None:
        """Ends the connections, or what ``connect`` loaded into this process."""
        channel, self._channel = self._channel, None
        local, self._local = self._local, None
        if channel is not None:
            channel.close()
        if local is not None:
            local.close()

    def _in_process(self, target: object) -> InProcess:
        if isinstance(target, str):
            engine = Engine(target.removeprefix(_IN_PROCESS))
            return InProcess(pipeline_of(engine), engine)
        return InProcess(pipeline_of(target), None)

    def _begin(self, document: dict[str, Any]) -> Answer | LocalAnswer:
        channel, local, timeout_s = self._channel, self._local, self._timeout_ms / 1000
        if local is not None:
            return local.begin(read_document(document, self._name), timeout_s)
        if channel is None:
            raise ConfigError("the client is not connected; call connect(['127.0.0.1:9998']) first")
        return channel.begin(message_of(document, self._name), self._metadata, timeout_s)

    def _asked(self, document: dict[str, Any]) -> Any:
        """What is answered to it."""
        channel = self._channel
        if channel is None:
            return self._begin(document).result()
        return channel.post(message_of(document, self._name), self._metadata, self._timeout_ms / 1000)


def _addresses(given: Sequence[Any]) -> list[str]:
    found = [_ADDRESS.fullmatch(one) for one in given if isinstance(one, str)]
    addresses = [match[1] for match in found if match is not None and int(match[2]) < 1 << 16]
    if not addresses or len(addresses) < len(given):
        raise ConfigError(
            f"endpoints are a list such as ['127.0.0.1:9998'] or ['{_IN_PROCESS}DIR'], "
            f"an engine, or a pipeline, not {shown(given)}"
        )
    return addresses


def _names(fetch: object) -> list[str] | None:
    if fetch is None:
        return None
    if not isinstance(fetch, (list, tuple)) or not all(isinstance(name, str) for name in fetch):
        raise InvalidInput(f"fetch must be a list of names, not {shown(fetch)}")
    return list(fetch)


# -- answers


def _response(answer: Any) -> Any:
    """The message, of its bytes or of a PipelineResponse."""
    from paddleinfer.serving.formats.messages import answer_of, pipeline, pipeline_response

    if isinstance(answer, bytes):
        return answer_of(pipeline("Response"), answer)
    return pipeline_response(document_of(answer))


def _chosen(response: Any, wanted: Sequence[str] | None) -> Any:
    if wanted is None or response.err_no:
        return response
    names = [*response.key, *(tensor.name for tensor in response.tensors)]
    if not any(name in names for name in wanted):
        return response
    for name in wanted:
        if name not in names:
            raise InvalidInput(f"the answer has no {shown(name)}; it has {listed(names)}")
    keys, values = list(response.key), list(response.value)
    kept = [place for place, key in enumerate(keys) if key in wanted or key == PROFILE_KEY]
    tensors = [tensor for tensor in response.tensors if tensor.name in wanted]
    chosen = type(response)(tensors=tensors)
    chosen.key.extend(keys[place] for place in kept)
    chosen.value.extend(values[place] for place in kept)
    return chosen
