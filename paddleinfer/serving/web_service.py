"""``WebService``: Paddle Serving's web services, both of pipelines and of one model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError
from paddleinfer.models.spec import TensorSpec
from paddleinfer.sentences import shown
from paddleinfer.serving import process_info
from paddleinfer.serving.feed_service import FeedService
from paddleinfer.serving.formats.feeds import engine_inputs
from paddleinfer.serving.http_server import application, serve
from paddleinfer.serving.pipeline.op import Op, RequestOp, ResponseOp
from paddleinfer.serving.pipeline.server import PipelineServer
from paddleinfer.serving.server import Server

__all__ = ["Op", "WebService"]

_NO_GPUS: Final[tuple[object, ...]] = ("", "-1", -1, [], ["-1"])
# What ``Server`` calls the arguments of ``prepare_server``.
_NAMES: Final = {"memory_optimize": "mem_optim", "ir_optimize": "ir_optim", "num_threads": "thread_num"}


class WebService:
    """Paddle Serving's ``WebService``, served under ``/{name}/prediction``.

    As a pipeline: override ``get_pipeline_response``, then ``prepare_pipeline_config``, ``run_service``.
    Around one model: override ``preprocess`` and ``postprocess``, then ``load_model_config``,
    ``prepare_server``, ``run_rpc_service``, ``run_web_service``. Any number of requests are answered at once.
    """

    def __init__(self, name: str = "default_service") -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"a web service's name must be a text, not {shown(name)}")
        self.name = name
        self.gpus: Any = None
        self._pipeline: PipelineServer | None = None
        self._model: str | os.PathLike[str] | None = None
        self._workdir: str | None = None
        self._server: Server | None = None
        self._feeds: FeedService | None = None

    # -- a pipeline

    def get_pipeline_response(self, read_op: RequestOp) -> Op | None:
        """The last Op of the pipeline, whose first ones have `read_op` among their inputs."""
        return None

    def prepare_pipeline_config(
        self,
        yml_file: str | os.PathLike[str] | None = None,
        yml_dict: Mapping[str, Any] | None = None,
        engines: Mapping[str, Engine] | None = None,
    ) -> None:
        """Makes the pipeline, and loads its models.

        Parameters
        ----------
        yml_file, yml_dict, engines
            As of ``PipelineServer.prepare_server``.

        Raises
        ------
        ConfigError
            ``get_pipeline_response`` gives no Op, the Ops are no graph, or the configuration is wrong.
        ModelLoadError
            A model cannot be loaded.
        """
        last = self.get_pipeline_response(RequestOp())
        if not isinstance(last, Op):
            raise ConfigError(f"get_pipeline_response must return the last Op, and returned {shown(last)}")
        pipeline = PipelineServer(self.name)
        pipeline.set_response_op(ResponseOp(input_ops=[last]))
        pipeline.prepare_server(yml_file, yml_dict, engines)
        self.close()
        self._pipeline = pipeline

    def run_service(self) -> int:
        """Serves the pipeline until a signal; gives the exit code of ``paddleinfer-http``.

        Raises
        ------
        ConfigError
            ``prepare_pipeline_config`` was not called.
        """
        if self._pipeline is None:
            raise ConfigError("call prepare_pipeline_config before run_service")
        return self._pipeline.run_server()

    # -- one model

    def preprocess(self, feed: Any = (), fetch: Any = ()) -> tuple[Any, Any, bool]:
        """What the model is to be given.

        Parameters
        ----------
        feed
            A client's list of dicts, one for each row.
        fetch
            Its list of the outputs that it wants.

        Returns
        -------
        tuple
            A dict of arrays; the names of the outputs; whether the arrays have their batch axis. By default
            the rows one after the other.
        """
        return engine_inputs(feed, self._inputs(), batch=False), fetch, True

    def postprocess(self, feed: Any = (), fetch: Any = (), fetch_map: Any = None) -> Any:
        """The answer's ``result``, of the outputs by name: by default these as lists.

        `feed` is the client's, and `fetch` what ``preprocess`` gave.
        """
        return {name: value.tolist() for name, value in fetch_map.items()}

    def load_model_config(
        self,
        server_config_dir_paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        client_config_path: str | None = None,
    ) -> None:
        """Says which model.

        Parameters
        ----------
        server_config_dir_paths
            Its directory, or a list of that one.
        client_config_path
            Is not used: the model's own configuration has all names.

        Raises
        ------
        ConfigError
            There are several; they make a pipeline.
        """
        given = server_config_dir_paths
        paths = [given] if isinstance(given, (str, os.PathLike)) else list(given)
        if len(paths) != 1:
            raise ConfigError(
                f"a web service of this form has one model, and {len(paths)} are given: "
                "a pipeline has several (get_pipeline_response)"
            )
        self._model = paths[0]

    def set_gpus(self, gpus: int | str | Sequence[int | str]) -> None:
        """GPUs, as "0,1"; "" or "-1" is the CPU. ``prepare_server(gpuid=…)`` comes before it."""
        self.gpus = gpus

    def prepare_server(
        self,
        workdir: str | None = None,
        port: int = 9393,
        device: str = "cpu",
        precision: str = "fp32",
        use_calib: bool = False,
        use_lite: bool = False,
        use_xpu: bool = False,
        ir_optim: bool = False,
        thread_num: int = 4,
        mem_optim: bool = True,
        use_trt: bool = False,
        gpu_multi_stream: bool = False,
        runtime_thread_num: int | None = None,
        batch_infer_size: int | None = None,
        gpuid: int | str | Sequence[int | str] | None = None,
    ) -> None:
        """Says how the model runs; ``run_rpc_service`` loads it.

        Parameters
        ----------
        workdir
            Is not used: nothing is written.
        port
            Where it listens.
        device, gpuid
            "cpu" or "gpu", and which GPUs.
        precision, ir_optim, mem_optim, use_trt, runtime_thread_num, batch_infer_size
            As of the methods of ``Server``.
        thread_num
            Runs at the same time, no more than there are cores for.
        use_calib, use_lite, use_xpu, gpu_multi_stream
            Are refused unless they are off.

        Raises
        ------
        ConfigError
            A value cannot be; the sentence says why.
        """
        if self._model is None:
            raise ConfigError("name the model by load_model_config before prepare_server")
        server = Server()
        server.set_port(port)
        server.set_device(device)
        server.set_precision(precision)
        server.set_ir_optimize(ir_optim)
        server.set_memory_optimize(mem_optim)
        server.set_num_threads(thread_num)
        for value, refuse in (
            (use_calib, server.set_use_calib),
            (use_lite, server.set_lite),
            (use_xpu, server.set_xpu),
            (gpu_multi_stream, server.set_gpu_multi_stream),
        ):
            refuse(value)
        if use_trt:
            server.set_trt()
        if runtime_thread_num is not None:
            server.set_runtime_thread_num(runtime_thread_num)
        if batch_infer_size is not None:
            server.set_batch_infer_size(batch_infer_size)
        gpus = self.gpus if gpuid is None else gpuid
        if gpus is not None:
            server.set_gpuid(gpus)
        server.load_model_config({self.name: str(self._model)})
        self.close()
        self._workdir = workdir
        self._server = server

    def run_rpc_service(self) -> None:
        """Loads the model, into this process.

        Raises
        ------
        ConfigError, ModelLoadError
            ``prepare_server`` was not called; the model cannot be loaded.
        """
        server = self._prepared()
        self.close()
        server.prepare_server(self._workdir)
        (engine,) = server.engines.values()
        self._feeds = FeedService(self.name, engine, self.preprocess, self.postprocess)

    def run_debugger_service(self, gpu: bool = False) -> None:
        """As ``run_rpc_service``; with `gpu` on a GPU, the first where none is named."""
        if gpu:
            self._prepared().set_device("gpu")
            if self.gpus in _NO_GPUS:
                self._prepared().set_gpuid("0")
        self.run_rpc_service()

    def run_web_service(self) -> int:
        """Serves until a signal; gives the exit code of ``paddleinfer-http``.

        Raises
        ------
        ConfigError
            ``run_rpc_service`` was not called.
        """
        feeds, server = self._running()
        options = server.options()
        try:
            with process_info.remembered(options.port):
                return serve(feeds.engines, options, {self.name: feeds})
        finally:
            self.close()

    def get_app_instance(self) -> Any:
        """An application of ASGI, of a pipeline or of one model, which any server runs.

        Raises
        ------
        ConfigError
            There is nothing prepared to serve.
        """
        if self._pipeline is not None:
            return self._pipeline.application()
        feeds, server = self._running()
        return application(feeds.engines, server.options(), {self.name: feeds})

    # -- both

    @property
    def pipeline(self) -> PipelineServer:
        """The pipeline, for calls from this process.

        Raises
        ------
        ConfigError
            ``prepare_pipeline_config`` was not called.
        """
        if self._pipeline is None:
            raise ConfigError("call prepare_pipeline_config first: there is no pipeline yet")
        return self._pipeline

    def get_prediction(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a client's ``{"feed": […], "fetch": […]}``, from any thread.

        Raises
        ------
        ConfigError
            ``run_rpc_service`` was not called.
        """
        return self._running()[0].call(document)

    def effective_config(self) -> dict[str, dict[str, Any]]:
        """What became of each value that was given, and is in force; as of PipelineServer, or of Server.

        Raises
        ------
        ConfigError
            Nothing is loaded yet.
        """
        if self._pipeline is not None:
            return self._pipeline.effective_config()
        _, server = self._running()
        report = {_NAMES.get(name, name): entry for name, entry in server.effective_config().items()}
        return {**report, "workdir": {"value": self._workdir, "note": "nothing is written"}}

    def close(self) -> None:
        """Ends what is loaded: accepted requests are over first."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()
        feeds, self._feeds = self._feeds, None
        if feeds is not None:
            feeds.close()
        if self._server is not None:
            self._server.close()

    def _prepared(self) -> Server:
        if self._server is None:
            raise ConfigError("call prepare_server before run_rpc_service")
        return self._server

    def _running(self) -> tuple[FeedService, Server]:
        if self._feeds is None:
            raise ConfigError("call run_rpc_service first: there is no model loaded yet")
        return self._feeds, self._prepared()

    def _inputs(self) -> Sequence[TensorSpec]:
        feeds, _ = self._running()
        (engine,) = feeds.engines.values()
        return engine.inputs
