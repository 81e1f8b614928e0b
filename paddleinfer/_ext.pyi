"""Types of the compiled core; its own docstrings stand in ``_ext/_ext.pyx``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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

@final
class PaddleLibrary:
    missing: tuple[str, ...]
    empties_onednn_cache: bool
    def __init__(self, path: str, cpu_place: int) -> None: ...
    def program_file(self, config: int) -> str: ...

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
        max_queue_rows: int,
        max_queue_bytes: int,
        normalise: Callable[[object], list[Array]],
        explain: Callable[[str], str],
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
        self, feeds: object, timeout: float | None, outputs: Sequence[str] | None
    ) -> dict[str, Array]: ...
    def submit(
        self, feeds: object, timeout: float | None, outputs: Sequence[str] | None, future: InferFuture
    ) -> Handle: ...
    def wait_completions(self) -> list[InferFuture] | None: ...
    def close(self, drain: bool, timeout: float | None) -> tuple[int, int]: ...
    def mark_forked(self) -> None: ...
    def stats(self) -> dict[str, int]: ...

@final
class Handle:
    cancelled: bool
    def done(self) -> bool: ...
    def started(self) -> bool: ...
    def wait(self, timeout: float | None) -> bool: ...
    def cancel(self) -> bool: ...
    def result(self) -> dict[str, Array]: ...
