"""One load of an engine's model: its instances, its queue, and what is in force for them."""

from __future__ import annotations

import functools
import logging
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from paddleinfer import _ext, lifecycle
from paddleinfer.config import EngineConfig, option_names
from paddleinfer.conversion import Converter
from paddleinfer.errors import ConfigError, InvalidInput, ModelLoadError, PaddleInferError
from paddleinfer.futures import deliver
from paddleinfer.model import ModelSpec
from paddleinfer.padding import Padding
from paddleinfer.paddle_errors import useful_line
from paddleinfer.processors import resident_memory_bytes
from paddleinfer.settings import Settings
from paddleinfer.warmup import WarmedSize, warmup

__all__ = ["Generation", "Loadable", "ReloadReport"]

_log = logging.getLogger("paddleinfer")

# For what never came into service: nothing but a warm-up can be running.
_DISCARD_TIMEOUT_S = 10.0


class Loadable(Protocol):
    """A model that is ready to be started on a core."""

    @property
    def spec(self) -> ModelSpec:
        """Its tensors."""

    @property
    def settings(self) -> Settings:
        """What is in force for it."""

    @property
    def inline(self) -> bool:
        """Whether a caller's thread may run it."""

    @property
    def memory_bytes(self) -> int:
        """What it is estimated to need once it is loaded."""

    def start(self, core: _ext.Core) -> None:
        """Makes the instances."""


@dataclass(frozen=True)
class ReloadReport:
    """What ``Engine.reload`` did."""

    generation: int
    """The number of the model that is now in service; the one the engine began with is 1."""
    path: str
    """Where it came from."""
    load_ms: float
    """Milliseconds to load it and warm it up."""
    drained: bool
    """Whether all requests that the model before had accepted ended by themselves, in time."""


class Generation:
    """What one load made. A request belongs to one generation with all its parts.

    Parameters
    ----------
    number
        1 for the engine's first.
    model
        Starts nothing before ``open``.
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
        self.settings = settings = model.settings
        self.label = f"Engine({str(spec.path)!r})"
        batching = config.batching
        rows_follow_batch = _rows_follow_batch(spec, config, settings)
        _report_engine_options(config, settings)
        _check_memory(model, config)
        self.converter = Converter(
            spec.inputs, rows_follow_batch=rows_follow_batch, strict_dtypes=config.strict_dtypes
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
            policy=batching.policy,
            max_batch_size=batching.most_rows,
            preferred_batch_sizes=batching.preferred_batch_sizes,
            allowed_batch_sizes=batching.allowed_batch_sizes if rows_follow_batch else (),
            max_queue_rows=batching.max_queue_rows,
            max_queue_bytes=batching.max_queue_bytes,
            max_hold_us=batching.max_queue_delay_us,
            wait_when_full=batching.on_full == "wait",
            merging=_merging(rows_follow_batch, config),
            on_merging=functools.partial(_note_merging, self.label, settings),
            normalise=self.converter,
            explain=useful_line,
            trace=ring,
            main_thread=threading.main_thread().ident or 0,
        )
        lifecycle.register(self.core)
        self.warmed: list[WarmedSize] = []
        """What its warm-ups have measured; the last of a size counts."""
        self._completions_lock = threading.Lock()
        self.completions: threading.Thread | None = None

    def open(self, model: Loadable) -> None:
        """Makes the instances and warms them up where the options say so. To be discarded if that fails."""
        model.start(self.core)
        if not self.config.warmup:
            return
        try:
            warmup(self, None, None)
        except InvalidInput as error:
            raise ConfigError(f"warmup=True cannot be had: {error}") from None

    def discard(self) -> None:
        """Ends what never came into service."""
        self.core.close(False, _DISCARD_TIMEOUT_S)

    def start_completions(self) -> None:
        """Has submitted futures told of their ends, from the first on."""
        if self.completions is not None or self.core.closed or self.core.forked:
            return
        with self._completions_lock:
            if self.completions is None:
                thread = threading.Thread(
                    target=deliver, args=(self.core,), name="paddleinfer-completions", daemon=True
                )
                thread.start()
                self.completions = thread

    def close(self, drain: bool, timeout: float | None) -> bool:
        """Ends it within `timeout` seconds; whether nothing was ended unserved or left running."""
        end = None if timeout is None else time.monotonic() + timeout
        abandoned, ended = self.core.close(drain, timeout)
        if ended:
            _log.warning("%s: %d requests were ended unserved", self.label, ended)
        if abandoned:
            _log.warning(
                "%s: %d instances were still running when the time was up; they are left to themselves",
                self.label,
                abandoned,
            )
        thread = self.completions
        if thread is not None and thread is not threading.current_thread():
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not ended and not abandoned

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


def _report_engine_options(config: EngineConfig, settings: Settings) -> None:
    values, defaults = config.flat(), EngineConfig().flat()
    for name, group in option_names().items():
        if group != "runtime" and name != "batchable":
            value = values[name]
            settings.put(name, value, "default" if value == defaults[name] else "option")


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
    model.settings.put("max_memory_bytes", limit, "option", note)


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
