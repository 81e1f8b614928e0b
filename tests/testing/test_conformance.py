"""A virtual engine and a real one do the same with the same script: who shares a run, and why it went then.

The scripts are such that the scheduler goes by what waits, and not by what it has measured: there is no
adaptive policy, no deadline, one priority, and nothing else beside a request in parts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Arrays
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import paddleinfer
from paddleinfer.testing import FakePredictor, VirtualEngine
from paddleinfer.testing.fake_predictor import PredictorRun

FAILS = (3.0, 4.0, 11.0)
STEP_S = 1e-6  # of the virtual clock: no two requests arrive at one instant
LONG_US = 3_600_000_000


class Stepwise(FakePredictor):
    """Its runs hang until they are let through, the one that began first before the others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._let_through = 0
        self._moves = threading.Condition()

    @property
    def hanging(self) -> int:
        """How many do."""
        return len(self.runs) - self._let_through

    def let_one_through(self) -> None:
        with self._moves:
            self._let_through += 1
            self._moves.notify_all()

    def hangs(self, run: PredictorRun) -> bool:
        return run.number >= self._let_through

    def __call__(self, inputs: Arrays) -> Any:
        run = self.begin(inputs, threading.current_thread().name)
        with self._moves:
            assert self._moves.wait_for(lambda: not self.hangs(run), PATIENCE_S)
        return self.end(run)


@dataclass(frozen=True)
class Submit:
    """A request comes."""

    rows: int = 1
    columns: int = 1
    """Only requests of as many share a run."""


@dataclass(frozen=True)
class Finish:
    """The run that began first ends, if any runs."""


@dataclass(frozen=True)
class Cancel:
    """The caller of a request wants it no more."""

    number: int


Step = Submit | Finish | Cancel


@dataclass
class Outcomes:
    """What became of the requests of a script."""

    runs: list[list[float]] = field(default_factory=list)
    """The first number of each row that the model saw, run by run."""
    ended: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    """Request -> how it ended, and why its batch went when it went."""


def inputs_of(number: int, step: Submit) -> np.ndarray[Any, Any]:
    return np.full((step.rows, step.columns), number, "float32")


def virtually(script: Sequence[Step], predictor: Stepwise, **options: Any) -> Callable[[], Outcomes | None]:
    """Plays one step at each call, in a virtual engine; None: the script is over."""
    engine = VirtualEngine(predictor, **options)
    steps = iter(script)

    def play() -> Outcomes | None:
        step = next(steps, None)
        if step is None:
            if predictor.hanging == 0:
                return None
            step = Finish()
        engine.advance(STEP_S)
        if isinstance(step, Submit):
            engine.submit(inputs_of(len(engine.requests), step))
        elif isinstance(step, Cancel):
            if step.number < len(engine.requests):
                engine.cancel(engine.requests[step.number])
        elif predictor.hanging:
            predictor.let_one_through()
        engine.advance(0)
        ended = {
            request.number: (request.outcome, request.dispatch_reason)
            for request in engine.requests
            if request.outcome is not None
        }
        return Outcomes(sorted(run.values for run in predictor.runs), ended)

    return play


def really(
    script: Sequence[Step], predictor: Stepwise, engine: paddleinfer.Engine
) -> Callable[[], Callable[[], Outcomes]]:
    """Plays one step at each call, in an engine; gives what looks at it."""
    steps = iter(script)
    futures: list[paddleinfer.InferFuture | None] = []

    def end_of(future: paddleinfer.InferFuture | None) -> tuple[str, str | None]:
        if future is None:
            return "refused", None
        if future.cancelled():
            return "cancelled", None
        info = future.info
        reason = None if info is None else info.dispatch_reason
        return "result" if future.exception() is None else "error", reason

    def look() -> Outcomes:
        ended = {
            number: end_of(future) for number, future in enumerate(futures) if future is None or future.done()
        }
        return Outcomes(sorted(run.values for run in predictor.runs), ended)

    def play() -> Callable[[], Outcomes]:
        step = next(steps, Finish())
        if isinstance(step, Submit):
            try:
                futures.append(engine.submit({"x": inputs_of(len(futures), step)}))
            except paddleinfer.QueueFull:
                futures.append(None)
        elif isinstance(step, Cancel):
            future = futures[step.number] if step.number < len(futures) else None
            if future is not None:
                future.cancel()
        elif predictor.hanging:
            predictor.let_one_through()
        return look

    return play


def comes_to(look: Callable[[], Outcomes], wanted: Outcomes) -> bool:
    end = time.monotonic() + PATIENCE_S / 2
    while (found := look()) != wanted and time.monotonic() < end:
        time.sleep(0.0005)
    return found == wanted


def conform(script: Sequence[Step], fails: bool = False, **options: Any) -> Outcomes:
    """Both play the script, step by step; gives what came of it in both."""
    makes = {"fail_on": FAILS} if fails else {}
    mirrored, real = Stepwise(**makes), Stepwise(**makes)
    last = Outcomes()
    with paddleinfer.Engine.from_callable(
        real, {"x": ("float32", (-1, -1))}, ["y"], batchable=True, verify_every=0, **options
    ) as engine:
        try:
            play, expected = really(script, real, engine), virtually(script, mirrored, **options)
            while (wanted := expected()) is not None:
                look = play()
                assert comes_to(look, wanted), (look(), wanted)
                last = wanted
        finally:
            for _ in range(1000):
                real.let_one_through()
    return last


OPTIONS: dict[str, dict[str, Any]] = {
    "eager": {"policy": "eager", "max_batch_size": 4},
    "two instances": {"policy": "eager", "max_batch_size": 4, "instances": 2},
    "preferred sizes": {"policy": "eager", "max_batch_size": 8, "preferred_batch_sizes": [2, 6]},
    "allowed sizes": {"policy": "eager", "max_batch_size": 8, "allowed_batch_sizes": [2, 5]},
    "a full batch": {"policy": "fixed_delay", "max_queue_delay_us": LONG_US, "max_batch_size": 3},
    "no delay": {"policy": "fixed_delay", "max_queue_delay_us": 0, "max_batch_size": 3},
    "few rows may wait": {"policy": "eager", "max_batch_size": 4, "max_queue_rows": 6, "on_full": "raise"},
}
STEPS = st.one_of(
    st.builds(Submit, rows=st.integers(1, 3), columns=st.integers(1, 2)),
    st.builds(Submit),
    st.just(Finish()),
    st.builds(Cancel, number=st.integers(0, 8)),
)


def test_what_waits_behind_a_run_shares_the_next() -> None:
    done = conform([Submit(), Submit(), Submit(2), Submit(columns=2)], **OPTIONS["eager"])
    assert done.runs == [[0.0], [1.0, 2.0, 2.0], [3.0]]
    assert done.ended == {number: ("result", "idle") for number in range(4)}


def test_a_request_of_more_rows_than_a_batch_runs_in_parts() -> None:
    done = conform([Submit(), Submit(6)], **OPTIONS["eager"])
    assert [len(run) for run in done.runs] == [1, 2, 4]
    assert done.ended[1] == ("result", "idle")


def test_a_batch_that_fails_runs_in_halves_until_only_the_culprit_is_left() -> None:
    done = conform([Submit(), *[Submit()] * 4], fails=True, **OPTIONS["eager"])
    assert done.runs == [[0.0], [1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [3.0], [3.0, 4.0], [4.0]]
    assert [done.ended[number][0] for number in range(5)] == ["result", "result", "result", "error", "error"]


@pytest.mark.parametrize("named", OPTIONS)
@pytest.mark.parametrize("fails", [False, True])
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(script=st.lists(STEPS, min_size=2, max_size=14))
def test_both_engines_do_the_same(named: str, fails: bool, script: list[Step]) -> None:
    conform(script, fails, **OPTIONS[named])
