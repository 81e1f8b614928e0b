"""``LocalPredictor``: a model in this process, called as Paddle Serving's."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from paddleinfer.config.checks import is_int
from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError, EngineClosed, InvalidInput
from paddleinfer.sentences import shown
from paddleinfer.serving import profiling
from paddleinfer.serving.formats.feeds import engine_inputs, wanted_names
from paddleinfer.serving.translated_options import Translation, refuse_unless

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LocalPredictor"]

_NOT_OFFERED = {
    "use_lite": "Paddle Lite is another runtime; leave it out",
    "use_xpu": "paddleinfer runs on the CPU and on NVIDIA's GPUs; leave it out",
    "use_ascend_cl": "paddleinfer runs on the CPU and on NVIDIA's GPUs; leave it out",
    "use_feed_fetch_ops": "tensors are handed over without feed and fetch operators; leave it out",
    "use_calib": "calibration for int8 is made offline, by PaddleSlim; leave it out",
    "mkldnn_op_list": "oneDNN takes every operator that it has a kernel for; leave it out",
    "mkldnn_bf16_op_list": "bfloat16 is for every operator that has it; leave it out",
    "min_subgraph_size": "TensorRT's subgraphs have at least 3 operators; leave it at 3",
    "dynamic_shape_info": "TensorRT's ranges of shapes cannot be set; leave it out",
}


@dataclass(frozen=True)
class _Loaded:
    engine: Engine
    translation: Translation
    writes_profile: bool


class LocalPredictor:
    """Paddle Serving's ``LocalPredictor`` over an ``Engine``: any number of threads may call it.

    Calls of several threads share batches. It can be used in a ``with`` block, which closes it.
    """

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None

    def load_model_config(
        self,
        model_path: str | os.PathLike[str],
        use_gpu: bool = False,
        gpu_id: int = 0,
        use_profile: bool = False,
        thread_num: int = 1,
        mem_optim: bool = True,
        ir_optim: bool = False,
        use_trt: bool = False,
        use_lite: bool = False,
        use_xpu: bool = False,
        precision: str = "fp32",
        use_mkldnn: bool = False,
        mkldnn_cache_capacity: int = 0,
        mkldnn_op_list: Sequence[str] | None = None,
        mkldnn_bf16_op_list: Sequence[str] | None = None,
        use_feed_fetch_ops: bool = False,
        use_ascend_cl: bool = False,
        min_subgraph_size: int = 3,
        dynamic_shape_info: Mapping[str, Any] | None = None,
        use_calib: bool = False,
    ) -> None:
        """Loads a model; a second call puts another into its place while predictions go on.

        Parameters
        ----------
        model_path
            A Paddle Serving directory, or any model that ``Engine`` takes.
        use_gpu, gpu_id
            On this GPU instead of the CPU.
        use_profile
            Write a ``PROFILE`` line to standard error for each prediction, as ``FLAGS_profile_client=1`` in
            the environment does.
        thread_num
            Threads of Paddle's math library inside one predictor (``cpu_threads``).
        mem_optim, ir_optim
            As the engine's options.
        use_trt, precision
            TensorRT in "fp16" or "int8", on a GPU; else "fp32", or "bf16" with `use_mkldnn`.
        use_mkldnn, mkldnn_cache_capacity
            oneDNN's kernels, and the input shapes after which an instance empties its cache of them
            (``max_onednn_shapes``); 0 is the engine's default.
        use_lite, use_xpu, use_ascend_cl, use_feed_fetch_ops, use_calib, min_subgraph_size, \
dynamic_shape_info, mkldnn_op_list, mkldnn_bf16_op_list
            Are refused unless they are at their defaults.

        Raises
        ------
        ConfigError
            An option is out of range, or not possible here.
        ModelLoadError
            The path is not a model, or Paddle cannot load it; what was loaded before stays.
        """
        refuse_unless(
            False,
            _NOT_OFFERED,
            (
                ("use_lite", use_lite),
                ("use_xpu", use_xpu),
                ("use_ascend_cl", use_ascend_cl),
                ("use_feed_fetch_ops", use_feed_fetch_ops),
                ("use_calib", use_calib),
                ("mkldnn_op_list", mkldnn_op_list),
                ("mkldnn_bf16_op_list", mkldnn_bf16_op_list),
                ("dynamic_shape_info", dynamic_shape_info),
            ),
        )
        refuse_unless(3, _NOT_OFFERED, (("min_subgraph_size", min_subgraph_size),))
        translation = Translation()
        _take_device(translation, use_gpu, gpu_id)
        translation.take_count("thread_num", thread_num, 1, "cpu_threads")
        translation.take_switches(mem_optim=mem_optim, ir_optim=ir_optim)
        translation.take_onednn(use_mkldnn, mkldnn_cache_capacity)
        translation.take_precision(precision, use_trt=use_trt)
        if translation.options["precision"] == "bfloat16" and not use_mkldnn:
            raise ConfigError(f"the precision {precision} needs use_mkldnn=True, on the CPU")
        if not isinstance(use_profile, bool):
            raise ConfigError(f"use_profile must be True or False, not {shown(use_profile)}")
        translation.take("use_profile", use_profile)
        with self._loading:
            engine = Engine(model_path, translation.config())
            before = self._loaded
            self._loaded = _Loaded(engine, translation, use_profile or profiling.is_asked_for())
        if before is not None:
            before.engine.close()

    def predict(
        self,
        feed: Mapping[str, npt.ArrayLike] | Sequence[Mapping[str, npt.ArrayLike]] | None = None,
        fetch: str | Sequence[str] | None = None,
        batch: bool = False,
        log_id: int = 0,
    ) -> dict[str, npt.NDArray[Any]]:
        """Runs the model and waits for the result.

        Parameters
        ----------
        feed
            Name or alias -> array or list; or a list of such dicts, one for each row. It is not written to.
            Integers become floats where the model takes floats; floats for integers are refused.
        fetch
            The outputs wanted, by name or alias; None is all of them.
        batch
            Whether the arrays have their batch axis; without it they are one row each.
        log_id
            A number that the errors of this call name.

        Returns
        -------
        dict
            Name, as in `fetch`, -> a writable array with its batch axis. Models of Paddle 3 have no LoD, and
            so there is no ``.lod`` beside it.

        Raises
        ------
        InvalidInput
            `feed` or `fetch` do not fit the model; nothing ran.
        QueueFull, ModelError, EngineClosed, ConfigError
            Too much waits; the model failed; it was closed; no model is loaded.
        """
        if not isinstance(batch, bool):
            raise InvalidInput(f"batch must be True or False, not {shown(batch)}")
        while True:
            loaded = self._in_service()
            try:
                return _predicted(loaded, feed, fetch, batch)
            except EngineClosed as error:
                if error.accepted or self._loaded is loaded:
                    raise
            except InvalidInput as error:
                if log_id:
                    raise InvalidInput(f"{error} (log_id {shown(log_id)})") from error
                raise

    @property
    def engine(self) -> Engine:
        """The engine of the model in service, for all that Paddle Serving had no name for."""
        return self._in_service().engine

    def effective_config(self) -> dict[str, dict[str, Any]]:
        """Paddle Serving's option -> its ``value``, and under ``engine`` what it became and what is in force.

        The lines under ``engine`` are those of ``Engine.effective_config``.
        """
        loaded = self._in_service()
        return loaded.translation.report(loaded.engine.effective_config())

    def close(self) -> None:
        """Ends the predictor; later calls raise EngineClosed."""
        loaded = self._loaded
        if loaded is not None:
            loaded.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _in_service(self) -> _Loaded:
        loaded = self._loaded
        if loaded is None:
            raise ConfigError("no model is loaded; call load_model_config(model_path) first")
        return loaded


def _predicted(loaded: _Loaded, feed: object, fetch: object, batch: bool) -> dict[str, npt.NDArray[Any]]:
    engine = loaded.engine
    clock = profiling.StageClock() if loaded.writes_profile else None
    inputs = engine_inputs(feed, engine.inputs, batch=batch)
    names = wanted_names(fetch, engine.outputs)
    if clock is not None:
        clock.end("py_prepro")
    results = engine.infer(inputs, outputs=names)
    if clock is not None:
        clock.end("py_client_infer")
        clock.write()
    return results


def _take_device(translation: Translation, use_gpu: object, gpu_id: object) -> None:
    if not isinstance(use_gpu, bool):
        raise ConfigError(f"use_gpu must be True or False, not {shown(use_gpu)}")
    if use_gpu and (not is_int(gpu_id) or gpu_id < 0):  # type: ignore[operator]
        raise ConfigError(f"gpu_id must be the number of a GPU, from 0 up, not {shown(gpu_id)}")
    if not use_gpu and gpu_id not in (0, -1):
        raise ConfigError(f"gpu_id={shown(gpu_id)} needs use_gpu=True")
    translation.take("use_gpu", use_gpu, device=f"gpu:{gpu_id}" if use_gpu else "cpu")
    translation.take("gpu_id", gpu_id, device=translation.options["device"])
