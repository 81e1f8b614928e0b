"""Runs the engine's scheduler on a virtual clock, without threads and without waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.config import EngineConfig, option_names
from paddleinfer.errors import ConfigError, ModelError
from paddleinfer.sentences import shown
from paddleinfer.testing.fake_predictor import FakePredictor
from paddleinfer.testing.virtual_requests import Outcome, VirtualBatch, VirtualRequest, VirtualSlice
from paddleinfer.testing.virtual_runs import Steps, VirtualExecution, failure_text
from paddleinfer.virtual_clock import Happening, VirtualClock

__all__ = ["VirtualEngine"]

Array = npt.NDArray[Any]

_NS = 1_000_000_000
_DEFAULT_RUN_TIME_S = 0.001
_ELSEWHERE = ("strict_dtypes", "warmup", "pad")  # options of an engine's other parts, which are missing here


class VirtualEngine:
    """The scheduler that engines use, with a fake predictor on each instance and a clock moved by the test.

    The same calls give the same batches. Requests that arrive at one instant are all queued before an
    instance looks. Nothing is probed: requests may share runs unless ``batchable=False``.

    Parameters
    ----------
    predictor
        The model; the default takes a millisecond for a run.
    **options
        ``instances`` (default: 1), ``default_timeout``, and an Engine's options of batching.

    Raises
    ------
    ConfigError
        An option is out of range, or has no effect here.
    """

    def __init__(self, predictor: FakePredictor | None = None, **options: Any) -> None:
        config = _checked(options)
        batching = config.batching
        instances = 1 if config.runtime.instances == "auto" else config.runtime.instances
        self.predictor = predictor or FakePredictor(run_time_s=_DEFAULT_RUN_TIME_S)
        self.requests: list[VirtualRequest] = []
        """All requests that were submitted."""
        self.batches: list[VirtualBatch] = []
        """All batches that have started."""
        self._sizes = batching.allowed_batch_sizes
        self._wait_when_full = batching.on_full == "wait"
        self._default_timeout = config.default_timeout
        self._scheduler = _ext.Scheduler(
            batching,
            instances=instances,
            merging="no" if batching.batchable is False else "yes",
        )
        self._clock = VirtualClock(self._scheduler, instances, self._start, self._drop)
        self._buckets: dict[tuple[object, ...], int] = {}
        self._hanging: list[tuple[VirtualExecution, Steps]] = []

    @property
    def now(self) -> float:
        """Seconds since the engine began."""
        return self._clock.now / _NS

    def submit(
        self,
        inputs: Mapping[str, npt.ArrayLike] | npt.ArrayLike | None = None,
        *,
        rows: int = 1,
        at: float | None = None,
        deadline: float | None = None,
        priority: int = 1,
        bucket: int = 0,
    ) -> VirtualRequest:
        """Submits one request.

        Parameters
        ----------
        inputs
            A dict of arrays with the rows first, or one array for "x". None: `rows` rows that each hold the
            number of the request.
        at
            The time of its arrival, in seconds on the virtual clock; None is now.
        deadline
            The time by which it needs its result, in seconds on the virtual clock; None: no deadline, or
            ``default_timeout`` after its arrival.
        priority
            0, 1 or 2, the most urgent first.
        bucket
            Requests of one bucket may share a batch if their shapes beyond the rows and their dtypes agree.

        Raises
        ------
        ValueError
            It would arrive in the past, or the inputs have no rows.
        """
        arrival = self._clock.now if at is None else _ns(at)
        if arrival < self._clock.now:
            raise ValueError(f"at={shown(at)} has passed: it is {self.now:g} s")
        if isinstance(priority, bool) or priority not in (0, 1, 2):
            raise ValueError(f"priority must be 0, 1 or 2, not {shown(priority)}")
        number = len(self.requests)
        arrays = _arrays(inputs, rows, number)
        due = None if deadline is None else _ns(deadline)
        if due is None and self._default_timeout is not None:
            due = arrival + _ns(self._default_timeout)
        request = VirtualRequest(
            number=number,
            inputs=arrays,
            rows=len(next(iter(arrays.values()))),
            arrival_s=arrival / _NS,
            deadline_s=None if due is None else due / _NS,
            priority=priority,
            bucket=bucket,
        )
        self.requests.append(request)
        if at is None:
            self._arrive(request, due)
        else:
            self._clock.at(arrival, Happening.ARRIVAL, lambda: self._arrive(request, due), request.has_ended)
        return request

    def cancel(self, request: VirtualRequest) -> bool:
        """Cancels a request, as a future's ``cancel()`` does; False if it has started or ended."""
        if request.outcome is not None or request.started:
            return False
        self._end(request, "cancelled")
        return True

    def advance(self, seconds: float) -> None:
        """Moves the clock, and runs the events of that time."""
        if seconds < 0:
            raise ValueError(f"time does not go back by {shown(-seconds)} s")
        until = self._clock.now + _ns(seconds)
        self._go_on(until)
        self._clock.now = until

    def run_until_idle(self) -> None:
        """Moves the clock until no event is left: every request has ended, or hangs.

        Raises
        ------
        AssertionError
            A request was lost: no event is left, and it has not ended.
        """
        self._go_on(None)
        lost = [request.number for request in self.requests if request.outcome is None]
        if lost and not self._hanging:
            raise AssertionError(f"requests {lost} have not ended, and nothing is to happen any more")

    def load(self) -> dict[str, float]:
        """Returns what waits and runs now."""
        return self._scheduler.load()

    def __repr__(self) -> str:
        return (
            f"<VirtualEngine at {self.now:g} s: {len(self.requests)} requests, {len(self.batches)} batches>"
        )

    def _go_on(self, until: int | None) -> None:
        hanging, self._hanging = self._hanging, []
        for execution, steps in hanging:
            self._step(execution, steps)
        self._clock.run(until)

    # Events

    def _arrive(self, request: VirtualRequest, due: int | None) -> None:
        kind = (request.bucket, *((n, a.dtype.str, a.shape[1:]) for n, a in request.inputs.items()))
        admission = self._scheduler.admit(
            request.number,
            self._clock.now,
            rows=request.rows,
            bytes=sum(array.nbytes for array in request.inputs.values()),
            bucket=self._buckets.setdefault(kind, len(self._buckets)),
            deadline=due,
            priority=request.priority,
            wait_when_full=self._wait_when_full,
        )
        if admission == "infeasible":
            self._end(request, "shed")
        elif admission not in ("accepted", "waits_for_room"):
            request.refusal = admission
            self._end(request, "refused")
        elif due is not None:
            self._clock.at(
                max(due, self._clock.now),
                Happening.DEADLINE,
                lambda: self._end(request, "expired"),
                request.has_ended,
            )

    def _drop(self, number: int, how: str) -> None:
        self._end(self.requests[number], "expired" if how == "expired" else "shed")

    def _start(self, decision: _ext.Batch, instance: int) -> None:
        batch = VirtualBatch(
            number=len(self.batches),
            slices=[VirtualSlice(self.requests[number], *rows) for number, *rows in decision.slices],
            instance=instance,
            reason=decision.reason,
            started_s=self.now,
            predicted_s=decision.predicted_ns / _NS if decision.predicted_ns > 0 else None,
        )
        self.batches.append(batch)
        for request in batch.requests:
            request.batches.append(batch)
            if request.queue_s is None:
                arrival = _ns(request.arrival_s)
                request.queue_s = (self._clock.now - arrival) / _NS
                if decision.delayed_since is not None and decision.delayed_until is not None:
                    request.hold_s = (
                        max(0, decision.delayed_until - max(decision.delayed_since, arrival)) / _NS
                    )
        assert decision.number is not None
        execution = VirtualExecution(self.predictor, batch, decision.number, self._sizes)
        self._step(execution, execution.steps())

    def _step(self, execution: VirtualExecution, steps: Steps) -> None:
        """Continues a batch: until its run ends, until it is released, or to its end."""
        for wait_ns in steps:
            if wait_ns is None:
                self._hanging.append((execution, steps))
            else:
                self._clock.at(
                    self._clock.now + wait_ns,
                    Happening.RUN_ENDS,
                    lambda: self._step(execution, steps),
                )
            return
        self._end_batch(execution)

    def _end_batch(self, execution: VirtualExecution) -> None:
        """Ends a batch as an instance does: it is free before anybody hears of the end."""
        batch = execution.batch
        batch.ended_s = self.now
        self._scheduler.done(execution.number, 0, self._clock.now, runs=execution.runs)
        self._clock.free(batch.instance)
        for piece in batch.slices:
            request = piece.request
            failure = execution.failures.get(piece)
            outputs = execution.outputs.get(piece)
            if request.outcome is not None:
                continue
            if failure is not None:
                request.error = ModelError(failure_text(failure))
                request.error.__cause__ = failure
                request.outputs = None
                self._end(request, "error")
            elif outputs is not None:
                request.keep(outputs, piece.first_row)
                request.rows_done += piece.rows
                if request.rows_done == request.rows:
                    self._end(request, "result")

    def _end(self, request: VirtualRequest, outcome: Outcome) -> None:
        request.outcome = outcome
        request.ended_s = self.now
        self._scheduler.forget(request.number, self._clock.now)  # its parts that still wait


def _ns(seconds: float) -> int:
    return round(seconds * _NS)


def _arrays(inputs: Any, rows: int, number: int) -> dict[str, Array]:
    if inputs is None:
        inputs = {"x": np.full((rows, 1), number, "float32")}
    elif not isinstance(inputs, Mapping):
        inputs = {"x": inputs}
    arrays = {name: np.array(array) for name, array in inputs.items()}
    counts = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"every input needs the same number of rows, at least 1, not {shown(inputs)}")
    return arrays


def _checked(options: dict[str, Any]) -> EngineConfig:
    config = EngineConfig.from_options(options)
    groups = option_names()
    for name in options:
        if name in _ELSEWHERE or (groups[name] == "runtime" and name != "instances"):
            raise ConfigError(f"{name} has no effect on a virtual engine, which runs the scheduler only")
    return config
