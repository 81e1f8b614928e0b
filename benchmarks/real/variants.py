"""Provides what bench_real compares on PaddleOCR's models, each variant in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.baselines import spare_det
from benchmarks.load.closed_loop import Window, keep_calling, times_of
from benchmarks.models import directory, program_of
from tests.support.real_pictures import CLS_WIDTH, line, page

Array = np.ndarray[Any, Any]

CALLERS = 12
# Widths of lines 48 pixels high, as on a page of an invoice or an article.
LINE_WIDTHS = (
    96,
    120,
    148,
    176,
    200,
    232,
    264,
    296,
    320,
    320,
    352,
    384,
    416,
    448,
    480,
    480,
    512,
    560,
    608,
    640,
)


@dataclass(frozen=True)
class Case:
    """One model and its requests."""

    model: str
    format: str
    rows: Callable[[], list[Array]]
    """Requests of one row each."""
    batches: tuple[int, ...]
    """The rows per run with which bare predictors are tried."""
    wanted: float | None = None
    """The wanted share of two bare predictors' rate, with the engine's defaults."""


@dataclass(frozen=True)
class Settings:
    """The settings of a bare predictor."""

    onednn: bool
    ir_optim: bool
    eager_deletion: bool
    batch: int

    def __str__(self) -> str:
        words = [
            "oneDNN" if self.onednn else "no oneDNN",
            *(["no ir_optim"] if not self.ir_optim else []),
            *(["no eager deletion"] if not self.eager_deletion else []),
        ]
        return f"{', '.join(words)}, {self.batch} rows a run"


def _pages() -> list[Array]:
    return [page(640, 640, seed) for seed in range(4)]


def _lines_of_one_width() -> list[Array]:
    return [line(320, seed) for seed in range(12)]


def _lines_of_a_page() -> list[Array]:
    widths = np.random.default_rng(3).permutation(LINE_WIDTHS)
    return [line(int(width), seed) for seed, width in enumerate(widths)]


def _cls() -> list[Array]:
    return [line(CLS_WIDTH, seed) for seed in range(12)]


CASES = {
    "PP-OCRv5 det": Case("ppocr_det", "json", _pages, (1, 2, 4), 0.95),
    "PP-OCRv5 rec": Case("ppocr_rec", "json", _lines_of_one_width, (1, 2, 6), 0.95),
    "PP-OCRv5 rec, a page": Case("ppocr_rec", "json", _lines_of_a_page, (1, 6), 0.95),
    "PP-OCRv4 det": Case("ppocr_det", "legacy", _pages, (1, 2, 4)),
    "PP-OCRv4 rec": Case("ppocr_rec", "legacy", _lines_of_one_width, (1, 2, 6)),
    "PP-OCRv4 rec, a page": Case("ppocr_rec", "legacy", _lines_of_a_page, (1, 6)),
    "cls": Case("ppocr_cls", "legacy", _cls, (1, 6, 12)),
}


def batched(rows: Sequence[Array], batch: int) -> list[Array]:
    """Batches rows as PaddleOCR does: sorted by width, so many each, padded to the widest of them."""
    ordered = sorted(rows, key=lambda row: row.shape[-1])
    batches = []
    for start in range(0, len(ordered), batch):
        together = ordered[start : start + batch]
        widest = together[-1].shape[-1]
        padded = [np.pad(row, [(0, 0)] * 3 + [(0, widest - row.shape[-1])]) for row in together]
        batches.append(np.concatenate(padded))
    return batches


def bare(case: Case, settings: Settings) -> Callable[[Array], Array]:
    """Makes one predictor, as a function."""
    import paddle
    from paddle import inference

    path = directory(case.model, case.format)
    program = program_of(path)
    config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(1)
    config.switch_ir_optim(settings.ir_optim)
    if settings.onednn:
        config.enable_onednn()
    else:
        config.disable_onednn()
    spare_det(config, path)
    paddle.set_flags({"FLAGS_eager_delete_tensor_gb": 0.0 if settings.eager_deletion else -1.0})
    predictor = inference.create_predictor(config)
    given = predictor.get_input_handle(predictor.get_input_names()[0])
    answered = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(x: Array) -> Array:
        given.reshape(x.shape)
        given.copy_from_cpu(x)
        predictor.run()
        answer: Array = answered.copy_to_cpu()
        return answer

    return run


def _bare_rate(run: Callable[[Array], Array], batches: Iterator[Array], seconds: float) -> dict[str, float]:
    """Returns rows per second, back to back."""
    begin, work = time.perf_counter(), time.process_time()
    rows = 0
    while (elapsed := time.perf_counter() - begin) < seconds or rows == 0:
        x = next(batches)
        run(x)
        rows += len(x)
    return {
        "rate": rows / elapsed,
        "cpu_ms": (time.process_time() - work) * 1e3 / rows,
        "rows": float(len(x)),
    }


def _serve_bare(case: Case, settings: Settings) -> None:
    stream = harness.answers()
    run = bare(case, settings)
    batches = batched(case.rows(), settings.batch)
    for x in batches:
        run(x)
    print(json.dumps("ready"), file=stream, flush=True)
    cycle = itertools.cycle(batches)
    harness.serve(stream, lambda seconds: _bare_rate(run, cycle, seconds))


def _engine_rate(call: Callable[[Array], Any], rows: Sequence[Array], threads: Any, seconds: float) -> float:
    """Returns rows per second of closed-loop callers; each goes through all rows, from another start."""
    window = Window(CALLERS, seconds)

    def caller(number: int) -> Any:
        mine = itertools.cycle([*rows[number % len(rows) :], *rows[: number % len(rows)]])
        return keep_calling(window, lambda: call(next(mine)))

    rate, _ = times_of(window, list(threads.map(caller, range(CALLERS))))
    return rate


def _serve_engine(case: Case, options: dict[str, Any], alone: Settings) -> None:
    """Serves an engine; first answers how far its results are from a bare predictor's, in relative terms."""
    from concurrent.futures import ThreadPoolExecutor

    from paddleinfer import Engine

    stream = harness.answers()
    asked = case.rows()
    run = bare(case, alone)
    expected = [run(row) for row in asked]
    del run
    with (
        Engine(directory(case.model, case.format), **options) as engine,
        ThreadPoolExecutor(CALLERS) as threads,
        contextlib.closing(stream),
    ):
        answers = [next(iter(one.values())) for one in threads.map(lambda row: engine.infer([row]), asked)]
        apart = [
            float(np.abs(ours - theirs).max() / np.abs(theirs).max())
            for ours, theirs in zip(answers, expected, strict=True)
        ]
        print(json.dumps(max(apart)), file=stream, flush=True)

        def reply(seconds: float) -> dict[str, float]:
            before, work = engine.stats(), time.process_time()
            rate = _engine_rate(lambda row: engine.infer([row]), asked, threads, seconds)
            after = engine.stats()
            runs = after["executions"] - before["executions"]
            rows = after["executed_rows"] - before["executed_rows"]
            return {
                "rate": rate,
                "cpu_ms": (time.process_time() - work) * 1e3 / rows,
                "rows": rows / runs,
            }

        harness.serve(stream, reply)


@functools.cache
def tried(case: Case) -> list[Settings]:
    """Yields all settings of Paddle that may be best for a bare predictor of this case."""
    switches = (True, False)
    passes = switches if case.format == "legacy" else (True,)
    return [Settings(*one) for one in itertools.product(switches, passes, switches, case.batches)]


def helper(case: str, settings: Settings) -> harness.Helper:
    """Starts a bare predictor in a process; it answers seconds with rows per second and CPU per row."""
    return harness.Helper("real.variants", "bare", case, json.dumps(asdict(settings)))


def engine_helper(case: str, options: dict[str, Any], alone: Settings) -> harness.Helper:
    """Starts an engine in a process; its first answer is its error, later ones are like `helper`'s."""
    return harness.Helper("real.variants", "engine", case, json.dumps(options), json.dumps(asdict(alone)))


if __name__ == "__main__":
    of = CASES[sys.argv[2]]
    if sys.argv[1] == "bare":
        _serve_bare(of, Settings(**json.loads(sys.argv[3])))
    else:
        _serve_engine(of, json.loads(sys.argv[3]), Settings(**json.loads(sys.argv[4])))
