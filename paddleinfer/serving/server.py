"""``Server``: Paddle Serving's server in Python, over the one of ``paddleinfer-http``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from paddleinfer.backends.processors import usable_cores
from paddleinfer.config.checks import check_bool, check_int, is_int
from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown
from paddleinfer.serving.http_server import serve, server_options
from paddleinfer.serving.not_offered import NOT_OFFERED
from paddleinfer.serving.op_makers import Workflow, check_workflow
from paddleinfer.serving.translated_options import Translation

__all__ = ["Server"]

_MOST_INT: Final = (1 << 63) - 1
_MOST_CACHE_BYTES: Final = 1 << 50
_MOST_THREADS: Final = 1024


class Server:
    """Paddle Serving's ``Server``: say how, ``load_model_config``, ``prepare_server``, ``run_server``.

    It serves Paddle Serving's forms and the Open Inference Protocol on one port. Methods that have no meaning
    here take what is off or empty, and refuse all else in a sentence.
    """

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}
        self._given: dict[str, Any] = {
            "memory_optimize": False,
            "ir_optimize": False,
            "precision": "fp32",
            "trt": False,
            "mkl": "auto",
            "device": "cpu",
            "gpuid": [],
            "num_threads": None,
            "runtime_thread_num": [0],
            "request_cache_size": 0,
            "batch_infer_size": [32],
            "cpu_math_thread_num": 1,
            "gpu_memory_mb": None,
        }
        self._of_server: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._workflow: Workflow | None = None
        self.set_port(9292)
        self.set_reload_interval(10)
        self._translations: dict[str, Translation] = {}
        self._engines: dict[str, Engine] = {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in NOT_OFFERED:
            raise AttributeError(f"Server has no attribute {name!r}")

        def refuse(*values: object, **named: object) -> None:
            if not values and not named:
                raise ConfigError(f"{name} is not offered: {NOT_OFFERED[name]}; leave it out")
            for value in (*values, *named.values()):
                if value not in (None, False, "", 0, -1, [], {}):
                    why = NOT_OFFERED[name]
                    raise ConfigError(f"{name}({shown(value)}) is not offered: {why}; leave it out")

        return refuse

    # How Paddle runs

    def set_memory_optimize(self, flag: bool = False) -> None:
        """Let Paddle reuse the memory of intermediate tensors (``mem_optim``)."""
        check_bool("flag of set_memory_optimize", flag)
        self._given["memory_optimize"] = flag

    def set_ir_optimize(self, flag: bool = False) -> None:
        """Paddle's graph passes (``ir_optim``)."""
        check_bool("flag of set_ir_optimize", flag)
        self._given["ir_optimize"] = flag

    def set_precision(self, precision: str = "fp32") -> None:
        """ "fp32"; "bf16" with oneDNN; "fp16" or "int8" with ``set_trt``, on a GPU."""
        self._given["precision"] = precision

    def set_trt(self) -> None:
        """TensorRT, in fp16 or int8."""
        self._given["trt"] = True

    def use_mkl(self, flag: bool) -> None:
        """oneDNN's kernels, on or off (``onednn``); not called, it is what the installed Paddle prefers."""
        check_bool("flag of use_mkl", flag)
        self._given["mkl"] = flag

    def set_device(self, device: str = "cpu") -> None:
        """ "cpu", or "gpu", of which ``set_gpuid`` says which."""
        if device not in ("cpu", "gpu"):
            raise ConfigError(f'device must be "cpu" or "gpu", not {shown(device)}')
        self._given["device"] = device

    def set_gpuid(self, gpuid: int | str | Sequence[int | str]) -> None:
        """GPUs, as "0,1", for all models or in a list for each; "" or -1 is the CPU."""
        self._given["gpuid"] = [str(one) for one in (gpuid if isinstance(gpuid, (list, tuple)) else [gpuid])]

    def set_cpu_math_thread_num(self, cpu_math_thread_num: int) -> None:
        """Threads of Paddle's math library inside an instance (``cpu_threads``)."""
        check_int("cpu_math_thread_num", cpu_math_thread_num, 1, _MOST_THREADS)
        self._given["cpu_math_thread_num"] = cpu_math_thread_num

    def set_gpu_memory_mb(self, gpu_memory_mb: int) -> None:
        """Megabytes that Paddle reserves at first on each GPU."""
        check_int("gpu_memory_mb", gpu_memory_mb, 1, 1 << 24)
        self._given["gpu_memory_mb"] = gpu_memory_mb

    # How many at once

    def set_num_threads(self, threads: int) -> None:
        """Runs at the same time (``instances``), of each model: no more than there are cores for."""
        check_int("threads", threads, 1, _MOST_THREADS)
        self._given["num_threads"] = threads

    def set_runtime_thread_num(self, runtime_thread_num: int | Sequence[int]) -> None:
        """Instances, for all models or in a list for each, however few the cores; 0 leaves it open."""
        self._given["runtime_thread_num"] = _counts(
            "runtime_thread_num", runtime_thread_num, 0, _MOST_THREADS
        )

    def set_batch_infer_size(self, batch_infer_size: int | Sequence[int]) -> None:
        """Rows that run together at most (``max_batch_size``), for all models or in a list for each."""
        self._given["batch_infer_size"] = _counts("batch_infer_size", batch_infer_size, 1, 1 << 20)

    def set_request_cache_size(self, request_cache_size: int) -> None:
        """Bytes of results that each model keeps for equal requests (``cache_bytes``); 0 keeps none."""
        check_int("request_cache_size", request_cache_size, 0, _MOST_CACHE_BYTES)
        self._given["request_cache_size"] = request_cache_size

    def set_max_concurrency(self, concurrency: int) -> None:
        """Requests in flight at once; further ones are refused (``max_inflight``). 0 is any number."""
        check_int("concurrency", concurrency, 0, _MOST_INT)
        self._of_server["max_concurrency"] = (concurrency, {"max_inflight": concurrency or None})

    # The graph

    def set_op_sequence(self, op_sequence: Workflow) -> None:
        """The sequence that OpSeqMaker gives: a reader, one inference of each model, and a response.

        Raises
        ------
        ConfigError
            An operator of it is not offered, or it is no such sequence.
        """
        self._workflow = check_workflow(op_sequence)

    def set_op_graph(self, op_graph: Workflow) -> None:
        """As ``set_op_sequence``, of OpGraphMaker."""
        self.set_op_sequence(op_graph)

    # The server

    def set_port(self, port: int) -> None:
        """Where it listens."""
        check_int("port", port, 0, (1 << 16) - 1)
        self._of_server["port"] = (port, {"port": port})

    def set_host(self, host: str) -> None:
        """The address that it listens on; every one where this is not called. Paddle Serving had no such."""
        self._of_server["host"] = (host, {"host": host})

    def set_grpc_port(self, port: int) -> None:
        """Where it serves gRPC, too; Paddle Serving had one port for both."""
        check_int("grpc_port", port, 0, (1 << 16) - 1)
        self._of_server["grpc_port"] = (port, {"grpc_port": port})

    def set_max_body_size(self, body_size: int) -> None:
        """Bytes of a request's body (``max_body_bytes``, ``max_json_bytes``)."""
        check_int("body_size", body_size, 1, _MOST_INT)
        self._of_server["max_body_size"] = (
            body_size,
            {"max_body_bytes": body_size, "max_json_bytes": body_size},
        )

    def set_reload_interval(self, interval: float) -> None:
        """Seconds between two looks at the models' files, ``fluid_time_file`` among them."""
        self._of_server["reload_interval"] = (interval, {"reload_interval": interval})

    def set_enable_prometheus(self, flag: bool = False) -> None:
        """Metrics are always at ``/metrics``, so only True is taken."""
        if flag is not True:
            raise ConfigError("/metrics cannot be turned off; leave set_enable_prometheus out")
        self._of_server["enable_prometheus"] = (flag, {})

    def set_http_status(self, status: str) -> None:
        """ "200" or "real", for failed requests in Paddle Serving's forms. Paddle Serving had no such."""
        self._of_server["http_status"] = (status, {"http_status": status})

    # To serve

    def load_model_config(
        self, model_config_paths: str | os.PathLike[str] | Sequence[str] | Mapping[str, str]
    ) -> None:
        """Says which models: a directory, a list of them, or name -> directory.

        A directory's own name is its model's. Each is served by itself.

        Raises
        ------
        ConfigError
            Two have one name, or there is none.
        """
        given = model_config_paths
        if isinstance(given, Mapping):
            named = [(name, Path(path)) for name, path in given.items()]
        else:
            paths = [given] if isinstance(given, (str, os.PathLike)) else list(given)
            named = [(Path(path).resolve().name, Path(path)) for path in paths]
        if not named:
            raise ConfigError("load_model_config needs a model's directory")
        if len({name for name, _ in named}) < len(named):
            raise ConfigError("two directories have one name; give a dict of name and directory")
        self._paths = dict(named)

    def prepare_server(
        self,
        workdir: str | None = None,
        port: int | None = None,
        device: str | None = None,
        use_encryption_model: bool = False,
        cube_conf: str | None = None,
    ) -> None:
        """Loads the models.

        Parameters
        ----------
        workdir
            Is not used: nothing is written.
        port
            As of ``set_port``; None is what that was called with, else 9292.
        device
            As of ``set_device``.
        use_encryption_model, cube_conf
            Are refused.

        Raises
        ------
        ConfigError, ModelLoadError
            An option is wrong, or a model cannot be loaded; the sentence says why.
        """
        if use_encryption_model or cube_conf is not None:
            name = "use_encryption_model" if use_encryption_model else "cube_conf"
            raise ConfigError(f"{name} of prepare_server is not offered; leave it out")
        if not self._paths:
            raise ConfigError("name a model by load_model_config before prepare_server")
        if self._workflow is not None:
            self._workflow.check_models(len(self._paths))
        if port is not None:
            self.set_port(port)
        if device is not None:
            self.set_device(device)
        self.options()
        self._translations = {
            name: self._translation(place, len(self._paths)) for place, name in enumerate(self._paths)
        }
        self.close()
        for name, path in self._paths.items():
            self._engines[name] = Engine(path, self._translations[name].config())

    def run_server(self) -> int:
        """Serves until a signal; gives the exit code of ``paddleinfer-http``.

        Raises
        ------
        ConfigError
            prepare_server was not called.
        """
        if not self._engines:
            raise ConfigError("call prepare_server before run_server")
        options = self.options()
        try:
            return serve(self._engines, options)
        finally:
            self.close()

    def get_fetch_list(self) -> list[str]:
        """The outputs' aliases, of the last model."""
        if not self._engines:
            raise ConfigError("call prepare_server before get_fetch_list")
        engine = list(self._engines.values())[-1]
        return [tensor.alias or tensor.name for tensor in engine.outputs]

    def effective_config(self) -> dict[str, dict[str, Any]]:
        """Paddle Serving's option -> its ``value``, and what it became and is in force.

        ``server`` has options of ``paddleinfer-http``; ``engine`` has, by the model's name, the lines of
        ``Engine.effective_config``.

        Raises
        ------
        ConfigError
            prepare_server was not called.
        """
        if not self._engines:
            raise ConfigError("call prepare_server before effective_config")
        in_force = self.options()
        report: dict[str, dict[str, Any]] = {
            name: {"value": value, "server": {option: getattr(in_force, option) for option in became}}
            for name, (value, became) in self._of_server.items()
        }
        for name, engine in self._engines.items():
            lines = self._translations[name].report(engine.effective_config())
            for theirs, line in lines.items():
                entry = report.setdefault(
                    theirs, {"value": self._given.get(theirs, line["value"]), "engine": {}}
                )
                entry["engine"][name] = line["engine"]
        return report

    def close(self) -> None:
        """Ends the engines; run_server does so itself."""
        engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.close()

    @property
    def engines(self) -> dict[str, Engine]:
        """The engine of each model, once prepare_server has loaded them."""
        return dict(self._engines)

    def options(self) -> Any:
        """The options of the server."""
        return server_options(
            {name: value for _, became in self._of_server.values() for name, value in became.items()}
        )

    def _translation(self, place: int, models: int) -> Translation:
        """Of one model."""
        given = self._given
        translation = Translation()
        device = self._device(_of_model("gpuid", given["gpuid"], place, models))
        on_cpu = device == "cpu"
        translation.take("device", given["device"], device=device)
        translation.take("gpuid", ",".join(given["gpuid"]), device=device)
        translation.take("memory_optimize", given["memory_optimize"], mem_optim=given["memory_optimize"])
        ir_optim = given["ir_optimize"] or given["trt"]  # TensorRT is one of the passes
        translation.take("ir_optimize", given["ir_optimize"], ir_optim=ir_optim)
        if given["mkl"] is True and not on_cpu:
            raise ConfigError("oneDNN (use_mkl) is for the CPU, and a GPU is given")
        translation.take("mkl", given["mkl"], **({"onednn": given["mkl"]} if on_cpu else {}))
        translation.take_precision(given["precision"], use_trt=given["trt"])
        threads = given["cpu_math_thread_num"]
        translation.take("cpu_math_thread_num", threads, cpu_threads=threads)
        if given["gpu_memory_mb"] is not None:
            if on_cpu:
                raise ConfigError("gpu_memory_mb is for a GPU, and none is given")
            translation.take("gpu_memory_mb", given["gpu_memory_mb"], gpu_memory_mb=given["gpu_memory_mb"])
        instances = _of_model("runtime_thread_num", given["runtime_thread_num"], place, models) or 0
        asked = given["num_threads"]
        if instances:
            translation.take("runtime_thread_num", instances, instances=instances)
        elif asked is not None:
            most = max(1, usable_cores() // threads) if on_cpu else asked
            translation.take("num_threads", asked, instances=min(asked, most))
        rows = _of_model("batch_infer_size", given["batch_infer_size"], place, models)
        translation.take("batch_infer_size", rows, max_batch_size=rows)
        kept_bytes = given["request_cache_size"]
        translation.take("request_cache_size", kept_bytes, cache_bytes=kept_bytes)
        return translation

    def _device(self, gpuid: str | None) -> str | tuple[str, ...]:
        numbers = [] if gpuid in (None, "", "-1") else str(gpuid).split(",")
        if not all(number.isdigit() for number in numbers):
            raise ConfigError(f"gpuid must be numbers of GPUs with commas between, not {shown(gpuid)}")
        if not numbers:
            return "gpu:0" if self._given["device"] == "gpu" and not self._given["gpuid"] else "cpu"
        return tuple(f"gpu:{number}" for number in numbers)


def _counts(name: str, value: int | Sequence[int], least: int, most: int) -> list[int]:
    counts = [value] if is_int(value) else value
    if not isinstance(counts, (list, tuple)) or not counts:
        raise ConfigError(f"{name} must be an integer, or a list of one for each model, not {shown(value)}")
    for count in counts:
        check_int(name, count, least, most)
    return list(counts)


def _of_model(name: str, values: Sequence[Any], place: int, models: int) -> Any:
    if len(values) in (0, 1):
        return values[0] if values else None
    if len(values) != models:
        raise ConfigError(f"{name} has {len(values)} values, and there are {models} models")
    return values[place]
