"""Defines one load of an engine's model: its instances, its queue, and the options in force for them."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from paddleinfer import _ext
from paddleinfer.backends.onnx.proofs import Reference
from paddleinfer.backends.paddle.empty_inputs import EmptyInputs
from paddleinfer.backends.processors import resident_memory_bytes, usable_cores
from paddleinfer.config import EngineConfig, RuntimeOptions
from paddleinfer.engine import greenlets, lifecycle
from paddleinfer.engine.agreement import check_agreement
from paddleinfer.engine.beside_loop import BesideLoop
from paddleinfer.engine.conversion import Converter
from paddleinfer.engine.example_rows import ExampleShapes
from paddleinfer.engine.futures import deliver
from paddleinfer.engine.greenlets import GreenCompletions
from paddleinfer.engine.load_check import check_runs
from paddleinfer.engine.padding import Padding
from paddleinfer.engine.warmup import WarmedSize, WarmupReport, warmup
from paddleinfer.errors import (
    ConfigError,
    InvalidInput,
    ModelLoadError,
    PaddleInferError,
    ThreadStartError,
)
from paddleinfer.models.reader import Batchable, ModelFormat, ModelSpec
from paddleinfer.resolved_options import ResolvedOptions
from paddleinfer.sentences import shown

__all__ = ["Generation", "Loadable", "ReloadReport"]

_log = logging.getLogger("paddleinfer")

# For a load that never came into service: only a warm-up can be running.
_DISCARD_TIMEOUT_S = 10.0


class Loadable(Protocol):
    """A model, ready to be started on a core."""

    @property
    def spec(self) -> ModelSpec:
        """Its tensors."""

    @property
    def resolved(self) -> ResolvedOptions:
        """The options in force for it."""

    @property
    def inline(self) -> bool:
        """Whether a caller's thread may run it."""

    @property
    def memory_bytes(self) -> int:
        """The memory that it is estimated to need once it is loaded."""

    @property
    def empty_inputs(self) -> EmptyInputs | None:
        """The inputs without elements that would end the process; None if none would."""

    def start(self, core: _ext.Core) -> None:
        """Makes the instances."""

    @property
    def reference(self) -> Reference | None:
        """What its answers are compared with Paddle's by, once it has started; None if Paddle runs it."""

    @property
    def check_shapes(self) -> Callable[[list[tuple[int, ...]]], None] | None:
        """A function that raises InvalidInput for shapes that it cannot run; None if it can run all."""

    def explain(self, failure: str) -> str:
        """Turns the text of a failure into a sentence."""


@dataclass(frozen=True)
class ReloadReport:
    """What ``Engine.reload`` did."""

    generation: int
    """The number of the model that is now in service; the engine's first model has 1."""
    path: str
    """The path that it was loaded from."""
    load_ms: float
    """Milliseconds to load it and warm it up."""
    drained: bool
    """Whether all requests that the previous model had accepted ended by themselves, in time."""


class Generation:
    """What one load made. A request belongs to one generation, with all its parts.

    Parameters
    ----------
    number
        1 for the engine's first.
    model
        The model to load; nothing is started before ``open``.
    config
        The engine's options.

    Raises
    ------
    ConfigError
        An option does not fit the model.
    ModelLoadError
        The model would take more memory than the options allow.
    """

    def __init__(self, number: int, model: Loadable, config: EngineConfig, ring: _ext.TraceRing) -> None:
        self.number = number
        self.config = config
        self.spec = spec = model.spec
        self.resolved = resolved = model.resolved
        self.label = f"Engine({shown(str(spec.path))})"
        self._model = model
        batching = config.batching
        rows_follow_batch = _rows_follow_batch(spec, config, resolved)
        if config.check_load == "process" and spec.format is ModelFormat.CALLABLE:
            resolved.decide("check_load", "here", "auto", "a function is in this process")
        _check_memory(model, config)
        self.converter = Converter(
            spec.inputs,
            rows_follow_batch=rows_follow_batch,
            strict_dtypes=config.strict_dtypes,
            empty_inputs=model.empty_inputs,
        )
        self.padding = (
            Padding(batching.pad, spec.inputs, spec.outputs, self.converter) if batching.pad else None
        )
        places = {tensor.name: place for place, tensor in enumerate(spec.outputs)}
        places.update({t.alias: place for place, t in enumerate(spec.outputs) if t.alias is not None})
        self.core = _ext.Core(
            label=self.label,
            inputs=[(tensor.name, tensor.dtype, tensor.shape) for tensor in spec.inputs],
            outputs=[tensor.name for tensor in spec.outputs],
            output_places=places,
            rows_follow_batch=rows_follow_batch,
            inline=model.inline,
            batching=batching,
            merging=_merging(rows_follow_batch, config),
            on_merging=functools.partial(_note_merging, self.label, resolved),
            normalise=self.converter,
            check_shapes=model.check_shapes,
            explain=model.explain,
            trace=ring,
            main_thread=threading.main_thread().ident or 0,
            cache_bytes=config.cache_bytes,
            short_run_instances=_short_run_instances(config.runtime),
        )
        lifecycle.register(self.core)
        self.beside_loop = BesideLoop(self.label)
        self.examples = ExampleShapes(spec, config, resolved)
        self.warmed: list[WarmedSize] = []
        """What its warm-ups have measured; the last of a size counts."""
        self._completions_lock = threading.Lock()
        self.completions: threading.Thread | GreenCompletions | None = None
        self.green = greenlets.are_in_use()
        """Tells whether its callers are greenlets, which must not wait natively."""

    def open(self, model: Loadable) -> None:
        """Makes the instances, and checks and warms them up if the options say so.

        If this fails, the generation must be discarded.
        """
        model.start(self.core)
        check_runs(self)
        check_agreement(self, model.reference)
        if not self.config.warmup:
            return
        try:
            self.warmup(None, None)
        except InvalidInput as error:
            raise ConfigError(f"warmup=True is not possible here: {error}") from None

    def warmup(self, inputs: Any, batch_sizes: Sequence[int] | None) -> WarmupReport:
        """See ``Engine.warmup``."""
        return warmup(self, inputs, batch_sizes, self.warmed.append)

    def discard(self) -> None:
        """Ends a generation that never came into service."""
        self.core.close(False, _DISCARD_TIMEOUT_S)

    def start_completions(self) -> None:
        """Starts the completion thread, which settles futures, at the first ``submit``."""
        if self.completions is not None or self.core.closed or self.core.forked:
            return
        with self._completions_lock:
            if self.completions is None and self.green:
                self.completions = GreenCompletions(self.core)
            elif self.completions is None:
                thread = threading.Thread(
                    target=deliver, args=(self.core,), name="paddleinfer-completions", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:
                    raise ThreadStartError.of(f"the futures of {self.label}", error) from None
                self.completions = thread

    def close(self, drain: bool, timeout: float | None) -> bool:
        """Ends it within `timeout` seconds; tells whether all was served and nothing left running."""
        end = None if timeout is None else time.monotonic() + timeout
        if self.green:
            abandoned, ended = greenlets.on_a_real_thread(self.core.close, drain, timeout)
        else:
            abandoned, ended = self.core.close(drain, timeout)
        if ended:
            _log.warning("%s: %d requests were ended unserved", self.label, ended)
        if abandoned:
            _log.warning(
                "%s: %d instances were still running when the time was up; they are left to themselves",
                self.label,
                abandoned,
            )
        self.beside_loop.close()
        thread = self.completions
        if thread is not None and thread is not threading.current_thread():
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not ended and not abandoned

    @property
    def memory_bytes(self) -> int:
        """See ``Engine.memory_bytes``."""
        return self._model.memory_bytes

    def check_process(self) -> None:
        """Raises EngineClosed in a forked child, where a lock may be held for good."""
        if self.core.forked:
            self.core.stats()

    def check_thread(self, action: str) -> None:
        """Raises PaddleInferError on an instance's own thread."""
        if self.core.on_instance_thread:
            raise PaddleInferError(
                f"{self.label} was {action} from inside its own model, where it would wait for itself"
            )

    def __del__(self) -> None:
        core = getattr(self, "core", None)
        if core is not None:
            lifecycle.reap(core)


def _check_memory(model: Loadable, config: EngineConfig) -> None:
    limit = config.max_memory_bytes
    if limit is None:
        return
    resident, needed = resident_memory_bytes(), model.memory_bytes
    if resident + needed > limit:
        raise ModelLoadError(
            f"loading {model.spec.path} needs an estimated {needed} bytes beside the {resident} that this "
            f"process has in memory, and max_memory_bytes allows {limit} in all"
        )
    note = f"{resident} bytes were in memory before the load, and the model was estimated at {needed}"
    model.resolved.note("max_memory_bytes", note)


# More than there are of anything.
_ANY_NUMBER = 1 << 30


def _short_run_instances(options: RuntimeOptions) -> int:
    """Returns how many instances short runs may keep busy: so many that a core is left to those who ask."""
    if "cpu" not in options.devices:
        return _ANY_NUMBER
    return max(1, usable_cores() // options.cpu_threads - 1)


def _merging(rows_follow_batch: bool, config: EngineConfig) -> str:
    if not rows_follow_batch:
        return "no"
    return "yes" if config.batching.batchable is True else "probe"


def _note_merging(label: str, resolved: ResolvedOptions, merges: bool, reason: str) -> None:
    """Records whether requests may share a run, once that is known."""
    if merges:
        resolved.decide("batchable", Batchable.YES, "measured", "rows are in a batch what they are alone")
        return
    resolved.decide("batchable", Batchable.NO, "measured", reason)
    _log.warning("%s runs each request by itself, for its rows cannot share a run: %s", label, reason)


def _rows_follow_batch(spec: ModelSpec, config: EngineConfig, resolved: ResolvedOptions) -> bool:
    wanted = config.batching.batchable
    if wanted is True and spec.batchable is Batchable.NO and not spec.operators_forbid:
        raise ConfigError(f"batchable=True, but {spec.batchable_reason}")
    if wanted == "auto":
        resolved.decide("batchable", spec.batchable, "model", spec.batchable_reason)
        return spec.batchable is not Batchable.NO
    note = ""
    if wanted and spec.operators_forbid:
        note = f"against the model: {spec.batchable_reason}"
        _log.warning(
            "Engine(%r): batchable=True merges requests, but %s", str(spec.path), spec.batchable_reason
        )
    resolved.decide("batchable", Batchable.YES if wanted else Batchable.NO, "option", note)
    return bool(wanted)
