"""The engine's scheduler on a virtual clock: what happens when, without threads and without waiting."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.config import EngineConfig, option_names
from paddleinfer.errors import ConfigError, ModelError
from paddleinfer.fake_predictor import FakePredictor
from paddleinfer.virtual_requests import Outcome, VirtualBatch, VirtualRequest, VirtualSlice
from paddleinfer.virtual_runs import Steps, VirtualExecution

__all__ = ["VirtualEngine"]

Array = npt.NDArray[Any]

_NS = 1_000_000_000
_DEFAULT_RUN_TIME_S = 0.001
_ELSEWHERE = ("strict_dtypes", "warmup", "pad")  # options of an engine's front, which is not here

# What happens at one instant, in this order.
_RUN_ENDS, _DEADLINE, _ARRIVAL = range(3)
_Event = tuple[int, int, int, Callable[[], None], VirtualRequest | None]


class VirtualEngine:
    """The scheduler that engines use, with a fake predictor on each instance and a clock moved by the test.

    The same calls give the same batches. Requests that arrive at one instant are all there before an instance
    looks. Where requests may share a run is never probed for: they may, unless ``batchable=False``.

    Parameters
    ----------
    predictor
        The model; None takes a millisecond a run.
    **options
        ``instances`` (default: 1), ``default_timeout``, and the options of batching, as of an Engine.

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
        """All that were submitted."""
        self.batches: list[VirtualBatch] = []
        """All that have started."""
        self._sizes = batching.allowed_batch_sizes
        self._wait_when_full = batching.on_full == "wait"
        self._default_timeout = config.default_timeout
        self._scheduler = _ext.Scheduler(
            instances=instances,
            policy=batching.policy,
            max_batch_size=batching.most_rows,
            preferred_batch_sizes=batching.preferred_batch_sizes,
            max_queue_rows=batching.max_queue_rows,
            max_queue_bytes=batching.max_queue_bytes,
            max_hold_us=batching.max_queue_delay_us,
            merging="no" if batching.batchable is False else "yes",
        )
        self._now = 0
        self._events: list[_Event] = []
        self._order = itertools.count()
        self._wake_at: int | None = None
        self._idle = list(range(instances))[::-1]  # the last one is taken first
        self._buckets: dict[tuple[object, ...], int] = {}
        self._hanging: list[tuple[VirtualExecution, Steps]] = []

    @property
    def now(self) -> float:
        """Seconds since the engine began."""
        return self._now / _NS

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
            When it arrives, in seconds on the virtual clock; None is now.
        deadline
            When its result must be there, in seconds on the virtual clock; None: no deadline, or
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
        arrival = self._now if at is None else _ns(at)
        if arrival < self._now:
            raise ValueError(f"at={at!r} has passed: it is {self.now:g} s")
        if priority not in (0, 1, 2):
            raise ValueError(f"priority must be 0, 1 or 2, not {priority!r}")
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
            self._at(arrival, _ARRIVAL, lambda: self._arrive(request, due), request)
        return request

    def cancel(self, request: VirtualRequest) -> bool:
        """Cancels it now, as a future's ``cancel()`` does. False once it has started or ended."""
        if request.outcome is not None or request.started:
            return False
        self._end(request, "cancelled")
        return True

    def advance(self, seconds: float) -> None:
        """Moves the clock, and lets happen what happens meanwhile."""
        if seconds < 0:
            raise ValueError(f"time does not go back by {-seconds!r} s")
        until = self._now + _ns(seconds)
        self._go_on(until)
        self._now = until

    def run_until_idle(self) -> None:
        """Moves the clock as long as anything is to happen: until every request has ended, or hangs.

        Raises
        ------
        AssertionError
            A request was lost: nothing is to happen any more, and it has not ended.
        """
        self._go_on(None)
        lost = [request.number for request in self.requests if request.outcome is None]
        if lost and not self._hanging:
            raise AssertionError(f"requests {lost} have not ended, and nothing is to happen any more")

    def load(self) -> dict[str, float]:
        """What waits and runs now."""
        return self._scheduler.load()

    def __repr__(self) -> str:
        return (
            f"<VirtualEngine at {self.now:g} s: {len(self.requests)} requests, {len(self.batches)} batches>"
        )

    # The clock

    def _at(
        self, time: int, kind: int, action: Callable[[], None], request: VirtualRequest | None = None
    ) -> None:
        """Has `action` called then, unless `request` has ended."""
        heapq.heappush(self._events, (time, kind, next(self._order), action, request))

    def _next_event(self) -> int | None:
        """When the next one is."""
        while self._events:
            time, _, _, _, request = self._events[0]
            if request is None or request.outcome is None:
                return time
            heapq.heappop(self._events)
        return None

    def _go_on(self, until: int | None) -> None:
        hanging, self._hanging = self._hanging, []
        for execution, steps in hanging:
            self._step(execution, steps)
        self._look()
        while True:
            times = [time for time in (self._next_event(), self._wake_at) if time is not None]
            if not times or (until is not None and min(times) > until):
                return
            self._now = min(times)
            while self._next_event() == self._now:
                action = heapq.heappop(self._events)[3]
                action()
            self._look()

    # What happens

    def _arrive(self, request: VirtualRequest, due: int | None) -> None:
        kind = (request.bucket, *((n, a.dtype.str, a.shape[1:]) for n, a in request.inputs.items()))
        admission = self._scheduler.admit(
            request.number,
            self._now,
            rows=request.rows,
            bytes=sum(array.nbytes for array in request.inputs.values()),
            bucket=self._buckets.setdefault(kind, len(self._buckets)),
            deadline=due,
            priority=request.priority,
            wait_when_full=self._wait_when_full,
        )
        if admission not in ("accepted", "waits_for_room"):
            request.refusal = admission
            self._end(request, "refused")
        elif due is not None:
            self._at(max(due, self._now), _DEADLINE, lambda: self._end(request, "expired"), request)

    def _look(self) -> None:
        """Gives the idle instances what there is for them now."""
        self._wake_at = None
        while self._idle:
            ready, wake_at = self._scheduler.plan(self._now)
            if ready < 1:
                self._wake_at = None if wake_at is None else max(wake_at, self._now + 1)
                return
            decision = self._scheduler.next(self._now)
            for number, outcome in decision.late:
                self._end(self.requests[number], "expired" if outcome == "expired" else "shed")
            if decision.number is not None:
                self._start(decision)

    def _start(self, decision: _ext.Batch) -> None:
        batch = VirtualBatch(
            number=len(self.batches),
            slices=[VirtualSlice(self.requests[number], *rows) for number, *rows in decision.slices],
            instance=self._idle.pop(),
            reason=decision.reason,
            started_s=self.now,
            predicted_s=decision.predicted_ns / _NS if decision.predicted_ns > 0 else None,
        )
        self.batches.append(batch)
        for request in batch.requests:
            request.batches.append(batch)
            if request.queue_s is None:
                arrival = _ns(request.arrival_s)
                request.queue_s = (self._now - arrival) / _NS
                if decision.held_since is not None and decision.held_until is not None:
                    request.hold_s = max(0, decision.held_until - max(decision.held_since, arrival)) / _NS
        assert decision.number is not None
        execution = VirtualExecution(self.predictor, batch, decision.number, self._sizes)
        self._step(execution, execution.steps())

    def _step(self, execution: VirtualExecution, steps: Steps) -> None:
        """Lets a batch go on: until its run ends, until it is released, or to its end."""
        for seconds in steps:
            if seconds is None:
                self._hanging.append((execution, steps))
            else:
                self._at(self._now + _ns(seconds), _RUN_ENDS, lambda: self._step(execution, steps))
            return
        self._end_batch(execution)

    def _end_batch(self, execution: VirtualExecution) -> None:
        """As an instance does: it is free before anybody hears of the end."""
        batch = execution.batch
        batch.ended_s = self.now
        runs = [(run.rows, _ns(run.seconds), run.failed, run.out_of_memory) for run in execution.runs]
        self._scheduler.done(execution.number, 0, self._now, runs=runs)
        self._idle.append(batch.instance)
        for piece in batch.slices:
            request = piece.request
            failure = execution.failures.get(piece)
            outputs = execution.outputs.get(piece)
            if request.outcome is not None:
                continue
            if failure is not None:
                request.error = ModelError(f"{type(failure).__name__}: {failure}")
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
        self._scheduler.forget(request.number, self._now)  # what still waits of it


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
        raise ValueError(f"every input needs the same number of rows, at least 1, not {inputs!r}")
    return arrays


def _checked(options: dict[str, Any]) -> EngineConfig:
    config = EngineConfig.from_options(options)
    groups = option_names()
    for name in options:
        if name in _ELSEWHERE or (groups[name] == "runtime" and name != "instances"):
            raise ConfigError(f"{name} has no effect on a virtual engine, which runs the scheduler only")
    return config
