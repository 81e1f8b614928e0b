"""Provides what bench_runtimes compares, one runtime and one model in each process."""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.baselines import Bare
from benchmarks.bench_memory import rss_mb
from benchmarks.load.closed_loop import Window, keep_calling, times_of
from benchmarks.models import MODELS
from benchmarks.runtimes.cases import CASES, PADDLE, Array, Case
from paddleinfer import Engine
from paddleinfer.backends.onnx.cache import ModelCache

Call = Callable[[Array], Any]

ENGINE = "engine"
INSTANCES, CALLERS, THREADS = 2, 8, 2
WARM_UP_S = 0.3
# Of relative differences between an engine over another runtime and bare Paddle.
TOLERANCE = 1e-4

_CACHE = harness.REPOSITORY / "benchmarks" / ".cache" / "onnx"
_CACHE_BYTES = 1 << 30


def engine_of(case: Case, runtime: str, **options: Any) -> Engine:
    """Opens an engine; the converted model stays for the next."""
    if runtime == PADDLE:
        return Engine(case.path, **options)
    folder = _CACHE / f"{case.model}-{case.format}"
    return Engine(case.path, **{"backend": runtime, "onnx_cache": str(folder), **options})


def onnx_file(case: Case) -> Path:
    """Returns the file that an engine has made of the model before."""
    return ModelCache(_CACHE / f"{case.model}-{case.format}", _CACHE_BYTES).entries()[0].path


def ort_session(path: Path) -> Call:
    """Makes a session of one thread, as a function."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    return lambda x: session.run(None, {name: x})


def _openvino_requests(path: Path) -> list[Call]:
    import openvino

    # Else it computes in bfloat16 on processors that have it, and differs from Paddle by percents.
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    settings = {"INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": THREADS, **precise}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)

    def request() -> Call:
        infer = compiled.create_infer_request().infer
        return lambda x: list(infer({0: x}).values())

    return [request() for _ in range(THREADS)]


def _paddle_predictors(path: Path) -> list[Call]:
    first = Bare(path)
    (name,) = first.predictor.get_input_names()

    def call(bare: Bare, x: Array) -> list[Array]:
        return list(bare({name: x}).values())

    return [functools.partial(call, one) for one in (first, *(first.clone() for _ in range(1, THREADS)))]


def bare_calls(case: Case, runtime: str) -> dict[str, list[Call]]:
    """Makes the ways to drive a runtime without us, each as a function for each of two threads."""
    if runtime == PADDLE:
        return {"two predictors": _paddle_predictors(case.path)}
    path = onnx_file(case)
    if runtime == "openvino":
        return {"one compiled model, two requests": _openvino_requests(path)}
    return {
        "one session, two callers": [ort_session(path)] * THREADS,
        "two sessions": [ort_session(path) for _ in range(THREADS)],
    }


def _in_turn(rows: Sequence[Array], number: int) -> Iterator[Array]:
    start = number % len(rows)
    return itertools.cycle([*rows[start:], *rows[:start]])


def _rate(calls: Sequence[Call], threads: ThreadPoolExecutor, rows: Sequence[Array], seconds: float) -> float:
    """Returns rows per second of closed-loop callers; each goes through all requests, from another start."""
    window = Window(len(calls), seconds)

    def caller(number: int) -> Any:
        mine = _in_turn(rows, number)
        return keep_calling(window, lambda: calls[number](next(mine)))

    rate, _ = times_of(window, list(threads.map(caller, range(len(calls)))))
    return rate * float(np.mean([len(one) for one in rows]))


def _apart(engine: Engine, bare: Call, rows: Sequence[Array]) -> float:
    """Returns how far the engine's results are from the bare runtime's, relative to the largest element."""
    found = [0.0]
    for x in rows:
        for ours, theirs in zip(engine.infer([x]).values(), bare(x), strict=True):
            found.append(float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-6)))
    return max(found)


def _serve(case: Case, runtime: str) -> None:
    """Answers [variant, seconds] with rows per second; first, the variants and how far results are apart."""
    stream = harness.answers()
    rows = case.requests()
    with engine_of(case, runtime, instances=INSTANCES) as engine, ThreadPoolExecutor(CALLERS) as threads:
        ways = bare_calls(case, runtime)
        apart = _apart(engine, next(iter(ways.values()))[0], rows)
        ways[ENGINE] = [lambda x: engine.infer([x])] * CALLERS
        for calls in ways.values():
            _rate(calls, threads, rows, WARM_UP_S)
        print(json.dumps([list(ways), apart]), file=stream, flush=True)
        harness.serve(stream, lambda asked: _rate(ways[asked[0]], threads, rows, asked[1]))


def helper(case: str, runtime: str) -> harness.Helper:
    """Starts a process for one model on one runtime; its first answer names its variants."""
    return harness.Helper("runtimes.variants", "serve", case, runtime)


def _latencies(rounds: int, calls: int) -> dict[str, list[float]]:
    """Returns p50 microseconds of one caller's rows of the MLP, round by round."""
    case = CASES["mlp"]
    x = case.requests()[0]
    with (
        engine_of(case, "onnxruntime", instances=1) as inline,
        engine_of(case, "onnxruntime", instances=1, inline=False) as handed_over,
    ):
        (name,) = (tensor.name for tensor in inline.inputs)
        feeds = {name: x}
        session = ort_session(onnx_file(case))
        variants: dict[str, Callable[[], Any]] = {
            "bare": functools.partial(session, x),
            "inline": functools.partial(inline.infer, feeds),
            "handed over": functools.partial(handed_over.infer, feeds),
        }
        for call in variants.values():
            harness.p50_us(call, 200)
        measured = {
            variant: functools.partial(harness.p50_us, call, calls) for variant, call in variants.items()
        }
        return harness.interleave(measured, rounds)


def _resident_mb(runtime: str, instances: int) -> float:
    """Returns this process's memory with so many instances of the wide MLP, each of which has run."""
    options = {"onednn": False} if runtime == PADDLE else {}
    with engine_of(CASES["wide_mlp"], runtime, instances=instances, **options) as engine:
        row = MODELS["wide_mlp"].feed(1)["x"]
        with ThreadPoolExecutor(4 * instances) as callers:
            list(callers.map(lambda _: engine.infer([row]), range(50 * instances)))
        return rss_mb()


def main() -> None:
    """Serves a helper, or measures once."""
    what, *arguments = sys.argv[1:]
    if what == "serve":
        _serve(CASES[arguments[0]], arguments[1])
        return
    stream = harness.answers()
    if what == "latency":
        json.dump(_latencies(*map(int, arguments)), stream)
    else:
        json.dump(_resident_mb(arguments[0], int(arguments[1])), stream)
    stream.close()


if __name__ == "__main__":
    main()
