"""``PipelineServer``: a graph of Ops, prepared from a configuration and served."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError, EngineClosed, PaddleInferError
from paddleinfer.sentences import listed, shown
from paddleinfer.serve.functions import Functions
from paddleinfer.serve.limits import ServiceLimits
from paddleinfer.serve.request import Request
from paddleinfer.serve.service import Service
from paddleinfer.serving import process_info
from paddleinfer.serving.client import Client
from paddleinfer.serving.formats.pipeline import (
    PipelineFailure,
    PipelineRequest,
    PipelineResponse,
    document_of,
    read_document,
    status_of,
)
from paddleinfer.serving.formats.prediction import failure
from paddleinfer.serving.http_server import application, serve, server_options
from paddleinfer.serving.pipeline.conf import OpConf, PipelineConf, read_conf
from paddleinfer.serving.pipeline.errors import number_of
from paddleinfer.serving.pipeline.executor import Executor
from paddleinfer.serving.pipeline.graph import Graph
from paddleinfer.serving.pipeline.models import ClientModel, EngineModel, OpModel
from paddleinfer.serving.pipeline.op import Op, ResponseOp
from paddleinfer.serving.pipeline.op_copies import OpCopies
from paddleinfer.serving.pipeline.op_options import translated
from paddleinfer.serving.pipeline.op_run import PreparedOp
from paddleinfer.serving.pipeline.report import report_of
from paddleinfer.serving.translated_options import Translation

__all__ = ["PipelineServer"]

_ENDPOINTS: Final = {"brpc": "", "grpc": "grpc://"}


class PipelineServer:
    """Paddle Serving's server of pipelines: ``set_response_op``, ``prepare_server``, ``run_server``.

    Each Op with a model has one engine, which batches over all requests.

    Parameters
    ----------
    name
        Of the pipeline, as in ``/{name}/prediction``.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or "pipeline"
        if not isinstance(self.name, str):
            raise ConfigError(f"a pipeline's name must be a text, not {shown(name)}")
        self._graph: Graph | None = None
        self._conf: PipelineConf | None = None
        self._op_confs: dict[str, OpConf] = {}
        self._translations: dict[str, Translation] = {}
        self._given: dict[str, Engine] = {}
        self._opened: dict[str, Engine] = {}
        self._clients: list[Client] = []
        self._options: Any = None
        self._service: Service | None = None
        self._is_closed = False

    def set_response_op(self, response_op: ResponseOp) -> None:
        """Says which graph it is, by its end.

        Raises
        ------
        ConfigError
            It is no graph from one RequestOp to this.
        """
        self._graph = Graph(response_op)

    def prepare_server(
        self,
        yml_file: str | os.PathLike[str] | None = None,
        yml_dict: Mapping[str, Any] | None = None,
        engines: Mapping[str, Engine] | None = None,
    ) -> None:
        """Loads the models, and initialises the Ops.

        Parameters
        ----------
        yml_file, yml_dict
            The configuration, as a file in YAML or as a dict.
        engines
            Open engines by the names of Ops, in the place of their ``local_service_conf``. They have options
            that a configuration has not, and stay their giver's to close. Paddle Serving had no such.

        Raises
        ------
        ConfigError
            A key or value cannot be; the sentence says which, and why.
        ModelLoadError
            A model cannot be loaded.
        """
        if self._graph is None:
            raise ConfigError("call set_response_op before prepare_server: it says which Ops there are")
        conf = read_conf(yml_file, yml_dict)
        given = dict(engines or {})
        for name in (*conf.ops, *given):
            if name not in self._graph.inputs:
                raise ConfigError(
                    f"the pipeline has no Op {shown(name)}, which is configured; "
                    f"its Ops are {listed(self._graph.inputs)}"
                )
        self.close()
        self._given = given
        self._conf = conf
        self._op_confs = {}
        self._options = server_options(_listening(conf))
        try:
            prepared = {op.name: self._prepared(op, conf) for op in self._graph.ops}
            executor = Executor(
                self.name,
                self._graph,
                prepared,
                conf.dag.get("retry", 1),
                conf.dag.get("use_profile", False),
            )
        except BaseException:
            self.close()
            raise
        self._service = _PipelineService(executor, _limits(conf))
        self._service.use(self._labelled(), self.name)

    def run_server(self) -> int:
        """Serves until a signal; gives the exit code of ``paddleinfer-http``.

        ``python -m paddleinfer.serving.serve stop`` in the same folder sends one.

        Raises
        ------
        ConfigError
            ``prepare_server`` was not called.
        """
        engines = self._labelled()
        try:
            with process_info.remembered(self._options.port):
                return serve(engines, self._options, {self.name: self})
        finally:
            self.close()

    def application(self) -> Any:
        """The same as an application of ASGI, which any server runs."""
        return application(self._labelled(), self._options, {self.name: self})

    @property
    def engines(self) -> dict[str, Engine]:
        """The engine of each Op that has a model in this process."""
        return {**self._given, **self._opened}

    def effective_config(self) -> dict[str, dict[str, Any]]:
        """What became of each key of the configuration, and is in force.

        Returns
        -------
        dict
            Key, such as "op.uci.concurrency" -> its ``value``, and one of: ``engine``, lines of
            ``Engine.effective_config``; ``server``, options of the server; ``pipeline``, what the pipeline
            does; ``note``, why it changes nothing here.

        Raises
        ------
        ConfigError
            ``prepare_server`` was not called.
        """
        if self._conf is None or self._service is None:
            raise ConfigError("call prepare_server before effective_config")
        lines = {
            name: translation.report(self._opened[name].effective_config())
            for name, translation in self._translations.items()
        }
        with_models = (
            [] if self._graph is None else [op.name for op in self._graph.ops if op.model is not None]
        )
        return report_of(self._conf, self._op_confs, with_models, lines, self._options)

    def close(self) -> None:
        """Ends it: accepted requests are over first. run_server does so itself."""
        service, self._service = self._service, None
        if service is not None:
            self._is_closed = True
            service.close()
        engines, self._opened = self._opened, {}
        self._translations = {}
        for engine in engines.values():
            engine.close()
        clients, self._clients = self._clients, []
        for client in clients:
            client.release()

    # -- what answers its requests

    @property
    def service(self) -> Service:
        """The service that carries it: its functions and engines, statistics and diagnosis.

        Raises
        ------
        ConfigError
            ``prepare_server`` was not called.
        EngineClosed
            It is closed.
        """
        if self._service is None:
            if self._is_closed:
                raise EngineClosed(f"the pipeline {self.name!r} is closed")
            raise ConfigError("call prepare_server first: there is no pipeline yet")
        return self._service

    async def answer(self, request: PipelineRequest, *, timeout: float | None = None) -> PipelineResponse:
        """The response to a request, also to one that fails: ``err_no`` and ``err_msg`` say so.

        `timeout` is in seconds.
        """
        try:
            response: PipelineResponse = await self.service.acall(request, timeout=timeout)
        except ConfigError:  # it was never prepared
            raise
        except PaddleInferError as error:
            return _response_of(error)
        return response

    def call(self, request: PipelineRequest, *, timeout: float | None = None) -> PipelineResponse:
        """As ``answer``, from any thread."""
        try:
            response: PipelineResponse = self.service.call(request, timeout=timeout)
        except ConfigError:  # as above
            raise
        except PaddleInferError as error:
            return _response_of(error)
        return response

    def read(self, document: Mapping[str, Any], name: str, method: str) -> PipelineRequest:
        """A request, of its document."""
        return read_document(document, name, method)

    def write(self, answer: PipelineResponse) -> dict[str, Any]:
        """The document of a response."""
        return document_of(answer)

    def refusal(
        self, error: BaseException, status: int, sentence: str, *, is_real: bool
    ) -> tuple[int, dict[str, Any]]:
        """The status and the document of a request that failed."""
        if isinstance(error, PaddleInferError):
            response = _response_of(error)
            if isinstance(error, PipelineFailure):
                status = status_of(response.err_no)
            document = document_of(response)
        else:
            document = failure(status, sentence)
        return status if is_real else 200, document

    # -- how it is prepared

    def _prepared(self, op: Op, conf: PipelineConf) -> PreparedOp:
        given = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in op.given.items()
            if value is not None
        }
        op_conf = conf.ops.get(op.name, OpConf()).overridden(op.name, given, op.local_service_handler)
        self._op_confs[op.name] = op_conf
        op.model = self._model(op, op_conf)
        timeout_ms = op_conf.values.get("timeout", -1)
        copies = OpCopies(
            op, op_conf.values.get("concurrency", 1), shares_op=conf.dag.get("is_thread_op", True)
        )
        return PreparedOp(
            copies, timeout_ms / 1000 if timeout_ms > 0 else None, op_conf.values.get("retry", 1)
        )

    def _model(self, op: Op, conf: OpConf) -> OpModel | None:
        path = f"op.{op.name}"
        fetch = conf.values.get("fetch_list", conf.local.get("fetch_list"))
        if conf.values.get("server_endpoints"):
            return self._client_model(path, conf, fetch)
        if op.name in self._given:
            return self._given_model(op.name, conf, fetch)
        directory = conf.local.get("model_config")
        if directory is None:
            if conf.local:
                raise ConfigError(f"{path}.local_service_conf has no model_config, the model's directory")
            return None
        translation = translated(path, conf)
        engine = self._opened[op.name] = Engine(directory, translation.config())
        self._translations[op.name] = translation
        return EngineModel(op.name, engine, fetch)

    def _given_model(self, name: str, conf: OpConf, fetch: Any) -> EngineModel:
        engine = self._given[name]
        if not isinstance(engine, Engine):
            raise ConfigError(f"the engine of Op {name!r} must be an Engine, not {shown(engine)}")
        unused = [key for key in ("batch_size", "auto_batching_timeout") if key in conf.values]
        unused += [f"local_service_conf.{key}" for key in conf.local if key != "fetch_list"]
        if unused:
            raise ConfigError(
                f"op.{name} has {listed(unused)}, and its engine is given, whose own options say so: "
                "leave them out"
            )
        return EngineModel(name, engine, fetch)

    def _client_model(self, path: str, conf: OpConf, fetch: Any) -> ClientModel:
        values = conf.values
        if conf.local.get("model_config") is not None:
            raise ConfigError(f"{path} has server_endpoints and a local model_config: give one of them")
        if "client_config" not in values:
            raise ConfigError(f"{path} has server_endpoints, and needs client_config: the model's names")
        kind = values.get("client_type", "brpc")
        if kind not in _ENDPOINTS:
            raise ConfigError(f"{path}.client_type of servers must be brpc or grpc, not {shown(kind)}")
        client = Client()
        self._clients.append(client)
        client.load_client_config(values["client_config"])
        if values.get("timeout", -1) > 0:
            client.set_rpc_timeout_ms(values["timeout"])
        client.connect([f"{_ENDPOINTS[kind]}{one}" for one in values["server_endpoints"]])
        return ClientModel(client, fetch)

    def _label(self, op: str) -> str:
        """What the server calls an Op's engine."""
        return f"{self.name}.{op}"

    def _labelled(self) -> dict[str, Engine]:
        if self._service is None:
            raise ConfigError("call prepare_server first: there is no pipeline yet")
        return {self._label(name): engine for name, engine in self.engines.items()}


class _PipelineService(Service):
    """From a thread all of a request at once; from an event loop in parts."""

    def __init__(self, executor: Executor, limits: ServiceLimits) -> None:
        self._executor = executor
        super().__init__(limits=limits)

    def handle(self, request: Request) -> Any:
        return self._executor.handle(request)

    def _functions(self, *given: Any) -> Functions:
        return replace(super()._functions(*given), parts=self._executor.parts)


def _listening(conf: PipelineConf) -> dict[str, Any]:
    """The server's options. Without a port of its own HTTP has a free one."""
    options = {"port": conf.top.get("http_port", 0)}
    if "rpc_port" in conf.top:
        options["grpc_port"] = conf.top["rpc_port"]
    return options


def _limits(conf: PipelineConf) -> ServiceLimits:
    """Never fewer at once than a service's own."""
    least = ServiceLimits()
    workers = conf.top.get("worker_num", 1)
    return ServiceLimits(
        running=max(least.running, workers),
        threads=max(least.threads, workers),
        max_requests=max(least.max_requests, workers),
    )


def _response_of(error: PaddleInferError) -> PipelineResponse:
    if isinstance(error, PipelineFailure):
        return error.response
    return PipelineResponse(number_of(error), str(error))
