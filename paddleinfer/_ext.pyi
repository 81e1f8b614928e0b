"""Types of the compiled core; its docstrings are in ``_ext/binding/``."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

from paddleinfer.config import BatchingOptions
from paddleinfer.engine.futures import InferFuture
from paddleinfer.models.file_states import FileState

Array = npt.NDArray[Any]

DTYPE_NAMES: tuple[str, ...]
NUMPY_DTYPES: Mapping[str, np.dtype[Any]]
MAX_RANK: int
MANY_NUMBERS: int

def interpreter_ends() -> None: ...
def in_forked_child() -> None: ...
def is_out_of_memory(failure: str) -> bool: ...
def onednn_cache_clears() -> int: ...
def mallopt(parameter: int, value: int) -> bool: ...
def trim_malloc() -> None: ...

class UnraisableArgs:
    exc_type: type[BaseException]
    exc_value: BaseException
    exc_traceback: Any
    err_msg: str
    object: None
    def __init__(self, exception: BaseException) -> None: ...

class PaddleLibrary:
    missing: tuple[str, ...]
    empties_onednn_cache: bool
    has_deletion_mode: bool
    def __init__(self, path: str, cpu_place: int) -> None: ...
    def program_file(self, config: int) -> str: ...

@final
class TraceRing:
    def __init__(self, capacity: int) -> None: ...
    def keep(self, capacity: int) -> None: ...
    def recorded(self) -> tuple[int, int]: ...
    def requests_since(self, recorded: int) -> list[tuple[Any, ...]]: ...
    def runs_since(self, recorded: int) -> list[tuple[Any, ...]]: ...

@final
class OneDnnKernels:
    def __init__(self, max_shapes: int, max_bytes: int, by_renewal: bool = False) -> None: ...
    @property
    def by_renewal(self) -> bool: ...
    def figures(self) -> dict[str, int]: ...

@final
class OneDnnPart:
    def __init__(self, library: PaddleLibrary, kernels: OneDnnKernels) -> None: ...
    def before_run(self, shapes: Iterable[tuple[int, ...]]) -> None: ...
    def after_run(self) -> None: ...
    @property
    def is_due_for_renewal(self) -> bool: ...
    def begin_renewal(self) -> None: ...
    def end_renewal(self) -> None: ...
    def close(self) -> None: ...

class BackendUpdates: ...

@final
class SeveralUpdates(BackendUpdates):
    def __init__(self, parts: Iterable[BackendUpdates]) -> None: ...

@final
class FallBack(BackendUpdates):
    def __init__(self, bare_too: bool, on_change: Callable[[str], None]) -> None: ...
    @property
    def in_force(self) -> bool: ...
    def forbid_bare(self) -> None: ...
    def may_try(self, failure: str) -> bool: ...
    def helped(self, failure: str) -> None: ...

@final
class KernelChoice(BackendUpdates):
    def __init__(self, on_change: Callable[[int, str], None]) -> None: ...

@final
class predictor_lock:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

@final
class DeletionScope:
    def __init__(self, library: PaddleLibrary, deletion_gb: float) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

@final
class OneDnnCacheGuard:
    def __init__(self, library: PaddleLibrary) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

@final
class FeedReader:
    def __init__(
        self,
        inputs: Sequence[tuple[str, str, tuple[int, ...] | None]],
        rows_follow_batch: bool,
        normalise: Callable[[object], list[Array]],
    ) -> None: ...

class TooLongForLoop(Exception): ...
class BackendFactory: ...

@final
class PythonBackends(BackendFactory):
    def __init__(
        self,
        open_model: Callable[[int], Callable[[list[Array]], list[Array]]],
        updates: BackendUpdates | None = None,
    ) -> None: ...

@final
class PaddleBackends(BackendFactory):
    def __init__(
        self,
        library: PaddleLibrary,
        config: int,
        inputs: Iterable[str],
        outputs: Iterable[str],
        parameters: Iterable[str],
        *,
        files: Iterable[FileState],
        on_cpu: bool,
        share_weights: bool,
        onednn: bool,
        deletion: tuple[float, float],
        onednn_kernels: OneDnnKernels,
        fall_back: FallBack | None = None,
        kernel_choice: KernelChoice | None = None,
        fall_back_configs: list[Any] | None = None,
        fall_back_addresses: Iterable[int] = (),
    ) -> None: ...
    def weights(self) -> tuple[int, int, str]: ...

@final
class OrtLibrary:
    def __init__(self, path: str) -> None: ...
    @property
    def version(self) -> str: ...
    @property
    def problem(self) -> str: ...

@final
class OrtModel:
    def __init__(self, library: OrtLibrary, path: str, threads: int) -> None: ...
    @property
    def inputs(self) -> list[tuple[str, str, tuple[int, ...]]]: ...
    @property
    def outputs(self) -> list[tuple[str, str, tuple[int, ...]]]: ...

@final
class OrtBackends(BackendFactory):
    def __init__(self, model: OrtModel, inputs: Iterable[str], outputs: Iterable[str]) -> None: ...

@final
class OvLibrary:
    def __init__(self, path: str) -> None: ...
    @property
    def version(self) -> str: ...
    @property
    def problem(self) -> str: ...

@final
class OvModel:
    def __init__(
        self, library: OvLibrary, path: str, instances: int, cpu_threads: int, *, apart: bool
    ) -> None: ...
    @property
    def inputs(self) -> list[tuple[str, str, tuple[int, ...]]]: ...
    @property
    def outputs(self) -> list[tuple[str, str, tuple[int, ...]]]: ...
    def input_index(self, name: str) -> int: ...
    def property(self, name: str) -> str: ...

@final
class OvBackends(BackendFactory):
    def __init__(self, model: OvModel, inputs: Iterable[tuple[str, int]]) -> None: ...

@final
class TakenFeeds: ...

class Core:
    closed: bool
    forked: bool
    on_instance_thread: bool
    def __init__(
        self,
        *,
        label: str,
        inputs: Sequence[tuple[str, str, tuple[int, ...] | None]],
        outputs: Sequence[str],
        output_places: dict[str, int],
        rows_follow_batch: bool,
        inline: bool,
        batching: BatchingOptions,
        merging: str,
        on_merging: Callable[[bool, str], None],
        normalise: Callable[[object], list[Array]],
        check_shapes: Callable[[list[tuple[int, ...]]], None] | None,
        explain: Callable[[str], str],
        trace: TraceRing,
        main_thread: int,
        cache_bytes: int,
        short_run_instances: int,
    ) -> None: ...
    def start_instances(self, factory: BackendFactory, instances: int) -> None: ...
    def infer(
        self,
        feeds: object,
        timeout: float | None,
        outputs: Sequence[str] | None,
        priority: int,
        explained: bool,
    ) -> Any: ...
    def submit(
        self,
        feeds: object,
        timeout: float | None,
        outputs: Sequence[str] | None,
        priority: int,
        future: InferFuture,
    ) -> Handle: ...
    def submit_together(
        self,
        parts: list[dict[str, Array]],
        timeout: float | None,
        outputs: Sequence[str] | None,
        priority: int,
        futures: list[InferFuture],
        waits: bool,
        blocks: bool,
    ) -> None: ...
    def start(
        self, feeds: object, timeout: float | None, outputs: Sequence[str] | None, priority: int
    ) -> Handle: ...
    def ainfer(
        self, feeds: object, timeout: float | None, outputs: Sequence[str] | None, priority: int, called: int
    ) -> AsyncCall: ...
    def warmup(self, feeds: object, instance: int) -> Handle: ...
    def set_batchable(self, merges: bool, why_not: str) -> None: ...
    def predicted_run_ns(self, feeds: object, rows: int) -> float: ...
    def take(self, feeds: object, outputs: Sequence[str] | None) -> TakenFeeds: ...
    def wait_completions(self) -> list[InferFuture] | None: ...
    def close(self, drain: bool, timeout: float | None) -> tuple[int, int]: ...
    def poll_updates(self) -> None: ...
    def mark_forked(self) -> None: ...
    def stats(self) -> dict[str, Any]: ...

class Handle:
    cancelled: bool
    rows: int
    def done(self) -> bool: ...
    def started(self) -> bool: ...
    def wait(self, timeout: float | None) -> bool: ...
    def cancel(self) -> bool: ...
    def info(self) -> dict[str, Any] | None: ...
    def result(self) -> dict[str, Array]: ...
    def give_up(self) -> None: ...

@final
class AsyncCall(Handle):
    future: asyncio.Future[dict[str, Array]]

@final
class EventLoopBridge:
    def abandon(self, _: object = None) -> None: ...
    def flush(self) -> None: ...
    def deliver(self) -> None: ...

ADMISSIONS: tuple[str, ...]
POLICIES: tuple[str, ...]
ROUTINGS: tuple[str, ...]
DISPATCH_REASONS: tuple[str, ...]

WIRE_MOST_FIELDS: int

@final
class WireTable:
    def __init__(
        self,
        messages: Sequence[Sequence[tuple[int, int, int, int, bool]]],
        max_fields: int,
        max_rest_bytes: int,
    ) -> None: ...
    def walk(self, body: bytes) -> tuple[str, int, int, int, bytes, list[tuple[int, int, int, int]]]: ...

def count_wire_numbers(body: bytes, first: int, size: int, max_steps: int) -> tuple[str, list[int]]: ...
def read_wire_numbers(body: bytes, first: int, size: int, field: int, array: Array) -> bool: ...
def tolerance_of(dtype: object) -> float: ...
def largest_magnitude(array: Array) -> float: ...
def compare(a: Array, b: Array, largest: float = ...) -> tuple[float, bool]: ...
def differs_by_ties(a: Array, b: Array, source: Array, largest: float = ...) -> bool: ...

@final
class Scheduler:
    def __init__(self, batching: BatchingOptions, *, instances: int = 1, merging: str = "yes") -> None: ...
    def admit(
        self,
        number: Hashable,
        now: int,
        *,
        rows: int = 1,
        bytes: int = 0,
        bucket: int = 0,
        deadline: int | None = None,
        priority: int = 1,
        wait_when_full: bool = False,
    ) -> str: ...
    def plan(self, now: int) -> tuple[int, int | None]: ...
    def next(self, now: int) -> Batch: ...
    def done(
        self,
        batch: int,
        run_ns: int,
        now: int,
        *,
        failed: bool = False,
        runs: Iterable[tuple[int, int, bool, bool]] | None = None,
    ) -> list[Any]: ...
    def forget(self, number: Hashable, now: int) -> bool: ...
    def load(self) -> dict[str, float]: ...

@final
class Fleet:
    ENDED_LEFT: int
    ENDED_REFUSED: int
    ENDED_SHED: int
    ENDED_EXPIRED: int
    def __init__(
        self,
        batching: BatchingOptions,
        *,
        instances: int,
        routing: str,
        seed: int,
        stale_ns: int,
        network_ns: int,
        drains: bool,
        warm: bool,
        run_ns: Sequence[float],
        scales: Sequence[float],
        spreads: Sequence[float],
        classes: Sequence[tuple[int, int | None, int, int]],
        offsets_ns: Array,
        class_of: Array,
        called: Array,
        ended: Array,
        callers: int,
    ) -> None: ...
    def add_replica(self, opens_at: int = 0, *, run_factor: float = 1.0) -> None: ...
    def remove_replica(self) -> None: ...
    def feed(self, deviations: Array) -> None: ...
    def run(self, until: int | None = None) -> str: ...
    def figures(self) -> dict[str, Any]: ...
    def reasons(self) -> dict[str, int]: ...

@final
class Batch:
    number: int | None
    rows: int
    slices: list[tuple[Any, int, int]]
    late: list[tuple[Any, str]]
    wake_at: int | None
    reason: str
    predicted_ns: int
    delayed_since: int | None
    delayed_until: int | None

@final
class RequestHolder: ...
