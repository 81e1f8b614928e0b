"""Types of the compiled core; its own docstrings stand in ``_ext/_ext.pyx``."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

from paddleinfer.futures import InferFuture

Array = npt.NDArray[Any]

DTYPE_NAMES: tuple[str, ...]
NUMPY_DTYPES: Mapping[str, np.dtype[Any]]
MAX_RANK: int

def interpreter_ends() -> None: ...
def onednn_cache_clears() -> int: ...
def mallopt(parameter: int, value: int) -> bool: ...

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
class OneDnnBudget:
    def __init__(self, library: PaddleLibrary, max_shapes: int) -> None: ...
    def before_run(self, shapes: Iterable[tuple[int, ...]]) -> None: ...
    def close(self) -> None: ...

@final
class predictor_lock:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

@final
class OneDnnShelterAround:
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

@final
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
        policy: str,
        max_batch_size: int,
        preferred_batch_sizes: Sequence[int],
        allowed_batch_sizes: Sequence[int],
        max_queue_rows: int,
        max_queue_bytes: int,
        max_hold_us: int | None,
        wait_when_full: bool,
        merging: str,
        on_merging: Callable[[bool, str], None],
        normalise: Callable[[object], list[Array]],
        explain: Callable[[str], str],
        trace: TraceRing,
        main_thread: int,
    ) -> None: ...
    def start_paddle(
        self,
        library: PaddleLibrary,
        config: int,
        inputs: Iterable[str],
        outputs: Iterable[str],
        parameters: Iterable[str],
        *,
        instances: int,
        on_cpu: bool,
        share_weights: bool,
        onednn: bool,
        max_onednn_shapes: int,
    ) -> None: ...
    def start_python(
        self, open_model: Callable[[int], Callable[[list[Array]], list[Array]]], instances: int
    ) -> None: ...
    def weights(self) -> tuple[int, int, str]: ...
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
    def start(
        self, feeds: object, timeout: float | None, outputs: Sequence[str] | None, priority: int
    ) -> Handle: ...
    def ainfer(
        self, feeds: object, timeout: float | None, outputs: Sequence[str] | None, priority: int
    ) -> AsyncCall: ...
    def warmup(self, feeds: object, instance: int) -> Handle: ...
    def settle_merging(self, merges: bool, why_not: str) -> None: ...
    def predicted_run_ns(self, feeds: object, rows: int) -> float: ...
    def wait_completions(self) -> list[InferFuture] | None: ...
    def close(self, drain: bool, timeout: float | None) -> tuple[int, int]: ...
    def pass_on_news(self) -> None: ...
    def mark_forked(self) -> None: ...
    def stats(self) -> dict[str, Any]: ...

class Handle:
    cancelled: bool
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
class LoopSink:
    def abandon(self, _: object = None) -> None: ...
    def flush(self) -> None: ...
    def deliver(self) -> None: ...

ADMISSIONS: tuple[str, ...]
POLICIES: tuple[str, ...]
DISPATCH_REASONS: tuple[str, ...]

def tolerance_of(dtype: object) -> float: ...
def relative_difference(a: Array, b: Array) -> float: ...

@final
class Scheduler:
    def __init__(
        self,
        *,
        instances: int = 1,
        policy: str = "adaptive",
        max_batch_size: int = 32,
        preferred_batch_sizes: Sequence[int] = (),
        max_queue_rows: int = 4096,
        max_queue_bytes: int = ...,
        max_hold_us: int | None = None,
        merging: str = "yes",
    ) -> None: ...
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
class Batch:
    number: int | None
    rows: int
    slices: list[tuple[Any, int, int]]
    late: list[tuple[Any, str]]
    wake_at: int | None
    reason: str
    predicted_ns: int
    held_since: int | None
    held_until: int | None

@final
class RequestHolder: ...
