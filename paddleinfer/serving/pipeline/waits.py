"""A pipeline's wait for one of the models that it has asked."""

from __future__ import annotations

import asyncio
from concurrent import futures

from paddleinfer.serve.run import CURRENT
from paddleinfer.serving.pipeline.op_run import OpRun

__all__ = ["Waits"]


class Waits:
    """For the first of these to be over, whose results or error it then has."""

    def __init__(self, running: list[OpRun]) -> None:
        self._running = running

    def here(self) -> OpRun:
        """Waits on this thread."""
        if len(self._running) == 1 and not self._running[0].futures:
            (run,) = self._running
            run.keeping_error(run.run)
            return run
        for run in self._running:
            if not run.futures:
                run.keeping_error(run.submit)
                if run.error is not None:
                    return run
        return self._first_queued()

    def _first_queued(self) -> OpRun:
        while True:
            for run in self._running:
                if all(future.done() for future in run.futures):
                    run.keeping_error(run.take_results)
                    return run
            waited = [future for run in self._running for future in run.futures if not future.done()]
            request = CURRENT.get()
            if request is None:
                futures.wait(waited, return_when=futures.FIRST_COMPLETED)
            else:
                with request.waiting():
                    futures.wait(waited, return_when=futures.FIRST_COMPLETED)

    async def on_loop(self) -> OpRun:
        """Waits on an event loop."""
        first = self._running[0]
        if len(self._running) == 1 and first.task is None:
            await first.run_on_loop()
            return first
        for run in self._running:
            if run.task is None:
                run.task = asyncio.ensure_future(run.run_on_loop())
        tasks = {run.task: run for run in self._running if run.task is not None}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            for task in tasks:
                task.cancel()
            raise
        return tasks[next(iter(done))]
