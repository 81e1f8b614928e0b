"""Paddle without paddleinfer: its documented Python loop, alone, behind a lock, one per thread or process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from benchmarks import harness
from benchmarks.models import MODELS, directory

Feeds = Mapping[str, "np.ndarray[Any, Any]"]
Results = dict[str, "np.ndarray[Any, Any]"]

_EAGER_FLAG = "FLAGS_eager_delete_tensor_gb"


class Bare:
    """One predictor and the loop of Paddle's documentation: reshape, copy in, run, copy out.

    As it comes, or with `as_engine` configured like an Engine's predictor with default options.
    The handles are fetched once, which is the fastest way to write the loop.
    """

    def __init__(self, path: Path, *, as_engine: bool = False, onednn: bool | None = None) -> None:
        import paddle
        from paddle import inference

        config = bare_config(path, as_engine=as_engine, onednn=onednn)
        with _without_eager_deletion(paddle) if as_engine else contextlib.nullcontext():
            self._hold(inference.create_predictor(config))

    def _hold(self, predictor: Any) -> None:
        self.predictor = predictor
        self._inputs = {name: predictor.get_input_handle(name) for name in predictor.get_input_names()}
        self._outputs = {name: predictor.get_output_handle(name) for name in predictor.get_output_names()}

    def clone(self) -> Bare:
        """A further instance, as Paddle makes it."""
        other = object.__new__(Bare)
        other._hold(self.predictor.clone())
        return other

    def __call__(self, feeds: Feeds) -> Results:
        """One run."""
        for name, array in feeds.items():
            handle = self._inputs[name]
            handle.reshape(array.shape)
            handle.copy_from_cpu(array)
        self.predictor.run()
        return {name: handle.copy_to_cpu() for name, handle in self._outputs.items()}


def bare_config(path: Path, *, as_engine: bool = False, onednn: bool | None = None) -> Any:
    """A config for the model in a directory."""
    from paddle import inference

    program = next(file for file in path.iterdir() if file.suffix in (".json", ".pdmodel"))
    config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(1)
    if onednn is False:
        config.disable_onednn()
    if as_engine:
        if program.suffix == ".json":
            config.enable_new_executor(True)
            config.enable_new_ir(True)
        config.switch_ir_optim(False)
        config.enable_memory_optim()
    return config


@contextlib.contextmanager
def _without_eager_deletion(paddle: Any) -> Iterator[None]:
    before = paddle.get_flags([_EAGER_FLAG])
    paddle.set_flags({_EAGER_FLAG: -1.0})
    try:
        yield
    finally:
        paddle.set_flags(before)


class Locked:
    """One predictor that threads take turns with."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._lock = threading.Lock()

    def __call__(self, feeds: Feeds) -> Results:
        """One run, once it is this thread's turn."""
        with self._lock:
            return self._bare(feeds)


class Process:
    """A bare loop in a process of its own: no GIL to share, and settings as Paddle comes."""

    def __init__(self, model: str, batch: int, *, format: str = "json") -> None:
        directory(model, format)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.baselines", model, str(batch), format],
            cwd=harness.REPOSITORY,
            env=harness.quiet_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.outputs = [np.asarray(output) for output in self.answer()]

    def ask(self, what: str, amount: float) -> None:
        """Starts "rate" over seconds or "p50" over calls."""
        print(what, amount, file=cast("IO[str]", self._process.stdin), flush=True)

    def answer(self) -> Any:
        """What the last question gave."""
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            raise SystemExit("a baseline's process died")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def processes_rate(processes: list[Process], seconds: float) -> float:
    """Runs per second of all of them together."""
    for process in processes:
        process.ask("rate", seconds)
    return float(sum(process.answer() for process in processes))


def _serve(model: str, batch: int, format: str) -> None:
    answers = harness.answers()
    bare, feeds = Bare(directory(model, format)), MODELS[model].feed(batch)
    for _ in range(5):
        outputs = bare(feeds)
    print(json.dumps([output.tolist() for output in outputs.values()]), file=answers, flush=True)
    for line in sys.stdin:
        what, amount = line.split()
        if what == "rate":
            value = harness.rate(lambda: bare(feeds), float(amount))
        else:
            value = harness.p50_us(lambda: bare(feeds), int(float(amount)))
        print(json.dumps(value), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
