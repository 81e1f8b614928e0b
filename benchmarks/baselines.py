"""Runs Paddle without paddleinfer: its documented loop, alone, behind a lock, per thread or per process."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.models import MODELS, directory, program_of

Feeds = Mapping[str, "np.ndarray[Any, Any]"]
Results = dict[str, "np.ndarray[Any, Any]"]

_EAGER_FLAG = "FLAGS_eager_delete_tensor_gb"


class Bare:
    """One predictor and the loop of Paddle's documentation: reshape, copy in, run, copy out.

    The predictor has Paddle's defaults, or with `as_engine` those of an Engine's predictor.
    The handles are fetched once, which is the fastest way to write the loop.
    """

    def __init__(self, path: Path, *, as_engine: bool = False, onednn: bool | None = None) -> None:
        from paddle import inference

        config = bare_config(path, as_engine=as_engine, onednn=onednn)
        self._frees = not as_engine or config.onednn_enabled()  # as engines do
        with self._deletion():
            predictor = inference.create_predictor(config)
        self._hold(predictor)

    def _deletion(self) -> contextlib.AbstractContextManager[None]:
        """Around the making of a predictor and its first run, for Paddle reads its flag at one of them."""
        return contextlib.nullcontext() if self._frees else _without_eager_deletion()

    def _hold(self, predictor: Any) -> None:
        self.predictor = predictor
        self._has_run = False
        self._inputs = {name: predictor.get_input_handle(name) for name in predictor.get_input_names()}
        self._outputs = {name: predictor.get_output_handle(name) for name in predictor.get_output_names()}

    def clone(self) -> Bare:
        """Makes a further instance, as Paddle does."""
        other = object.__new__(Bare)
        other._frees = self._frees
        other._hold(self.predictor.clone())
        return other

    def __call__(self, feeds: Feeds) -> Results:
        """One run."""
        for name, array in feeds.items():
            handle = self._inputs[name]
            handle.reshape(array.shape)
            handle.copy_from_cpu(array)
        with contextlib.nullcontext() if self._has_run else self._deletion():
            self.predictor.run()
        self._has_run = True
        return {name: handle.copy_to_cpu() for name, handle in self._outputs.items()}


def bare_config(path: Path, *, as_engine: bool = False, onednn: bool | None = None) -> Any:
    """Makes a config for the model in a directory."""
    from paddle import inference

    program = program_of(path)
    config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(1)
    if onednn is False:
        config.disable_onednn()
    spare_det(config, path)
    if as_engine:
        if program.suffix == ".json":
            config.enable_new_executor(True)
            config.enable_new_ir(True)
        config.switch_ir_optim(False)
        config.enable_memory_optim()
        if config.onednn_enabled():
            config.set_onednn_cache_capacity(0)
    return config


def spare_det(config: Any, path: Path) -> None:
    """Leaves out a pass: without it most of PP-OCRv5's det can run on oneDNN in Paddle 3.3, else none can."""
    if path == directory("ppocr_det") and config.onednn_enabled():
        config.delete_pass("onednn_placement_pass")


@contextlib.contextmanager
def _without_eager_deletion() -> Iterator[None]:
    import paddle

    before = paddle.get_flags([_EAGER_FLAG])
    paddle.set_flags({_EAGER_FLAG: -1.0})
    try:
        yield
    finally:
        paddle.set_flags(before)


class Locked:
    """One predictor, which threads use in turn."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._lock = threading.Lock()

    def __call__(self, feeds: Feeds) -> Results:
        """Runs the model, once it is this thread's turn."""
        with self._lock:
            return self._bare(feeds)


class Process(harness.Helper):
    """A bare loop in a process of its own, which shares no GIL.

    It has Paddle's default settings, or with `as_engine` those of an Engine's predictor; `environment` holds
    variables that an engine would set before Paddle is imported.
    """

    def __init__(
        self,
        model: str,
        batch: int,
        *,
        format: str = "json",
        as_engine: bool = False,
        onednn: bool | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory(model, format)
        settings = {"format": format, "as_engine": as_engine, "onednn": onednn}
        super().__init__("baselines", model, str(batch), json.dumps(settings), environment=environment)
        self._batch = batch
        self.outputs = [np.asarray(output) for output in self.answer()]

    def ask(self, what: str, amount: float, batch: int | None = None) -> None:
        """Starts "rate" over seconds, "p50" over calls, or "answers" to rows, one by one."""
        self.tell([what, amount, batch or self._batch])


def processes_rate(processes: list[Process], seconds: float, batch: int | None = None) -> float:
    """Measures the runs per second of all of them together."""
    for process in processes:
        process.ask("rate", seconds, batch)
    return float(sum(process.answer() for process in processes))


def rows_of(feeds: Feeds) -> list[Feeds]:
    """Makes a request of every row."""
    count = len(next(iter(feeds.values())))
    return [{name: array[row : row + 1] for name, array in feeds.items()} for row in range(count)]


def _serve(model: str, batch: int, format: str, as_engine: bool, onednn: bool | None) -> None:
    stream = harness.answers()
    bare = Bare(directory(model, format), as_engine=as_engine, onednn=onednn)

    @functools.cache
    def warm(batch: int) -> Feeds:
        feeds = MODELS[model].feed(batch)
        for _ in range(5):
            bare(feeds)
        return feeds

    def reply(question: tuple[str, float, int]) -> Any:
        what, amount, batch = question
        if what == "answers":
            return [_as_lists(bare(row)) for row in rows_of(MODELS[model].feed(int(amount)))]
        call = functools.partial(bare, warm(batch))
        return harness.rate(call, amount) if what == "rate" else harness.p50_us(call, int(amount))

    print(json.dumps(_as_lists(bare(warm(batch)))), file=stream, flush=True)
    harness.serve(stream, reply)


def _as_lists(results: Results) -> list[Any]:
    return [array.tolist() for array in results.values()]


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), **json.loads(sys.argv[3]))
