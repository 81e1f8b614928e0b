"""Defines Engine: a model as a thread-safe, parallel, self-batching function, from its load to its end."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from paddleinfer import _ext
from paddleinfer.backends import callables
from paddleinfer.config import CheckLoad, EngineConfig, EngineOptions
from paddleinfer.engine import greenlets, load_trial
from paddleinfer.engine.calls import EngineCalls
from paddleinfer.engine.generation import Loadable, ReloadReport
from paddleinfer.engine.generations import Generations, Prepare
from paddleinfer.engine.introspection import EngineIntrospection
from paddleinfer.engine.observers import ObservedCalls, RequestObserver
from paddleinfer.engine.opening import Opening, saying_what_lacks_memory
from paddleinfer.engine.preparation import prepared_as_tuned
from paddleinfer.engine.scaling import ScalingWindow
from paddleinfer.engine.submission import Results
from paddleinfer.engine.warmup import WarmupReport
from paddleinfer.errors import ConfigError
from paddleinfer.explanation import InferInfo
from paddleinfer.models.reader import ModelSpec, load_spec
from paddleinfer.sentences import shown
from paddleinfer.tracing.trace import Tracing

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["Engine", "InferInfo", "ReloadReport", "WarmupReport"]

_log = logging.getLogger("paddleinfer")


class Engine(EngineCalls, EngineIntrospection):
    """A Paddle model as a function that any number of threads may call.

    Parameters
    ----------
    path
        A directory, a file stem or a file of a model: ``*.json`` or ``*.pdmodel`` with ``*.pdiparams``,
        ``__model__`` with its parameters, or a Paddle Serving directory; with ``backend="onnxruntime"`` or
        ``"openvino"`` also a ``.onnx`` file.
    config
        All options, grouped; it replaces the keywords.
    **options
        The fields of ``RuntimeOptions``, ``BatchingOptions`` and ``EngineConfig``.

    Raises
    ------
    ConfigError
        An option is unknown, out of range, or not possible with the installed Paddle.
    ModelLoadError
        The path is not a model, or Paddle cannot load it.
    OutOfMemory, ThreadStartError
        There is no memory, or no thread, for it now.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: EngineConfig | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        config = one_config(config, options)
        self._open(functools.partial(_prepared, config), path, config)

    @classmethod
    def from_callable(
        cls,
        fn: Callable[[Results], Any],
        inputs: Mapping[str, tuple[str, Sequence[int]]],
        outputs: Sequence[str] | Mapping[str, tuple[str, Sequence[int]]],
        *,
        config: EngineConfig | None = None,
        **options: Unpack[EngineOptions],
    ) -> Self:
        """Makes an engine over any Python function, with the same semantics.

        Parameters
        ----------
        fn
            It gets a dict of arrays of its own (name -> array) and returns a dict of arrays, a list in the
            order of `outputs`, or one array for one output. It is called on the instance threads, by
            ``instances`` of them at once (default: one).
        inputs
            Name -> (dtype, shape), -1 for a free dimension.
        outputs
            Names, or name -> (dtype, shape) to have the function's outputs checked.

        Raises
        ------
        ConfigError
            A description is wrong, or an option acts on Paddle only.
        """
        config = one_config(config, options)
        spec = callables.spec_of(fn, inputs, outputs)
        engine = cls.__new__(cls)
        engine._open(functools.partial(_prepared_function, fn, spec, config), None, config)
        return engine

    def _open(self, prepare: Prepare, path: str | os.PathLike[str] | None, config: EngineConfig) -> None:
        greenlets.refuse_eventlet()
        with saying_what_lacks_memory("the function" if path is None else path):
            ring = _ext.TraceRing(config.trace_requests)
            generations = Generations(prepare, path, config, ring)
        EngineCalls.__init__(self, generations, config)
        self._tracing = Tracing(ring, config.trace_requests)
        self._scaling = ScalingWindow(self.stats(), time.monotonic())
        self._observer: RequestObserver | None = None
        _log.debug("%r is open", self)

    @property
    def observer(self) -> RequestObserver | None:
        """The observer of every request that is made from now on; None, which costs nothing, for nobody."""
        return self._observer

    @observer.setter
    def observer(self, observer: RequestObserver | None) -> None:
        self._observer = observer
        self._observed = None
        if observer is not None:
            generations = self._generations
            calls = EngineCalls(generations, self._config)
            self._observed = ObservedCalls(calls, lambda: generations.present.number, observer)

    def reload(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = 30.0,
        check_load: CheckLoad | None = None,
    ) -> ReloadReport:
        """Puts another model, or a new version of this one, into service while requests go on.

        The new one is loaded with the engine's options, and warmed up where ``warmup=True`` asked for it.
        Then new requests go to it, and the previous model serves what it has accepted and is freed. Until
        then both are in memory. Reloads by several threads run one after the other.

        The new model has to fit the callers: the same names, aliases and dtypes of inputs and outputs in the
        same order, inputs that take every shape they took before, and outputs whose known sizes stay.

        Parameters
        ----------
        path
            A path as ``Engine`` takes it; None is the path of the model in service. An engine over a function
            takes None only, and makes new instances.
        timeout
            Seconds for the previous model to serve what it has accepted. After them those requests end with
            EngineClosed, as after ``close(timeout=)``; the new model is in service all the same. None waits
            for ever.
        check_load
            The option of this name, for this load; None uses the engine's own.

        Raises
        ------
        ModelLoadError, ConfigError, ModelError
            The model is missing, broken, does not fit the callers or ``max_memory_bytes``, or failed its
            warm-up. The previous model stays in service, and the error says so.
        OutOfMemory, ThreadStartError
            There is no memory, or no thread, for it now. The previous model stays in service here, too.
        EngineClosed
            The engine is closed, or was closed meanwhile; nothing of the load is left running.
        """
        return self._generations.reload(path, timeout, check_load)

    def close(self, drain: bool = True, timeout: float | None = 30.0) -> None:
        """Ends the engine; later calls raise EngineClosed. Calling it again does nothing.

        Parameters
        ----------
        drain
            Let accepted requests end; False ends those that have not started with EngineClosed.
        timeout
            Seconds to wait for what runs. After them its callers get EngineClosed, and the run is abandoned
            with its memory. None waits for ever.
        """
        self._generations.close(drain, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Engine cannot be pickled: it holds threads and native predictors; pass its path and options "
            "and create one in the other process"
        )


def one_config(config: EngineConfig | None, options: Mapping[str, Any]) -> EngineConfig:
    if config is None:
        return EngineConfig.from_options(options)
    if options:
        raise ConfigError(f"give options as keywords or as config=, not both: {', '.join(options)}")
    if not isinstance(config, EngineConfig):
        raise ConfigError(f"config must be an EngineConfig, not {shown(config)}")
    return config


def _prepared(
    config: EngineConfig, path: str | os.PathLike[str], check_load: CheckLoad, load: Opening
) -> tuple[Loadable, EngineConfig]:
    spec = load_spec(path, config.runtime.params)
    if check_load == "process":
        load_trial.try_load(path, config, load)
    load.check()

    @contextlib.contextmanager
    def open_trial(trial: EngineConfig) -> Iterator[Callable[[Mapping[str, Any]], object]]:
        with Engine(path, trial) as engine:
            yield engine.infer

    return prepared_as_tuned(spec, config, load, open_trial)


def _prepared_function(
    fn: Callable[[Results], Any],
    spec: ModelSpec,
    config: EngineConfig,
    path: object,
    check_load: CheckLoad,
    load: Opening,
) -> tuple[Loadable, EngineConfig]:
    if path is not None:
        raise ConfigError(f"an engine over a function is reloaded without a path, not with {shown(path)}")
    return callables.prepare(fn, spec, config), config
