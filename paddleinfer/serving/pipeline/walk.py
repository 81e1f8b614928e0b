"""One request's way through the graph, on one thread: what can run at the same time is queued together."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent import futures
from typing import Any, Final

import numpy as np

from paddleinfer.serve.run import CURRENT, Run
from paddleinfer.serving.pipeline.errors import CustomExceptionCode, OpError
from paddleinfer.serving.pipeline.graph import Graph
from paddleinfer.serving.pipeline.op import EXECUTOR, Op
from paddleinfer.serving.pipeline.op_run import OpRun, PreparedOp
from paddleinfer.serving.profiling import StageClock

__all__ = ["Walk"]

_MOST_JUMPS: Final = 10_000
_UNKNOWN: Final = CustomExceptionCode.UNKNOW.value


class Walk:
    """One request.

    Parameters
    ----------
    graph, prepared
        The pipeline, and its Ops by name.
    data_id, log_id
        The number of the request, and the client's for it.
    clock
        What the stages take; None: nobody asks.
    """

    def __init__(
        self,
        graph: Graph,
        prepared: Mapping[str, PreparedOp],
        data_id: int,
        log_id: int,
        clock: StageClock | None,
    ) -> None:
        self._graph = graph
        self._prepared = prepared
        self._data_id = data_id
        self._log_id = log_id
        self._clock = clock
        self._inputs: dict[str, dict[str, Any]] = {}
        self._last_inputs: dict[str, dict[str, Any]] = {}
        self._ready: deque[Op] = deque()
        self._running: list[OpRun] = []
        self._jumps = 0
        self._output: Mapping[str, Any] | None = None

    def go(self, unpacked: Mapping[str, Any]) -> Mapping[str, Any]:
        """The output of the last Op.

        Raises
        ------
        OpError
            An Op ended the request.
        QueueFull, EngineClosed, DeadlineExceeded
            As of the service.
        """
        request = CURRENT.get()
        try:
            self._deliver(EXECUTOR, unpacked)
            while self._output is None and (self._ready or self._running):
                if request is not None:
                    request.check()
                if self._ready:
                    self._begin(self._ready.popleft())
                else:
                    self._finish(self._first_done(request))
        finally:
            for run in self._running:
                run.cancel()
        if self._output is None:
            raise OpError(_UNKNOWN, "the pipeline ended without an output of its last Op")
        return self._output

    def _begin(self, op: Op) -> None:
        inputs = self._inputs.pop(op.name)
        if self._graph.has_jumps:
            self._last_inputs[op.name] = inputs
        run = OpRun(self._prepared[op.name], inputs, self._data_id, self._log_id)
        run.preprocess()
        self._mark("prep", op)
        if run.is_skipped:
            self._finish(run)
        elif (self._ready or self._running) and run.submit():
            self._running.append(run)
        else:
            run.run()
            self._finish(run)

    def _first_done(self, request: Run | None) -> OpRun:
        while True:
            for run in self._running:
                if all(future.done() for future in run.futures):
                    self._running.remove(run)
                    run.take_results()
                    return run
            waited = [future for run in self._running for future in run.futures if not future.done()]
            if request is None:
                futures.wait(waited, return_when=futures.FIRST_COMPLETED)
            else:
                with request.waiting():
                    futures.wait(waited, return_when=futures.FIRST_COMPLETED)

    def _finish(self, run: OpRun) -> None:
        op = run.op
        self._mark("midp", op)
        output = run.postprocess()
        self._mark("postp", op)
        if op.is_jump_op() and run.jumps(output):
            self._jumps += 1
            if self._jumps > _MOST_JUMPS:
                raise OpError(_UNKNOWN, f"Op {op.name!r} jumped {_MOST_JUMPS} times, which is the most")
            for other in op.get_jump_to_ops():
                self._deliver(op.name, output, in_place_of=other.name)
        else:
            self._deliver(op.name, output)

    def _deliver(self, name: str, output: Mapping[str, Any], in_place_of: str | None = None) -> None:
        """Gives an output to those after its Op, each its own where there are several."""
        place = in_place_of or name
        if place == self._graph.last:
            self._output = output
            return
        consumers = self._graph.consumers[place]
        for number, op in enumerate(consumers):
            given = output if number == len(consumers) - 1 else _own(output)
            inputs = self._inputs.setdefault(op.name, {})
            if in_place_of is not None:
                before = self._last_inputs.get(op.name, {})
                inputs.update({other: value for other, value in before.items() if other != place})
            inputs[name] = given
            if len(inputs) >= len(self._graph.inputs[op.name]):
                self._ready.append(op)

    def _mark(self, stage: str, op: Op) -> None:
        if self._clock is not None:
            self._clock.end(f"{stage}#[{'_'.join(op.name.split())}|0]")


def _own(value: Any) -> Any:
    """The value with containers and arrays of its own."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) is dict:
        return {name: _own(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_own, value))
    return value
