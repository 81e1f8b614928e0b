"""Provides other ways to serve many callers from one Python process: self-written and installed batchers.

Each gets `run`, a bare predictor's loop, except for onnxruntime, which runs the model itself.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.closed_loop import Call, Feeds, Results

MAX_ROWS = 32


def run_together(run: Call, requests: Sequence[Feeds]) -> list[Results]:
    """Runs requests of one row each together."""
    together = {name: np.concatenate([feeds[name] for feeds in requests]) for name in requests[0]}
    results = run(together)
    return [{name: rows[row : row + 1] for name, rows in results.items()} for row in range(len(requests))]


class Batcher:
    """The batcher that people write in forty lines: a queue, a thread that takes all that waits, futures."""

    def __init__(self, run: Call) -> None:
        self._run = run
        self._waiting: queue.Queue[tuple[Feeds, Future[Results]]] = queue.Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    def __call__(self, feeds: Feeds) -> Results:
        """Queues one row and waits for its answer."""
        return self.submit(feeds).result()

    def submit(self, feeds: Feeds) -> Future[Results]:
        """Queues one row."""
        future: Future[Results] = Future()
        self._waiting.put((feeds, future))
        return future

    def _serve(self) -> None:
        while True:
            batch = self._take()
            futures = [future for _, future in batch]
            try:
                results = run_together(self._run, [feeds for feeds, _ in batch])
            except Exception as error:
                for future in futures:
                    future.set_exception(error)
            else:
                for future, result in zip(futures, results, strict=True):
                    future.set_result(result)

    def _take(self) -> list[tuple[Feeds, Future[Results]]]:
        batch = [self._waiting.get()]
        with contextlib.suppress(queue.Empty):
            while len(batch) < MAX_ROWS:
                batch.append(self._waiting.get_nowait())
        return batch


class Pool:
    """A few predictors, each on a thread of its own, for more callers than predictors."""

    def __init__(self, runs: Sequence[Call]) -> None:
        self._free = list(runs)
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(len(runs), initializer=self._take)

    def _take(self) -> None:
        self._own.run = self._free.pop()

    def __call__(self, feeds: Feeds) -> Results:
        """Runs on a free thread, or on the next one that is free."""
        return self._threads.submit(self._run, feeds).result()

    def _run(self, feeds: Feeds) -> Results:
        results: Results = self._own.run(feeds)
        return results


class Batched:
    """The package `batched`, called from threads."""

    # While nobody calls, its thread would go on polling and disturb the next measurement.
    RESTING_S = 0.05

    def __init__(self, run: Call, **options: Any) -> None:
        import batched

        self._processor = batched.dynamically(functools.partial(run_together, run), **options)
        self._polling_s = self._processor.batch_queue._timeout
        self._processor.batch_queue._timeout = self.RESTING_S

    def __call__(self, feeds: Feeds) -> Results:
        """One row."""
        result: Results = self._processor(feeds)
        return result

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Lets the thread poll at its own rate during the block."""
        self._processor.batch_queue._timeout = self._polling_s
        try:
            yield
        finally:
            self._processor.batch_queue._timeout = self.RESTING_S


def batched_async(
    run: Call, *, in_loop: bool, **options: Any
) -> Callable[[Feeds], Coroutine[Any, Any, Results]]:
    """The package `batched`, awaited; the model runs on the loop's thread or on one of its pool."""
    from batched import aio

    together = functools.partial(run_together, run)

    async def run_in_loop(requests: Sequence[Feeds]) -> list[Results]:
        return together(requests)

    processor: Callable[[Feeds], Coroutine[Any, Any, Results]]
    processor = aio.dynamically(run_in_loop if in_loop else together, **options)
    return processor


class Onnx:
    """onnxruntime, which may be called by many threads at once; one math thread for each call."""

    def __init__(self, model: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, feeds: Feeds) -> Results:
        """Runs on the caller's thread."""
        return dict(zip(self._names, self._session.run(None, dict(feeds)), strict=True))
