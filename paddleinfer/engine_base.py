"""How an engine opens, changes its model, what it says of itself, and how it ends."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy.typing as npt

from paddleinfer import _ext, callables
from paddleinfer.accounts import Accounts
from paddleinfer.config import EngineConfig, check_timeout
from paddleinfer.diagnosis import Diagnosis, diagnose
from paddleinfer.errors import ConfigError, EngineClosed, PaddleInferError
from paddleinfer.generation import Generation, Loadable, ReloadReport
from paddleinfer.model import ModelSpec, TensorSpec, load_spec
from paddleinfer.model_replacement import check_replacement
from paddleinfer.processors import usable_cores
from paddleinfer.timeline import Activity
from paddleinfer.trace import Trace, Tracing

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EngineBase", "Inputs", "Results"]

_log = logging.getLogger("paddleinfer")

Results = dict[str, npt.NDArray[Any]]
Inputs = Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike] | npt.ArrayLike
Prepare = Callable[[Any], Loadable]


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
        self._open(functools.partial(_prepared, config), path, config)

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
        engine = cls.__new__(cls)
        engine._open(functools.partial(_prepared_function, fn, spec, config), None, config)
        return engine

    def _open(self, prepare: Prepare, path: str | os.PathLike[str] | None, config: EngineConfig) -> None:
        model = prepare(path)
        ring = _ext.TraceRing(config.trace_requests)
        generation = Generation(1, model, config, ring)
        try:
            generation.open(model)
        except BaseException:
            generation.discard()
            raise
        self._prepare = prepare
        self._config = config
        self._default_timeout = config.default_timeout
        # Read once by each call, which from then on belongs to it.
        self._generation = generation
        self._tracing = Tracing(ring, config.trace_requests)
        self._accounts = Accounts()
        self._accounts.add(generation.core)
        # Loading, present, or not closed yet. Guarded by _changes, which is reentrant for signal handlers.
        self._generations = [generation]
        self._closing = False
        self._changes = threading.RLock()
        self._reloads = threading.Lock()
        self._reloading_thread: int | None = None
        _log.debug("%r is open", self)

    # Reloading

    def _replace(self, path: str | os.PathLike[str] | None, timeout: float | None) -> ReloadReport:
        """See ``Engine.reload``."""
        check_timeout("timeout", timeout)
        present = self._generation
        present.check_process()
        for generation in list(self._generations):
            generation.check_thread("reloaded")
        if self._reloading_thread == threading.get_ident():
            raise PaddleInferError(f"{present.label} was reloaded from inside its own reload")
        with self._reloads:
            self._reloading_thread = threading.get_ident()
            try:
                began = time.monotonic()
                new = self._load(path)
                load_ms = (time.monotonic() - began) * 1e3
                drained = self._close_superseded(timeout)
            finally:
                self._reloading_thread = None
        return ReloadReport(new.number, str(new.spec.path), load_ms, drained)

    def _load(self, path: str | os.PathLike[str] | None) -> Generation:
        """Loads a model and puts it into service; on failure the present one stays, and the error says so."""
        present = self._generation
        self._refuse_when_closed(present)
        try:
            if path is None and present.spec.program_path is not None:
                path = present.spec.path
            model = self._prepare(path)
            check_replacement(present.spec, model.spec)
            new = Generation(present.number + 1, model, self._config, self._tracing.ring)
            with self._changes:  # so that close() ends it while it loads
                self._refuse_when_closed(present)
                self._generations.append(new)
            try:
                new.open(model)
                with self._changes:
                    self._refuse_when_closed(present)
                    self._accounts.add(new.core)
                    self._generation = new
            finally:
                if self._generation is not new:
                    new.discard()
                    self._generations.remove(new)
        except Exception as error:
            self._refuse_when_closed(present)
            if isinstance(error, PaddleInferError):
                sentence = f"{error}; the model loaded before stays in service"
                raise type(error)(sentence) from error.__cause__
            raise
        _log.info("%r has generation %d in service", self, new.number)
        return new

    def _close_superseded(self, timeout: float | None) -> bool:
        """Lets what was accepted before end; whether all of it did, in time."""
        present = self._generation
        end = _end_of(timeout)
        drained = True
        # More than one only where Ctrl-C has cut an earlier reload short.
        for generation in [generation for generation in self._generations if generation is not present]:
            drained = generation.close(True, _left(end)) and drained
            with self._changes:
                self._generations.remove(generation)
                self._accounts.part_with(generation.core)
        self._refuse_when_closed(present)
        return drained

    def _refuse_when_closed(self, generation: Generation) -> None:
        if self._closing:
            raise EngineClosed(f"{generation.label} is closed")

    def _has_moved_on(self, generation: Generation, error: EngineClosed) -> bool:
        """Whether a reload has closed the generation before the call was queued: then it is the next one's.

        Its timeout begins anew; what has passed is no more than its inputs took to convert.
        """
        return not error.accepted and generation is not self._generation

    # Looking

    @property
    def model(self) -> ModelSpec:
        """The model as its files describe it."""
        return self._generation.spec

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in order."""
        return self._generation.spec.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in order."""
        return self._generation.spec.outputs

    @property
    def generation(self) -> int:
        """The number of the model in service: 1, and one more after each reload."""
        return self._generation.number

    @property
    def closed(self) -> bool:
        """Whether close() was called, or the engine belongs to a process that this one was forked from."""
        core = self._generation.core
        return core.closed or core.forked

    def stats(self) -> dict[str, Any]:
        """Counters since the engine began, and what is queued and running now. Durations in nanoseconds.

        ``generation`` is the number of the model in service: 1, and one more after each reload. All else is
        of all generations together.

        ``requests`` and ``rows`` count what was accepted; it ends as ``results``, ``errors``, ``cancelled``,
        ``expired`` or ``closed``; ``refused`` never was. ``executions`` counts runs of the model,
        ``executed_rows`` their rows, ``batch_rows`` how many runs had how many rows; the few runs that find
        out whether rows may share one are left out. ``queue_ns`` is the sum over requests, ``result_ns``
        (arrival to result) over those with a result, ``gather_ns``, ``run_ns`` and ``scatter_ns`` over runs.
        """
        present = self._generation
        present.check_process()
        return {"generation": present.number, **self._accounts.stats()}

    def trace(self, max_requests: int = 100_000) -> Trace:
        """Records what the engine does while the ``with`` block runs, also over a reload.

        Parameters
        ----------
        max_requests
            How many requests, and runs, are kept: the last ones. About 200 bytes each.

        Raises
        ------
        ConfigError
            `max_requests` is out of range.
        """
        return Trace(self._tracing, self._generation.label, max_requests)

    def recent_activity(self) -> Activity:
        """The last ``trace_requests`` requests and runs, for ``timeline.chrome_trace``; also when closed."""
        requests, runs = self._tracing.recent()
        ended, _ = self._tracing.ring.recorded()
        return Activity(self._generation.label, requests, runs, max(0, ended - len(requests)))

    def diagnose(
        self,
        outer_us: Mapping[str, Sequence[float]] | None = None,
        binary_us: Mapping[str, float] | None = None,
    ) -> Diagnosis:
        """Where the time of the last ``trace_requests`` requests went, what would help, and by how much.

        Parameters
        ----------
        outer_us
            What happened to the same requests around the engine: "receive", "decode", "encode" or "send" ->
            microseconds of each request.
        binary_us
            Of requests in JSON: what the same stages would take with binary tensors, on average.

        Raises
        ------
        ConfigError
            ``trace_requests`` is 0, so nothing is known.
        """
        if self._config.trace_requests == 0:
            raise ConfigError("trace_requests=0 records nothing; diagnose() needs it to be above 0")
        generation = self._generation
        requests, runs = self._tracing.recent()
        legacy = generation.spec.format == "legacy"
        return diagnose(
            requests,
            runs,
            outer_us or {},
            generation.settings,
            usable_cores(),
            legacy,
            binary_us or {},
            generation.warmed,
        )

    def effective_config(self) -> dict[str, dict[str, Any]]:
        """What is in force: option -> {"value", "source", and a "note" where there is something to know}.

        After a reload it is of the model then in service.

        ``source`` is "default", "option", "auto" (decided here, the note says why), "paddle" (its own
        default), "model" (its file says so), "measured" (found out by running it) or "environment".
        """
        generation = self._generation
        generation.core.pass_on_news()
        return generation.settings.as_dict()

    def __repr__(self) -> str:
        generation = self._generation
        spec, core = generation.spec, generation.core
        state = "forked" if core.forked else "closed" if core.closed else "open"
        inputs = ", ".join(tensor.name for tensor in spec.inputs)
        outputs = ", ".join(tensor.name for tensor in spec.outputs)
        instances = generation.settings["instances"].value
        return f"<Engine {str(spec.path)!r}: {inputs} -> {outputs}, instances={instances}, {state}>"

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
        present = self._generation
        if present.core.forked:
            return
        for generation in list(self._generations):
            generation.check_thread("closed")
        with self._changes:
            self._closing = True
            # The present one first: it is the one that still takes requests.
            generations = sorted(self._generations, key=lambda generation: generation is not self._generation)
        end = _end_of(timeout)
        for generation in generations:
            generation.close(drain, _left(end))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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


def _prepared(config: EngineConfig, path: str | os.PathLike[str]) -> Loadable:
    spec = load_spec(path)
    from paddleinfer import runtime

    return runtime.prepare(spec, config.runtime)


def _prepared_function(
    fn: Callable[[Results], Any], spec: ModelSpec, config: EngineConfig, path: object
) -> Loadable:
    if path is not None:
        raise ConfigError(f"an engine over a function is reloaded without a path, not with {path!r}")
    return callables.prepare(fn, spec, config)


def _end_of(timeout: float | None) -> float | None:
    """The instant `timeout` seconds from now."""
    return None if timeout is None else time.monotonic() + min(timeout, threading.TIMEOUT_MAX / 2)


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())
