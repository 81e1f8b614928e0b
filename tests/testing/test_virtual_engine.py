"""The scheduler on a virtual clock, and the fake predictor it drives: the classes behind the fixtures."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paddleinfer
from paddleinfer.testing import FakePredictor, VirtualEngine, VirtualRequest, assert_batches

Make = Callable[..., FakePredictor]


def eager(predictor: FakePredictor | None = None, **options: Any) -> VirtualEngine:
    """Ten milliseconds a run; an idle instance takes what waits."""
    return VirtualEngine(predictor or FakePredictor(run_time_s=0.010), policy="eager", **options)


def outcomes(requests: list[VirtualRequest]) -> list[str | None]:
    return [request.outcome for request in requests]


# Batches and times


def test_requests_of_one_instant_share_a_batch() -> None:
    engine = eager()
    requests = [engine.submit() for _ in range(3)]
    assert outcomes(requests) == [None] * 3 and engine.load()["queued_rows"] == 3
    engine.run_until_idle()
    assert_batches(engine, [[0, 1, 2]])
    assert outcomes(requests) == ["result"] * 3 and engine.now == 0.010
    assert {request.batch for request in requests} == {engine.batches[0]}


def test_what_waits_runs_next_and_says_how_long_it_has_waited() -> None:
    engine = eager()
    first, second = engine.submit(), engine.submit(at=0.004)
    engine.advance(0.003)
    assert_batches(engine, [[0]])
    engine.advance(0.003)
    assert (first.outcome, second.started) == (None, False)
    engine.run_until_idle()
    assert (first.queue_s, first.ended_s, first.dispatch_reason) == (0.0, 0.010, "idle")
    assert (second.queue_s, second.ended_s, second.hold_s) == (0.006, 0.020, 0.0)


def test_a_batch_that_is_full_goes_and_the_rest_waits() -> None:
    engine = eager(max_batch_size=2)
    for _ in range(5):
        engine.submit()
    engine.run_until_idle()
    assert_batches(engine, [[0, 1], [2, 3], [4]])
    assert [batch.reason for batch in engine.batches] == ["full", "full", "idle"]


def test_a_fixed_delay_holds_a_batch_until_it_is_over_or_the_batch_full() -> None:
    engine = VirtualEngine(policy="fixed_delay", max_queue_delay_us=5000, max_batch_size=3)
    held = engine.submit()
    engine.advance(0.0049)
    assert not held.started
    engine.run_until_idle()
    assert (held.hold_s, held.dispatch_reason) == (0.005, "delay_expired")
    filled = [engine.submit(at=1.0), engine.submit(at=1.001), engine.submit(at=1.002)]
    engine.run_until_idle()
    assert [request.hold_s for request in filled] == [0.002, 0.001, 0.0]
    assert filled[0].dispatch_reason == "full"


def test_several_instances_run_at_the_same_time() -> None:
    engine = eager(instances=2, max_batch_size=1)
    for _ in range(3):
        engine.submit()
    engine.run_until_idle()
    assert [(batch.instance, batch.started_s) for batch in engine.batches] == [(0, 0.0), (1, 0.0), (1, 0.010)]
    assert {run.thread for run in engine.predictor.runs} == {"paddleinfer-0", "paddleinfer-1"}


def test_the_default_policy_finds_the_best_size_on_the_way() -> None:
    engine = VirtualEngine(FakePredictor(run_time_s=lambda rows: 0.010 + 0.001 * rows))
    for _ in range(64):
        engine.submit()
    engine.run_until_idle()
    assert_batches(engine, [1, 2, 4, 8, 16, 32, 1])
    assert engine.batches[-1].predicted_s == 0.011


def test_the_more_urgent_class_goes_first() -> None:
    engine = eager(max_batch_size=1)
    for priority in (1, 2, 1, 0):
        engine.submit(priority=priority)
    engine.run_until_idle()
    assert_batches(engine, [[3], [0], [2], [1]])


def test_requests_of_different_buckets_or_shapes_or_of_a_model_that_does_not_merge_run_apart() -> None:
    apart = eager()
    apart.submit(bucket=0), apart.submit(bucket=1), apart.submit(bucket=0)
    shapes = eager()
    shapes.submit(np.zeros((1, 2))), shapes.submit(np.zeros((1, 3))), shapes.submit(np.zeros((1, 2)))
    unmerged = eager(batchable=False)
    unmerged.submit(), unmerged.submit()
    for engine, batches in ((apart, [[0, 2], [1]]), (shapes, [[0, 2], [1]]), (unmerged, [[0], [1]])):
        engine.run_until_idle()
        assert_batches(engine, batches)


def test_a_batch_is_padded_to_an_allowed_size() -> None:
    engine = eager(FakePredictor(run_time_s=lambda rows: rows / 1000), allowed_batch_sizes=(4, 8))
    request = engine.submit(rows=3)
    engine.run_until_idle()
    assert engine.predictor.runs[0].values == [0, 0, 0, 0] and engine.now == 0.004
    assert request.outputs is not None and request.outputs["y"].shape == (3, 1)


def test_a_request_larger_than_a_batch_runs_in_parts_and_is_joined() -> None:
    engine = eager(max_batch_size=4)
    request = engine.submit(np.arange(10.0)[:, None])
    engine.run_until_idle()
    assert [batch.rows for batch in request.batches] == [4, 4, 2] and request.batch is engine.batches[2]
    assert request.outputs is not None
    np.testing.assert_array_equal(request.outputs["y"], request.inputs["x"])


def test_the_same_calls_give_the_same_batches() -> None:
    def history() -> list[object]:
        draw = random.Random(5)
        predictor = FakePredictor(run_time_s=lambda rows: 0.004 + 0.0005 * rows, fail_on=range(0, 500, 17))
        engine = VirtualEngine(predictor, instances=2, max_batch_size=8, max_queue_rows=64)
        at = 0.0
        for _ in range(500):
            at += draw.expovariate(1500)
            deadline = at + draw.uniform(0.002, 0.1) if draw.random() < 0.5 else None
            engine.submit(
                rows=draw.choice([1, 1, 2, 12]), at=at, deadline=deadline, priority=draw.randrange(3)
            )
        engine.advance(0.1)
        for request in engine.requests[::9]:
            engine.cancel(request)
        engine.run_until_idle()
        assert {request.outcome for request in engine.requests} == {
            "result", "error", "cancelled", "expired", "shed", "refused",
        }  # fmt: skip
        return [*map(repr, engine.requests), *map(repr, engine.batches), *map(repr, predictor.runs)]

    assert history() == history()


# Ends


def test_a_failing_batch_is_run_apart_until_only_the_culprit_fails() -> None:
    predictor = FakePredictor(run_time_s=0.010, fail_on=[5])
    engine = eager(predictor)
    requests = [engine.submit() for _ in range(8)]
    engine.run_until_idle()
    assert_batches(engine, [8])
    assert_batches(predictor, [[*range(8)], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]])
    assert outcomes(requests) == ["result"] * 5 + ["error"] + ["result"] * 2
    error = requests[5].error
    assert str(error) == "RuntimeError: the fake predictor fails on a row of 5"
    assert error is not None and error.__cause__ is predictor.runs[5].error
    assert {request.ended_s for request in requests} == {0.070}


def test_a_run_that_fails_by_its_number_is_made_good_by_the_halves() -> None:
    engine = eager(FakePredictor(fail_calls=[0]))
    requests = [engine.submit() for _ in range(2)]
    engine.run_until_idle()
    assert_batches(engine.predictor, [[0, 1], [0], [1]])
    assert outcomes(requests) == ["result"] * 2


def test_the_runs_of_a_failed_batch_teach_the_scheduler_as_others_do() -> None:
    engine = eager(FakePredictor(run_time_s=0.010, fail_on=[0]))
    for _ in range(4):
        engine.submit()
    engine.submit(at=1.0)
    engine.run_until_idle()
    assert [batch.predicted_s for batch in engine.batches] == [None, 0.010]


def test_running_out_of_memory_halves_the_batches_that_follow() -> None:
    def small_only(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if len(inputs["x"]) > 4:
            raise MemoryError("too many rows")
        return {"y": inputs["x"]}

    engine = eager(FakePredictor(small_only, run_time_s=0.010), max_batch_size=8)
    requests = [engine.submit() for _ in range(16)]
    engine.run_until_idle()
    assert_batches(engine, [8, 4, 4])
    assert_batches(engine.predictor, [8, 4, 4, 4, 4])
    assert outcomes(requests) == ["result"] * 16


def test_the_first_part_that_fails_ends_the_request_and_the_others_do_not_run() -> None:
    engine = eager(FakePredictor(fail_calls=[1]), max_batch_size=2)
    request = engine.submit(rows=8)
    engine.run_until_idle()
    assert request.outcome == "error" and request.outputs is None
    assert_batches(engine.predictor, [2, 2])


def test_a_request_expires_at_its_deadline_whether_it_waits_or_runs() -> None:
    engine = eager()
    running, waiting = engine.submit(deadline=0.006), engine.submit(at=0.001, deadline=0.008)
    in_time = engine.submit(at=0.002, deadline=0.020)
    engine.run_until_idle()
    assert outcomes([running, waiting, in_time]) == ["expired", "expired", "result"]
    assert [request.ended_s for request in engine.requests] == [0.006, 0.008, 0.020]
    assert_batches(engine, [[0], [2]])


def test_the_default_timeout_counts_from_the_arrival() -> None:
    engine = eager(default_timeout=0.5)
    assert engine.submit(at=1.0).deadline_s == 1.5 and engine.submit(deadline=0.2).deadline_s == 0.2


def test_what_can_no_longer_be_in_time_is_shed_or_refused() -> None:
    engine = VirtualEngine(FakePredictor(run_time_s=0.010), max_batch_size=1)
    engine.submit(), engine.submit()
    engine.advance(0.010)  # the first has shown how long a run takes, the second runs
    hopeless, tight, patient = engine.submit(deadline=0.015), engine.submit(deadline=0.035), engine.submit()
    urgent = engine.submit(at=0.011, deadline=0.031)
    late = engine.submit(at=0.012, deadline=0.025)
    engine.run_until_idle()
    assert (hopeless.outcome, hopeless.refusal, hopeless.ended_s) == ("shed", None, 0.010)
    assert (late.outcome, late.refusal, late.ended_s) == ("refused", "would_be_late", 0.012)
    assert outcomes([urgent, tight, patient]) == ["result", "shed", "result"]
    assert tight.ended_s == 0.030 and not tight.started


def test_a_full_queue_refuses_or_lets_wait() -> None:
    engine = eager(max_queue_rows=2)
    assert [engine.submit(rows=rows).refusal for rows in (2, 1, 3)] == [
        None,
        "too_many_rows",
        "too_many_rows",
    ]
    patient = eager(max_queue_rows=2, on_full="wait", max_batch_size=2)
    requests = [patient.submit(rows=2), patient.submit(rows=1), patient.submit(deadline=0.001)]
    assert patient.load()["waiting_for_room"] == 2
    patient.run_until_idle()
    assert outcomes(requests) == ["result", "result", "expired"]


def test_cancelling_works_until_the_request_has_started() -> None:
    engine = eager(max_batch_size=1)
    running, waiting, coming = engine.submit(), engine.submit(), engine.submit(at=1.0)
    engine.advance(0.001)
    assert [engine.cancel(request) for request in (running, waiting, waiting, coming)] == [
        False, True, False, True,
    ]  # fmt: skip
    engine.run_until_idle()
    assert outcomes([running, waiting, coming]) == ["result", "cancelled", "cancelled"]
    assert not engine.cancel(running) and engine.load()["queued_rows"] == 0
    assert_batches(engine, [[0]])


def test_a_run_that_hangs_goes_on_when_it_is_released() -> None:
    predictor = FakePredictor(run_time_s=0.010, hang_on=[0])
    engine = eager(predictor, instances=2, max_batch_size=1)
    hung, served, late = engine.submit(), engine.submit(), engine.submit(at=0.002, deadline=0.030)
    engine.run_until_idle()
    assert outcomes([hung, served, late]) == [None, "result", "result"]
    engine.advance(1.0)
    predictor.release()
    engine.run_until_idle()
    assert (hung.outcome, hung.ended_s) == ("result", pytest.approx(1.030))
    predictor.hang()
    again = engine.submit(deadline=engine.now + 0.5)
    engine.run_until_idle()
    assert again.outcome == "expired" and again.ended_s == pytest.approx(1.530)


def test_a_batch_that_is_cut_off_runs_nothing_for_those_who_have_gone() -> None:
    engine = eager(FakePredictor(run_time_s=0.010, fail_calls=[0]))
    gone, stays = engine.submit(deadline=0.005), engine.submit()
    engine.run_until_idle()
    assert outcomes([gone, stays]) == ["expired", "result"]
    assert_batches(engine.predictor, [[0, 1], [1]])


# Misuse


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"instance": 2}, "did you mean instances"),
        ({"max_batch_size": 0}, "max_batch_size must be"),
        ({"onednn": True}, "onednn has no effect on a virtual engine"),
        ({"warmup": True}, "warmup has no effect"),
        ({"strict_dtypes": True}, "strict_dtypes has no effect"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(paddleinfer.ConfigError, match=sentence):
        VirtualEngine(**options)


def test_what_cannot_be_submitted_is_refused_in_a_sentence() -> None:
    engine = eager()
    engine.advance(1.0)
    with pytest.raises(ValueError, match=r"at=0\.5 has passed: it is 1 s"):
        engine.submit(at=0.5)
    with pytest.raises(ValueError, match="priority must be 0, 1 or 2, not 3"):
        engine.submit(priority=3)
    for wrong in (np.zeros((0, 2)), 3.0, {"a": np.zeros(2), "b": np.zeros(3)}):
        with pytest.raises(ValueError, match="the same number of rows"):
            engine.submit(wrong)
    with pytest.raises(ValueError, match="time does not go back"):
        engine.advance(-1.0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"compute": 3}, "compute must be a function, not 3"),
        ({"fail_on": 3}, "fail_on must be a list of numbers, or a function of one row"),
        ({"hang_on": "all"}, "hang_on must be a list"),
        ({"error": "no"}, "error must be a function"),
    ],
)
def test_a_predictor_is_told_what_it_can_do(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(paddleinfer.ConfigError, match=sentence):
        FakePredictor(**arguments)


def test_run_times_and_outputs_that_make_no_sense_are_the_tests_error() -> None:
    engine = eager(FakePredictor(run_time_s=lambda rows: -1.0))
    engine.submit()
    with pytest.raises(paddleinfer.ConfigError, match=r"run_time_s must be .* not -1\.0 for 1 rows"):
        engine.run_until_idle()
    engine = eager(FakePredictor(lambda inputs: inputs["x"].sum()))
    engine.submit()
    with pytest.raises(ValueError, match="compute gave 'y' the shape"):
        engine.run_until_idle()
