"""How an engine opens, what it says of itself, and how it ends."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy.typing as npt

from paddleinfer import _ext, callables, lifecycle
from paddleinfer.config import EngineConfig, check_timeout, option_names
from paddleinfer.conversion import Converter
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.futures import deliver
from paddleinfer.model import ModelSpec, TensorSpec, load_spec
from paddleinfer.padding import Padding
from paddleinfer.paddle_errors import useful_line
from paddleinfer.settings import Settings
from paddleinfer.warmup import warmup

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EngineBase", "Inputs", "Results"]

_log = logging.getLogger("paddleinfer")

Results = dict[str, npt.NDArray[Any]]
Inputs = Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike] | npt.ArrayLike


class EngineBase:
    """A Paddle model as a function that any number of threads may call.

    Parameters
    ----------
    path
        A directory, a file stem or a file of a model: ``*.json`` or ``*.pdmodel`` with ``*.pdiparams``,
        ``__model__`` with its parameters, or a Paddle Serving directory.
    config
        All options, grouped; instead of keywords.
    **options
        The fields of ``RuntimeOptions``, ``BatchingOptions`` and ``EngineConfig``.

    Raises
    ------
    ConfigError
        An option is unknown, out of range, or cannot be had from the installed Paddle.
    ModelLoadError
        The path is not a model, or Paddle cannot load it.
    """

    def __init__(
        self, path: str | os.PathLike[str], config: EngineConfig | None = None, **options: Any
    ) -> None:
        config = _one_config(config, options)
        spec = load_spec(path)
        from paddleinfer import runtime

        prepared = runtime.prepare(spec, config.runtime)
        self._open(spec, config, prepared.settings, inline=prepared.inline, start=prepared.start)

    @classmethod
    def from_callable(
        cls,
        fn: Callable[[Results], Any],
        inputs: Mapping[str, tuple[str, Sequence[int]]],
        outputs: Sequence[str] | Mapping[str, tuple[str, Sequence[int]]],
        *,
        config: EngineConfig | None = None,
        **options: Any,
    ) -> Self:
        """An engine over any Python function, with the same semantics.

        Parameters
        ----------
        fn
            Gets a dict of arrays of its own (name -> array) and gives a dict of arrays, a list in the order
            of `outputs`, or one array for one output. It is called on the instance threads, by
            ``instances`` of them at once (default: one).
        inputs
            Name -> (dtype, shape), -1 for a free dimension.
        outputs
            Names, or name -> (dtype, shape) to have them checked.

        Raises
        ------
        ConfigError
            A description is not understood, or an option acts on Paddle only.
        """
        config = _one_config(config, options)
        spec = callables.spec_of(fn, inputs, outputs)
        settings = Settings()
        count = callables.instances(config, settings)
        engine = cls.__new__(cls)

        def start(core: _ext.Core) -> None:
            core.start_python(callables.opener(fn, spec), count)

        engine._open(spec, config, settings, inline=False, start=start)
        return engine

    def _open(
        self,
        spec: ModelSpec,
        config: EngineConfig,
        settings: Settings,
        *,
        inline: bool,
        start: Callable[[_ext.Core], None],
    ) -> None:
        self._spec = spec
        self._config = config
        self._settings = settings
        rows_follow_batch = _rows_follow_batch(spec, config, settings)
        self._report_engine_options()
        self._converter = converter = Converter(
            spec.inputs, rows_follow_batch=rows_follow_batch, strict_dtypes=config.strict_dtypes
        )
        pads = config.batching.pad
        self._padding = Padding(pads, spec.inputs, spec.outputs, converter) if pads else None
        places = {tensor.name: place for place, tensor in enumerate(spec.outputs)}
        places.update({t.alias: place for place, t in enumerate(spec.outputs) if t.alias is not None})
        self._default_timeout = config.default_timeout
        label = f"Engine({str(spec.path)!r})"
        self._core = _ext.Core(
            label=label,
            inputs=[(tensor.name, tensor.dtype, tensor.shape) for tensor in spec.inputs],
            outputs=[tensor.name for tensor in spec.outputs],
            output_places=places,
            rows_follow_batch=rows_follow_batch,
            inline=inline,
            policy=config.batching.policy,
            max_batch_size=config.batching.most_rows,
            preferred_batch_sizes=config.batching.preferred_batch_sizes,
            allowed_batch_sizes=config.batching.allowed_batch_sizes if rows_follow_batch else (),
            max_queue_rows=config.batching.max_queue_rows,
            max_queue_bytes=config.batching.max_queue_bytes,
            max_hold_us=config.batching.max_queue_delay_us,
            wait_when_full=config.batching.on_full == "wait",
            merging=_merging(rows_follow_batch, config),
            on_merging=functools.partial(_note_merging, label, settings),
            normalise=converter,
            explain=useful_line,
            main_thread=threading.main_thread().ident or 0,
        )
        lifecycle.register(self._core)
        self._completions_lock = threading.Lock()
        self._completions: threading.Thread | None = None
        try:
            start(self._core)
        except BaseException:
            self._core.close(False, 1.0)
            raise
        _log.debug("%r is open", self)
        if config.warmup:
            self._warm_at_start()

    def _warm_at_start(self) -> None:
        try:
            warmup(self, None, None)
        except BaseException as error:
            self._core.close(False, 1.0)
            if isinstance(error, InvalidInput):
                raise ConfigError(f"warmup=True cannot be had: {error}") from None
            raise

    def _report_engine_options(self) -> None:
        defaults = EngineConfig().flat()
        own = [name for name, group in option_names().items() if group != "runtime" and name != "batchable"]
        for name in own:
            value = self._config.flat()[name]
            self._settings.put(name, value, "default" if value == defaults[name] else "option")

    def _start_completions(self) -> None:
        if self._completions is not None or self._core.closed or self._core.forked:
            return
        with self._completions_lock:
            if self._completions is None:
                thread = threading.Thread(
                    target=deliver, args=(self._core,), name="paddleinfer-completions", daemon=True
                )
                thread.start()
                self._completions = thread

    # Looking

    @property
    def model(self) -> ModelSpec:
        """The model as its files describe it."""
        return self._spec

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in order."""
        return self._spec.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in order."""
        return self._spec.outputs

    @property
    def closed(self) -> bool:
        """Whether close() was called, or the engine belongs to a process that this one was forked from."""
        return self._core.closed or self._core.forked

    def stats(self) -> dict[str, Any]:
        """Counters since the engine began, and what is queued and running now. Durations in nanoseconds.

        ``requests`` and ``rows`` count what was accepted; it ends as ``results``, ``errors``, ``cancelled``,
        ``expired`` or ``closed``; ``refused`` never was. ``executions`` counts runs of the model,
        ``executed_rows`` their rows, ``batch_rows`` how many runs had how many rows; the few runs that find
        out whether rows may share one are left out. ``queue_ns`` is the sum over requests, ``result_ns``
        (arrival to result) over those with a result, ``gather_ns``, ``run_ns`` and ``scatter_ns`` over runs.
        """
        return {**self._core.stats(), "generation": 1}

    def effective_config(self) -> dict[str, dict[str, Any]]:
        """What is in force: option -> {"value", "source", and a "note" where there is something to know}.

        ``source`` is "default", "option", "auto" (decided here, the note says why), "paddle" (its own
        default), "model" (its file says so), "measured" (found out by running it) or "environment".
        """
        self._core.pass_on_news()
        return self._settings.as_dict()

    def __repr__(self) -> str:
        state = "forked" if self._core.forked else "closed" if self._core.closed else "open"
        inputs = ", ".join(tensor.name for tensor in self._spec.inputs)
        outputs = ", ".join(tensor.name for tensor in self._spec.outputs)
        instances = self._settings["instances"].value
        return f"<Engine {str(self._spec.path)!r}: {inputs} -> {outputs}, instances={instances}, {state}>"

    # Ending

    def close(self, drain: bool = True, timeout: float | None = 30.0) -> None:
        """Ends the engine; later calls raise EngineClosed. Calling it again does nothing.

        Parameters
        ----------
        drain
            Let accepted requests end; False ends those that have not started with EngineClosed.
        timeout
            Seconds to wait for what runs; past them its callers get EngineClosed, and the run is left to
            itself with its memory. None waits for ever.
        """
        check_timeout("timeout", timeout)
        if not isinstance(drain, bool):
            raise ConfigError(f"drain must be True or False, not {drain!r}")
        if self._core.forked:
            return
        end = None if timeout is None else time.monotonic() + min(timeout, threading.TIMEOUT_MAX / 2)
        abandoned, ended = self._core.close(drain, timeout)
        if ended:
            _log.warning("%r: %d requests were ended unserved", self, ended)
        if abandoned:
            _log.warning(
                "%r: %d instances were still running when the time was up; they are left to themselves",
                self,
                abandoned,
            )
        thread = self._completions
        if thread is not None and thread is not threading.current_thread():
            thread.join(None if end is None else max(0.0, end - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        core = getattr(self, "_core", None)
        if core is not None:
            lifecycle.reap(core)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Engine cannot be pickled: it holds threads and native predictors; pass its path and options "
            "and create one in the other process"
        )


def _one_config(config: EngineConfig | None, options: Mapping[str, Any]) -> EngineConfig:
    if config is None:
        return EngineConfig.from_options(options)
    if options:
        raise ConfigError(f"give options as keywords or as config=, not both: {', '.join(options)}")
    if not isinstance(config, EngineConfig):
        raise ConfigError(f"config must be an EngineConfig, not {config!r}")
    return config


def _merging(rows_follow_batch: bool, config: EngineConfig) -> str:
    if not rows_follow_batch:
        return "no"
    return "yes" if config.batching.batchable is True else "probe"


def _note_merging(label: str, settings: Settings, merges: bool, reason: str) -> None:
    """Called once it has turned out whether requests may share a run."""
    if merges:
        settings.put("batchable", "yes", "measured", "rows are in a batch what they are alone")
        return
    settings.put("batchable", "no", "measured", reason)
    _log.warning("%s runs each request by itself, for its rows cannot share a run: %s", label, reason)


def _rows_follow_batch(spec: ModelSpec, config: EngineConfig, settings: Settings) -> bool:
    wanted = config.batching.batchable
    if wanted is True and spec.batchable == "no":
        raise ConfigError(f"batchable=True, but {spec.batchable_reason}")
    if wanted == "auto":
        settings.put("batchable", spec.batchable, "model", spec.batchable_reason)
        return spec.batchable != "no"
    settings.put("batchable", "yes" if wanted else "no", "option")
    return bool(wanted)
