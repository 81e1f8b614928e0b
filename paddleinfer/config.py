"""Every option of an engine: its type, its default, its limits.

The command line, the environment and TOML files derive from these dataclasses; all validation
stands here, one sentence per failure.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from paddleinfer.errors import ConfigError

__all__ = ["BatchingOptions", "EngineConfig", "PadAxis", "RuntimeOptions"]

Precision = Literal["float32", "bfloat16", "float16", "int8"]
Driver = Literal["auto", "native", "python"]
OnFull = Literal["raise", "wait"]
Policy = Literal["adaptive", "eager", "fixed_delay"]

_PRECISIONS = ("float32", "bfloat16", "float16", "int8")
_DRIVERS = ("auto", "native", "python")
_POLICIES = ("adaptive", "eager", "fixed_delay")
_DEVICE = re.compile(r"cpu|gpu(:\d+)?")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, not {value!r}")


def _check_switch(name: str, value: object) -> None:
    if value != "auto" and not isinstance(value, bool):
        raise ConfigError(f'{name} must be "auto", True or False, not {value!r}')


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be an integer from {low} to {high}, not {value!r}")


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        listed = ", ".join(f'"{choice}"' for choice in choices)
        raise ConfigError(f"{name} must be one of {listed}, not {value!r}")


def _checked_sizes(name: str, value: object, most: int) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, (list, tuple)) else None
    if sizes is None or not all(isinstance(size, int) and 1 <= size <= most for size in sizes):
        raise ConfigError(f"{name} must be a list of integers from 1 to {most}, not {value!r}")
    if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
        raise ConfigError(f"{name} must rise, and {value!r} does not")
    return sizes


def check_timeout(name: str, value: object) -> None:
    """A timeout is None or a finite number of seconds that is not negative."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ConfigError(f"{name} must be None or a number of seconds, not {value!r}")
    if (
        not 0 <= cast("float", value) < 2**1000
    ):  # also without a float's range, and false for NaN and infinity
        raise ConfigError(f"{name} must be a finite number of seconds >= 0, not {value!r}")


@dataclass(frozen=True)
class RuntimeOptions:
    """What Paddle is told, and how its predictors are driven."""

    ir_optim: bool = False
    """Paddle's graph passes. On a ``.json`` model Paddle runs passes either way."""
    mem_optim: bool = True
    """Let Paddle reuse the memory of intermediate tensors."""
    device: str | tuple[str, ...] = "cpu"
    """"cpu", "gpu:0", or several of one kind, over which the instances are spread."""
    instances: int | Literal["auto"] = "auto"
    """Predictors that run at the same time, each on a thread of its own."""
    cpu_threads: int = 1
    """Threads of Paddle's math library inside one instance."""
    onednn: bool | Literal["auto"] = "auto"
    """oneDNN kernels; "auto" is the installed Paddle's own default."""
    max_onednn_shapes: int = 128
    """Distinct input shapes after which oneDNN's kernel cache is cleared."""
    precision: Precision = "float32"
    """"bfloat16" needs oneDNN on the CPU; "float16" and "int8" need TensorRT on a GPU."""
    gpu_memory_mb: int = 100
    """Megabytes Paddle reserves at first on each GPU."""
    eager_deletion: bool = False
    """Paddle's helper thread that frees intermediate tensors during a run."""
    malloc_tuning: bool = False
    """Keep freed memory in the process instead of giving it back to the kernel (glibc)."""
    mkl_amd: bool | Literal["auto"] = "auto"
    """Let MKL take its AVX2 path on AMD processors."""
    share_weights: bool = True
    """Let the instances of a ``.json`` model use one copy of the weights."""
    driver: Driver = "auto"
    """"native" runs Paddle's C++ predictor without the GIL, "python" calls Paddle's ``run()``."""
    inline: bool = True
    """Let a lone caller without a deadline run the model on its own thread."""
    paddle_log: bool = False
    """Let Paddle write its log lines to standard error while it loads."""

    def __post_init__(self) -> None:
        for name in ("ir_optim", "mem_optim", "eager_deletion", "malloc_tuning", "share_weights"):
            _check_bool(name, getattr(self, name))
        for name in ("inline", "paddle_log"):
            _check_bool(name, getattr(self, name))
        for name in ("onednn", "mkl_amd"):
            _check_switch(name, getattr(self, name))
        if self.instances != "auto":
            _check_int("instances", self.instances, 1, 1024)
        _check_int("cpu_threads", self.cpu_threads, 1, 1024)
        _check_int("max_onednn_shapes", self.max_onednn_shapes, 1, 1 << 20)
        _check_int("gpu_memory_mb", self.gpu_memory_mb, 1, 1 << 24)
        _check_choice("precision", self.precision, _PRECISIONS)
        _check_choice("driver", self.driver, _DRIVERS)
        object.__setattr__(self, "device", _checked_device(self.device))

    def source(self, name: str) -> str:
        """Who decided this option: "default" or "option"."""
        return "default" if getattr(self, name) == getattr(RuntimeOptions, name) else "option"

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices as a tuple, also when one was given."""
        return (self.device,) if isinstance(self.device, str) else self.device


def _checked_device(value: object) -> str | tuple[str, ...]:
    several = isinstance(value, (list, tuple))
    devices: list[object] = list(value) if isinstance(value, (list, tuple)) else [value]
    named = [device for device in devices if isinstance(device, str) and _DEVICE.fullmatch(device)]
    if not devices or len(named) != len(devices):
        raise ConfigError(f'device must be "cpu", "gpu:0", or a list of such names, not {value!r}')
    full = tuple("gpu:0" if device == "gpu" else device for device in named)
    if len(set(full)) != len(full):
        raise ConfigError(f"device names a device twice: {value!r}")
    if several and "cpu" in full and len(full) > 1:
        raise ConfigError(f"device cannot mix the CPU with GPUs in one engine: {value!r}")
    return full if several else full[0]


@dataclass(frozen=True)
class PadAxis:
    """An axis, shared by some inputs, that is padded so that requests of different lengths share batches.

    Raises
    ------
    ConfigError
        A field is out of range; the sentence says what would be right.
    """

    inputs: Mapping[str, int]
    """Input -> its axis, 1 or more."""
    outputs: Mapping[str, int] = field(default_factory=dict)
    """Output -> its axis that is as long; the result is cropped there."""
    sizes: tuple[int, ...] = ()
    """Rising lengths; a request is padded to the next. One longer than all is left as it is."""
    multiple: int = 1
    """Instead of sizes: padded to the next multiple."""
    fill: Mapping[str, float] = field(default_factory=dict)
    """Input -> the value of its padding; 0 where not given."""
    max_waste: float = 1.0
    """A request of which more than this share would be padding is left as it is."""
    mask: str | None = None
    """An input of shape (rows, length) that is 1 where data is and 0 where padding is; made if not given."""
    lengths: str | None = None
    """An input that holds each row's length; made if the caller does not give it."""

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs"):
            axes = getattr(self, name)
            fits = isinstance(axes, Mapping) and all(
                isinstance(tensor, str) and isinstance(axis, int) and axis >= 1
                for tensor, axis in axes.items()
            )
            if not fits or (name == "inputs" and not axes):
                raise ConfigError(f"{name} of PadAxis must map tensor names to axes from 1 up, not {axes!r}")
        object.__setattr__(self, "sizes", _checked_sizes("sizes of PadAxis", self.sizes, 1 << 31))
        _check_int("multiple of PadAxis", self.multiple, 1, 1 << 31)
        if bool(self.sizes) == (self.multiple > 1):
            raise ConfigError("PadAxis needs sizes, or a multiple above 1, and not both")
        if not isinstance(self.fill, Mapping):
            raise ConfigError(f"fill of PadAxis must map input names to values, not {self.fill!r}")
        if not isinstance(self.max_waste, (int, float)) or not 0 <= self.max_waste <= 1:
            raise ConfigError(f"max_waste of PadAxis must be from 0 to 1, not {self.max_waste!r}")


@dataclass(frozen=True)
class BatchingOptions:
    """How requests are queued and merged."""

    batchable: bool | Literal["auto"] = "auto"
    """Whether axis 0 of every input and output is the batch; "auto" asks the model's file, then the model."""
    max_batch_size: int = 32
    """Rows that run together at most; a request of more runs in parts."""
    policy: Policy = "adaptive"
    """"adaptive" goes by what is measured; "eager" takes what waits; "fixed_delay" waits for a full batch."""
    preferred_batch_sizes: tuple[int, ...] = ()
    """Rising sizes at which a batch counts as full."""
    allowed_batch_sizes: tuple[int, ...] = ()
    """Rising sizes that the model may see; a batch is padded to the next. Empty: any."""
    pad: tuple[PadAxis, ...] = ()
    """Axes that are padded, so that requests of different lengths share batches."""
    max_queue_delay_us: int | None = None
    """Microseconds that a request may be held back for company; None: while it is predicted to pay."""
    max_queue_rows: int = 4096
    """Rows that may wait at once."""
    max_queue_bytes: int = 256 << 20
    """Bytes of input that may wait at once."""
    on_full: OnFull = "raise"
    """When the queue is full: "raise" QueueFull, or "wait" for room."""

    def __post_init__(self) -> None:
        _check_switch("batchable", self.batchable)
        _check_int("max_batch_size", self.max_batch_size, 1, 1 << 20)
        _check_choice("policy", self.policy, _POLICIES)
        preferred = _checked_sizes("preferred_batch_sizes", self.preferred_batch_sizes, self.max_batch_size)
        object.__setattr__(self, "preferred_batch_sizes", preferred)
        allowed = _checked_sizes("allowed_batch_sizes", self.allowed_batch_sizes, self.max_batch_size)
        object.__setattr__(self, "allowed_batch_sizes", allowed)
        pads = (self.pad,) if isinstance(self.pad, PadAxis) else self.pad
        if not isinstance(pads, (list, tuple)) or not all(isinstance(pad, PadAxis) for pad in pads):
            raise ConfigError(f"pad must be a PadAxis or a list of them, not {self.pad!r}")
        object.__setattr__(self, "pad", tuple(pads))
        if self.policy == "fixed_delay" and self.max_queue_delay_us is None:
            raise ConfigError('policy="fixed_delay" needs max_queue_delay_us, the delay in microseconds')
        if self.policy == "eager" and self.max_queue_delay_us is not None:
            raise ConfigError('max_queue_delay_us has no effect with policy="eager", which never waits')
        if self.max_queue_delay_us is not None:
            _check_int("max_queue_delay_us", self.max_queue_delay_us, 0, 1 << 40)
        _check_choice("on_full", self.on_full, ("raise", "wait"))
        _check_int("max_queue_rows", self.max_queue_rows, 1, 1 << 40)
        _check_int("max_queue_bytes", self.max_queue_bytes, 1, 1 << 50)

    @property
    def most_rows(self) -> int:
        """Rows that run together at most: ``max_batch_size``, or the largest allowed size."""
        return self.allowed_batch_sizes[-1] if self.allowed_batch_sizes else self.max_batch_size


@dataclass(frozen=True)
class EngineConfig:
    """All options of an engine, grouped.

    Raises
    ------
    ConfigError
        An option is out of range; the sentence says what would be right.
    """

    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    batching: BatchingOptions = field(default_factory=BatchingOptions)
    strict_dtypes: bool = False
    """Refuse every conversion of an input's dtype."""
    warmup: bool = False
    """Run every batch size on every instance before the engine is ready."""
    default_timeout: float | None = None
    """Seconds from submission to result for calls that give no ``timeout``; None waits."""
    max_memory_bytes: int | None = None
    """Bytes that this process may have in memory once a model is loaded, by estimate; None: any number."""
    trace_requests: int = 4096
    """Requests, and runs, of late that are remembered for ``Engine.diagnose``; 0 records nothing at all."""

    def __post_init__(self) -> None:
        if not isinstance(self.runtime, RuntimeOptions):
            raise ConfigError(f"runtime must be RuntimeOptions, not {self.runtime!r}")
        if not isinstance(self.batching, BatchingOptions):
            raise ConfigError(f"batching must be BatchingOptions, not {self.batching!r}")
        _check_bool("strict_dtypes", self.strict_dtypes)
        _check_bool("warmup", self.warmup)
        check_timeout("default_timeout", self.default_timeout)
        if self.max_memory_bytes is not None:
            _check_int("max_memory_bytes", self.max_memory_bytes, 1, 1 << 50)
        _check_int("trace_requests", self.trace_requests, 0, 10_000_000)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> EngineConfig:
        """The flat keywords of ``Engine(path, **options)``, sorted into their groups."""
        groups: dict[str, dict[str, Any]] = {"runtime": {}, "batching": {}, "engine": {}}
        places = option_names()
        for name, value in options.items():
            if name not in places:
                close = difflib.get_close_matches(name, places, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ConfigError(f"there is no option {name!r}{hint}")
            groups[places[name]][name] = value
        return cls(
            runtime=RuntimeOptions(**groups["runtime"]),
            batching=BatchingOptions(**groups["batching"]),
            **groups["engine"],
        )

    def flat(self) -> dict[str, Any]:
        """Option name -> value, over all groups."""
        own = {name: getattr(self, name) for name, group in option_names().items() if group == "engine"}
        return {
            **{f.name: getattr(self.runtime, f.name) for f in dataclasses.fields(self.runtime)},
            **{f.name: getattr(self.batching, f.name) for f in dataclasses.fields(self.batching)},
            **own,
        }


def option_names() -> dict[str, str]:
    """Option name -> "runtime", "batching" or "engine"."""
    names = {f.name: "runtime" for f in dataclasses.fields(RuntimeOptions)}
    names.update({f.name: "batching" for f in dataclasses.fields(BatchingOptions)})
    own = (f.name for f in dataclasses.fields(EngineConfig) if f.name not in ("runtime", "batching"))
    names.update(dict.fromkeys(own, "engine"))
    return names
