"""Serves callers by variants, grouped by the process they share: an engine, baselines, onnxruntime.

`Server` starts a process for each group, because Paddle's settings hold for a whole process.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import uvloop

from benchmarks import harness
from benchmarks.baselines import Bare, Locked, rows_of
from benchmarks.callers import baseline_batchers
from benchmarks.load.closed_loop import Call, Load, Row, Tasks, Threads, Variant
from benchmarks.models import MODELS, directory, onnx_file

MOST_CALLERS = 64
PREDICTORS = 8

# The best timeouts of the package `batched` between 0 and 5 ms, with 64 callers of the small MLP.
TUNED_MS, TUNED_ASYNC_MS = 0.2, 0.0

Variants = dict[str, Variant]

THREADS, ASYNCIO, UVLOOP = "threads", "asyncio", "asyncio on uvloop"
LOCKED = "one locked predictor, threads"
# With one caller it is the bare loop.
PER_THREAD = "one predictor per thread"
POOL = f"{PREDICTORS} predictors in a pool, threads"
BATCHER = "40-line batcher, threads"


def engine_variants(model: str, rows: Sequence[Row], options: Mapping[str, Any]) -> tuple[Variants, Any]:
    """Returns the engine's variants from threads, asyncio and uvloop, and its options in force."""
    from paddleinfer import Engine

    engine = Engine(directory(model), **options)
    variants: Variants = {
        THREADS: Threads([engine.infer] * MOST_CALLERS, rows),
        ASYNCIO: Tasks(engine.ainfer, rows),
        UVLOOP: Tasks(engine.ainfer, rows, uvloop.new_event_loop),
    }
    return variants, {name: setting["value"] for name, setting in engine.effective_config().items()}


def baseline_variants(model: str, rows: Sequence[Row], options: Mapping[str, Any]) -> tuple[Variants, Any]:
    """Returns what Python can do with Paddle's predictors, configured like the engine's.

    `batch_size` is that of the tuned `batched`, `onednn` that of the predictors.
    """

    def threads(call: Call, **more: Any) -> Threads:
        return Threads([call] * MOST_CALLERS, rows, **more)

    batch_size, onednn = options["batch_size"], options["onednn"]
    own = [Bare(directory(model), as_engine=True, onednn=onednn) for _ in range(PREDICTORS)]
    # One variant runs at a time, so all variants with a single predictor may share it.
    bare = own[0]
    as_it_comes = baseline_batchers.Batched(bare)
    tuned = baseline_batchers.Batched(bare, batch_size=batch_size, timeout_ms=TUNED_MS)
    tuned_async = functools.partial(
        baseline_batchers.batched_async, bare, in_loop=True, batch_size=batch_size, timeout_ms=TUNED_ASYNC_MS
    )
    variants: Variants = {
        LOCKED: threads(Locked(bare)),
        PER_THREAD: Threads(own, rows),
        POOL: threads(baseline_batchers.Pool(own)),
        BATCHER: threads(baseline_batchers.Batcher(bare)),
        "batched as it comes, threads": threads(as_it_comes, during=as_it_comes.awake),
        "batched tuned, threads": threads(tuned, during=tuned.awake),
        "batched as it comes, asyncio": Tasks(baseline_batchers.batched_async(bare, in_loop=False), rows),
        "batched tuned, asyncio": Tasks(tuned_async(), rows),
        "batched tuned, asyncio on uvloop": Tasks(tuned_async(), rows, uvloop.new_event_loop),
    }
    return variants, None


def onnx_variants(model: str, rows: Sequence[Row], _: Mapping[str, Any]) -> tuple[Variants, Any]:
    """Returns the same model in onnxruntime, which every thread calls itself."""
    converted = onnx_file(model)
    if converted is None:
        return {}, None
    return {"onnxruntime, threads": Threads([baseline_batchers.Onnx(converted)] * MOST_CALLERS, rows)}, None


KINDS: dict[str, Callable[[str, Sequence[Row], Mapping[str, Any]], tuple[Variants, Any]]] = {
    "engine": engine_variants,
    "baselines": baseline_variants,
    "onnx": onnx_variants,
}


class Server(harness.Helper):
    """The variants of one kind, in a process of their own."""

    def __init__(
        self,
        kind: str,
        model: str,
        expected: Sequence[Any],
        options: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("callers.variants", kind, model, json.dumps(options or {}), environment=environment)
        self.tell(expected)
        self.variants, self.in_force = self.answer()

    def load(self, variant: str, callers: int, seconds: float) -> Load:
        """Runs callers on one of the variants."""
        self.tell([variant, callers, seconds])
        return Load(*self.answer())


def main(kind: str, model: str, options: str) -> None:
    """Answers a Server, in its process."""
    stream = harness.answers()
    expected = json.loads(sys.stdin.readline())
    feeds = rows_of(MODELS[model].feed(MOST_CALLERS))
    rows = [Row(feed, answers) for feed, answers in zip(feeds, expected, strict=True)]
    variants, in_force = KINDS[kind](model, rows, json.loads(options))

    def reply(question: tuple[str, int, float]) -> list[float]:
        variant, callers, seconds = question
        load = variants[variant].load(callers, seconds)
        return list(vars(load).values())

    print(json.dumps([list(variants), in_force]), file=stream, flush=True)
    harness.serve(stream, reply)


if __name__ == "__main__":
    main(*sys.argv[1:])
