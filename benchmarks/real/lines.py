"""Reads pages of lines with PP-OCRv5's recogniser for bench_shapes, each variant in a process of its own."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.baselines import Bare
from benchmarks.models import SEED
from paddleinfer import Engine, PadAxis

HEIGHT = 48
# How many columns give one step of the output.
PER = 8
LINES, CALLERS, PLAIN_BATCH = 60, 16, 6
LINE_WIDTHS = (120, 900)

BATCHES = f"plain Paddle, batches of {PLAIN_BATCH} sorted by width"
DEFAULTS = "engine, defaults"
PADDED = "engine, padded to multiples of 64"

Array = np.ndarray[Any, Any]


def lines(sizes: Sequence[int]) -> list[Array]:
    """Makes images of lines from noise, because their content changes no time."""
    random = np.random.default_rng(SEED)
    return [random.standard_normal((1, 3, HEIGHT, width), dtype=np.float32) for width in sizes]


def pages(count: int) -> list[list[Array]]:
    """Makes pages; every one has widths of its own, as real pages have."""
    random = np.random.default_rng(SEED)
    return [
        lines([int(width) for width in random.choice(np.arange(*LINE_WIDTHS), LINES, replace=False)])
        for _ in range(count)
    ]


def plain_page(bare: Bare, name: str, images: Sequence[Array]) -> dict[int, Array]:
    """Reads a page as PaddleOCR does: sorted by width, a few lines at a time, padded to the widest."""
    results: dict[int, Array] = {}
    order = sorted(range(len(images)), key=lambda number: images[number].shape[3])
    for first in range(0, len(order), PLAIN_BATCH):
        numbers = order[first : first + PLAIN_BATCH]
        batch = np.zeros((len(numbers), 3, HEIGHT, images[numbers[-1]].shape[3]), np.float32)
        for row, number in enumerate(numbers):
            batch[row, ..., : images[number].shape[3]] = images[number][0]
        (steps,) = bare({name: batch}).values()
        results.update({number: steps[row] for row, number in enumerate(numbers)})
    return results


def _check(variant: str, engine: Engine, images: Sequence[Array], bare: Bare, name: str) -> None:
    for image in images:
        if variant == DEFAULTS:
            harness.check_equal(engine.infer(image), bare({name: image}))
            continue
        (padded,) = engine.infer(image).values()
        if padded.shape[1] != -(-image.shape[3] // PER):
            raise SystemExit(f"{padded.shape[1]} steps of {image.shape[3]} columns: the crop is wrong")


def _page_of(variant: str, model: Path) -> Callable[[Sequence[Array]], Any]:
    bare = Bare(model)
    (name,) = bare.predictor.get_input_names()
    if variant == BATCHES:
        return lambda images: plain_page(bare, name, images)
    (output,) = bare.predictor.get_output_names()
    pad = PadAxis(inputs={name: 3}, outputs={output: 1}, per={output: PER}, multiple=64)
    engine = Engine(model, pad=pad) if variant == PADDED else Engine(model)
    _check(variant, engine, lines([200, 333, 480]), bare, name)
    callers = ThreadPoolExecutor(CALLERS)
    return lambda images: list(callers.map(engine.infer, images))


def _serve(variant: str, model: Path, count: int) -> None:
    """Reads a page for each question, once it is ready; answers seconds and processor seconds."""
    stream = harness.answers()
    read, turn = _page_of(variant, model), itertools.cycle(pages(count))
    read(next(turn))
    print(json.dumps("ready"), file=stream, flush=True)

    def reply(_: Any) -> dict[str, float]:
        images = next(turn)
        begin, work = time.perf_counter(), time.process_time()
        read(images)
        return {"seconds": time.perf_counter() - begin, "cpu_s": time.process_time() - work}

    harness.serve(stream, reply)


def helper(variant: str, model: Path, count: int) -> harness.Helper:
    """Starts one variant's process, which has read a page."""
    started = harness.Helper("real.lines", variant, str(model), str(count))
    started.answer()
    return started


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
