"""One request's way through the graph: models that can run at the same time are queued together."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Mapping
from typing import Any, Final

import numpy as np

from paddleinfer.serve.run import CURRENT
from paddleinfer.serving.pipeline.errors import CustomExceptionCode, OpError
from paddleinfer.serving.pipeline.graph import Graph
from paddleinfer.serving.pipeline.op import EXECUTOR, Op
from paddleinfer.serving.pipeline.op_run import OpRun, PreparedOp
from paddleinfer.serving.pipeline.waits import Waits
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

    def go(self, unpacked: Mapping[str, Any]) -> Generator[Waits, OpRun, Mapping[str, Any]]:
        """Returns the output of the last Op; where only models are left to run, it yields and waits for one.

        Raises
        ------
        OpError
            An Op ended the request.
        QueueFull, EngineClosed, DeadlineExceeded
            As of the service.
        """
        self._deliver(EXECUTOR, unpacked)
        try:
            while self._output is None:
                request = CURRENT.get()
                if request is not None:
                    request.check()
                if self._ready:
                    self._begin(self._ready.popleft())
                elif self._running:
                    done = yield Waits(self._running)
                    self._running.remove(done)
                    self._finish(done)
                else:
                    raise OpError(_UNKNOWN, "the pipeline ended without an output of its last Op")
        finally:
            for run in self._running:
                run.cancel()
        return self._output

    def _begin(self, op: Op) -> None:
        inputs = self._inputs.pop(op.name)
        if self._graph.has_jumps:
            self._last_inputs[op.name] = inputs
        run = OpRun(self._prepared[op.name], inputs, self._data_id, self._log_id)
        has_model = run.preprocess()
        self._mark("prep", op)
        if not has_model:
            self._finish(run)
        elif run.blocks:
            run.run()
            self._finish(run)
        else:
            self._running.append(run)

    def _finish(self, run: OpRun) -> None:
        op = run.op
        self._mark("midp", op)
        output = run.postprocess()
        self._mark("postp", op)
        if op.is_jump_op() and run.jumps(output):
            self._jumps += 1
            if self._jumps > _MOST_JUMPS:
                raise OpError(_UNKNOWN, f"Op {op.name!r} jumped {_MOST_JUMPS} times, which is the most")
            self._jump(op.name, output, [other.name for other in op.get_jump_to_ops()])
        else:
            self._deliver(op.name, output)

    def _deliver(self, name: str, output: Mapping[str, Any]) -> None:
        """Gives an output to those after its Op, each its own where there are several."""
        if name == self._graph.last:
            self._output = output
            return
        consumers = self._graph.consumers[name]
        for number, op in enumerate(consumers):
            given = output if number == len(consumers) - 1 else _own(output)
            inputs = self._inputs.setdefault(op.name, {})
            inputs[name] = given
            if len(inputs) >= len(self._graph.inputs[op.name]):
                self._ready.append(op)

    def _jump(self, name: str, output: Mapping[str, Any], places: Collection[str]) -> None:
        """Gives an output to those after `places`, once to each; the rest of what they get is as before."""
        if self._graph.last in places:
            self._output = output
            return
        after = (op for place in places for op in self._graph.consumers[place])
        for op in dict.fromkeys(after):
            inputs = self._inputs.setdefault(op.name, {})
            before = self._last_inputs.get(op.name, {})
            inputs.update({other: value for other, value in before.items() if other not in places})
            inputs[name] = _own(output)
            wanted = [other for other in self._graph.inputs[op.name] if other not in places]
            if len(inputs) > len(wanted) and op not in self._ready:
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
