"""Diagnoses and their advice, for made-up requests and for engines that are bound on purpose."""

from __future__ import annotations

import json
import time

import pytest
from diagnosis_helpers import US, diagnosed, flood, lone, requests, runs
from engine_helpers import double, engine_of, rows

import paddleinfer
from paddleinfer.engine.warmup import WarmedSize
from paddleinfer.tracing.records import TracedRequest, TracedRun


@pytest.mark.parametrize(
    ("stage", "verdict"),
    [
        ("submit", "communication-bound"),
        ("deliver", "communication-bound"),
        ("queue", "queue-bound"),
        ("run", "computation-bound"),
        ("scatter", "computation-bound"),
    ],
)
def test_the_group_that_takes_most_binds(stage: str, verdict: str) -> None:
    diagnosis = diagnosed(requests(10, **{stage: 500}), runs({1: 500}))
    assert diagnosis.verdict == verdict
    assert f"most of it {stage} (500 us a request)" in diagnosis.evidence
    assert sum(diagnosis.shares.values()) == pytest.approx(1)
    assert diagnosis.advice


def test_what_a_server_adds_counts_as_communication() -> None:
    traced = requests(4, run=100)
    assert diagnosed(traced, runs({1: 100})).verdict == "computation-bound"
    outer_us = {"decode": [80.0] * 4, "encode": [60.0] * 4}
    diagnosis = diagnosed(traced, runs({1: 100}), outer_us=outer_us)
    assert diagnosis.verdict == "communication-bound"
    assert [stage.stage for stage in diagnosis.stages][:2] == ["decode", "submit"]


def warmed(alone_us: dict[int, float], together_us: dict[int, float] | None = None) -> tuple[WarmedSize, ...]:
    """A warm-up that found these times."""
    return tuple(WarmedSize(rows, us, (together_us or alone_us)[rows]) for rows, us in alone_us.items())


def test_the_gain_of_larger_requests_is_what_the_warm_up_has_measured() -> None:
    table = warmed({1: 400, 2: 410, 4: 450, 8: 500, 16: 1100, 32: 2200})
    diagnosis = diagnosed(*lone(20, us=400, apart_us=100), warmed=table)
    advice = diagnosis.advice[0]
    assert advice.change == {"rows": 8} and advice.figure == "rows_per_s"
    assert advice.now == diagnosis.figures["rows_per_s"] == pytest.approx(2000)  # a row each 500 us
    assert advice.predicted == pytest.approx(8 / 600e-6)
    assert advice.gain == pytest.approx(8 / 600e-6 / 2000)
    assert "send 8 rows in a request instead of 1: 13,333 rows per second instead of 2,000" in advice.sentence


def test_a_machine_that_has_become_slower_slows_every_size() -> None:
    table = warmed({1: 400, 32: 1600})
    (advice, *_) = diagnosed(*lone(20, us=800), warmed=table).advice
    assert advice.change == {"rows": 32} and advice.predicted == pytest.approx(32 / 3200e-6, rel=0.01)


def test_one_that_is_faster_than_when_it_was_warmed_up_promises_nothing_of_larger_runs() -> None:
    table = warmed({1: 400, 16: 1500, 32: 1600})
    (advice, *_) = diagnosed(*lone(20, us=200), warmed=table).advice
    assert advice.predicted == pytest.approx(32 / 1600e-6, rel=0.01)


def test_instances_that_are_idle_are_worth_what_running_together_has_shown() -> None:
    times = {1: 9000.0, 2: 18_000.0, 32: 288_000.0}
    together = {rows: 1.5 * us for rows, us in times.items()}
    (advice, *_) = diagnosed(*lone(20, us=9000), instances=2, warmed=warmed(times, together)).advice
    assert advice.change == {"requests": 2}
    assert advice.gain == pytest.approx(2 / 1.5, rel=0.01)
    assert advice.sentence.startswith("keep 2 requests under way instead of 1: ")


def test_instances_that_never_ran_together_promise_no_number_but_a_bound() -> None:
    diagnosis = diagnosed(*lone(20, us=9000), instances=2)
    (advice,) = [one for one in diagnosis.advice if one.change == {"requests": 2}]
    assert advice.predicted is None and advice.gain is None and advice.at_most == pytest.approx(2)
    diagnosis = diagnosed(*flood(64, us=9000, run_rows=8), cores=4)
    (advice,) = [one for one in diagnosis.advice if one.change == {"instances": 4}]
    assert advice.predicted is None and advice.at_most == pytest.approx(4)


def test_more_callers_are_no_advice_where_runs_are_as_short_as_waking_a_thread() -> None:
    diagnosis = diagnosed(*lone(20, us=40), instances=2)
    assert all("requests" not in one.change for one in diagnosis.advice)


def test_a_flood_of_full_runs_wants_a_higher_limit_if_rows_get_cheaper_up_to_it() -> None:
    table = warmed({1: 900, 16: 1000, 32: 1200})
    diagnosis = diagnosed(*flood(640, us=1200, run_rows=32), warmed=table)
    assert diagnosis.verdict == "queue-bound"
    (advice, *_) = diagnosis.advice
    assert advice.change == {"max_batch_size": 64}
    # From 16 to 32 rows a run grew by 200 us, so to 64 by 400.
    assert advice.gain == pytest.approx(64 / 1600 / (32 / 1200), rel=0.01)


def test_a_shorter_queue_waits_as_long_as_its_rows_take() -> None:
    diagnosis = diagnosed(*flood(640, us=1000, run_rows=8), max_batch_size=8)
    advice = next(one for one in diagnosis.advice if one.figure == "queue_us")
    assert advice.change == {"max_queue_rows": 16}
    assert advice.predicted == pytest.approx(16 / diagnosis.figures["rows_per_s"] * 1e6)
    assert advice.now == diagnosis.figures["queue_us"] == pytest.approx(39_500, rel=0.01)


def test_rows_per_second_are_those_of_the_time_in_which_what_is_remembered_ended() -> None:
    made, ran = flood(640, us=1000, run_rows=8)
    whole, last = diagnosed(made, ran), diagnosed(made[320:], ran[40:])
    assert whole.figures["rows_per_s"] == pytest.approx(8000)
    assert last.figures["rows_per_s"] == pytest.approx(8000)


@pytest.mark.parametrize("outer_us", [{}, {"decode": [9000.0] * 640}])
def test_no_request_is_advised_that_the_queue_would_never_take(outer_us: dict[str, list[float]]) -> None:
    table = warmed({1: 400, 2: 410, 4: 420, 8: 430, 16: 440, 32: 450})
    made, ran = lone(640, us=400)
    diagnosis = diagnosed(made, ran, outer_us=outer_us, warmed=table, max_queue_rows=4)
    (advice,) = [one for one in diagnosis.advice if "rows" in one.change]
    assert advice.change == {"rows": 4}
    full = diagnosed(*flood(640, us=400, run_rows=4), max_batch_size=4, max_queue_rows=4)
    assert all("max_batch_size" not in one.change for one in full.advice)


def test_one_whose_parts_keep_every_instance_busy_is_not_told_to_keep_more_under_way() -> None:
    made, ran = [], []
    for number in range(1, 21):
        began, ended = number * 20_000 * US, (number + 1) * 20_000 * US
        times = (began, began, began, began, ended, ended, ended)
        made.append(TracedRequest(number, number, *times, hold_ns=0, rows=16, outcome="result"))
        for part in range(4):
            start = began + part // 2 * 10_000 * US
            end = start + 10_000 * US
            ran.append(TracedRun(number, part % 2, start, start, end, end, 4, 4, 1, 0, "full", False))
    diagnosis = diagnosed(made, ran, instances=2, max_batch_size=4)
    assert all("requests" not in one.change for one in diagnosis.advice)
    half = diagnosed(made, [run for run in ran if run.instance == 0], instances=2, max_batch_size=4)
    assert any("requests" in one.change for one in half.advice)


def test_a_limit_of_which_nothing_larger_has_run_is_to_be_tried_and_bounded_by_the_rows() -> None:
    diagnosis = diagnosed(*flood(64, us=500, run_rows=1), max_batch_size=1)
    (advice,) = [one for one in diagnosis.advice if "max_batch_size" in one.change]
    assert diagnosis.verdict == "queue-bound"
    assert advice.action == "max_batch_size=8 instead of 1" and advice.at_most == 8
    assert advice.predicted is None and advice.gain is None
    few = diagnosed(*flood(64, us=500, run_rows=1), max_batch_size=1, max_queue_rows=2)
    (advice,) = [one for one in few.advice if "max_batch_size" in one.change]
    assert advice.change == {"max_batch_size": 2}
    alone = diagnosed(*flood(64, us=500, run_rows=1), max_batch_size=1, batchable="no")
    assert all("max_batch_size" not in one.change for one in alone.advice)


JSON_US = {"receive": [10.0] * 4, "decode": [600.0] * 4, "encode": [200.0] * 4, "send": [30.0] * 4}


def test_binary_tensors_save_what_json_takes_longer() -> None:
    traced = requests(4, run=60)
    diagnosis = diagnosed(traced, runs({1: 60}), outer_us=JSON_US, binary_us={"decode": 20.0, "encode": 15.0})
    assert diagnosis.verdict == "communication-bound"
    advice = diagnosis.advice[0]
    assert advice.change == {"tensors": "binary"} and advice.figure == "request_us"
    assert advice.now == diagnosis.figures["request_us"] == pytest.approx(905)
    assert advice.predicted == pytest.approx(905 - 580 - 185)
    in_process = diagnosis.advice[1]
    assert in_process.action == "call the engine in process" and in_process.predicted == pytest.approx(65)


def test_requests_that_are_binary_already_are_not_told_of_it() -> None:
    diagnosis = diagnosed(requests(4, run=60), runs({1: 60}), outer_us=JSON_US, batchable="no")
    assert [one.action for one in diagnosis.advice] == ["call the engine in process"]


def test_a_server_s_advice_stays_whichever_group_is_the_largest() -> None:
    found = {}
    for us in (800, 900):
        diagnosis = diagnosed(
            *lone(4, us=us),
            outer_us=JSON_US,
            binary_us={"decode": 590.0, "encode": 15.0},
            warmed=warmed({1: us, 32: 1000}),
        )
        found[diagnosis.verdict] = [one.action for one in diagnosis.advice if one.gain is not None]
    assert set(found) == {"communication-bound", "computation-bound"}
    assert found["communication-bound"] == found["computation-bound"]
    assert found["computation-bound"] == [
        "send 32 rows in a request instead of 1",
        "send binary tensors instead of JSON",
        "call the engine in process",
    ]


def test_requests_to_a_server_that_share_full_runs_gain_nothing_by_more_rows() -> None:
    table = warmed({1: 900, 16: 1000, 32: 1200})
    outer_us = {"decode": [50.0] * 640}
    diagnosis = diagnosed(*flood(640, us=1200, run_rows=32), outer_us=outer_us, warmed=table)
    assert all("rows" not in one.change for one in diagnosis.advice)


def test_small_requests_to_a_server_share_what_each_costs() -> None:
    table = warmed({1: 60, 32: 90})
    diagnosis = diagnosed(
        *lone(4, us=60, apart_us=5),
        outer_us=JSON_US,
        binary_us={"decode": 590.0, "encode": 195.0},
        warmed=table,
    )
    advice = diagnosis.advice[0]
    assert advice.change == {"rows": 32} and advice.figure == "caller_rows_per_s"
    # A run of 32 rows for one of 1, and 15 us of JSON for each further row.
    assert advice.predicted == pytest.approx(32 / (905 - 60 + 90 + 31 * 15) * 1e6, rel=0.01)


def test_the_largest_gain_comes_first_and_what_has_to_be_tried_last() -> None:
    table = warmed({1: 5000, 16: 5000, 32: 5000})
    diagnosis = diagnosed(*flood(640, us=5000, run_rows=32), warmed=table, cores=2, legacy=True)
    gains = [one.gain for one in diagnosis.advice]
    numbered = [gain for gain in gains if gain is not None]
    assert gains[: len(numbered)] == numbered and len(numbered) < len(gains)
    stays = [one for one in diagnosis.advice if one.gain and one.figure == "rows_per_s"]
    assert [one.gain for one in stays] == sorted((one.gain or 0 for one in stays), reverse=True)


def test_no_number_is_made_up_for_a_gpu_and_for_graph_passes() -> None:
    diagnosis = diagnosed(requests(5, run=100), runs({1: 100}), legacy=True, batchable="no")
    passes, gpu = diagnosis.advice
    assert passes.change == {"ir_optim": True} and "without graph passes" in passes.sentence
    assert gpu.action == "a GPU, or more cores"
    # Of 105 us the run is 100, and gathering and scattering are 2 more.
    assert passes.predicted is None and passes.at_most == pytest.approx(105 / 5)
    assert gpu.predicted is None and gpu.at_most == pytest.approx(105 / 3)
    on_gpu = diagnosed(requests(5, run=100), runs({1: 100}), max_batch_size=1, device=("gpu:0",))
    assert all("GPU" not in one.action for one in on_gpu.advice)


def test_sizes_that_nobody_has_run_are_to_be_warmed_up() -> None:
    diagnosis = diagnosed(*lone(20, us=400))
    assert "engine.warmup()" in diagnosis.advice[0].action and diagnosis.advice[0].gain is None
    assert "what runs of more rows than 1 would gain" in diagnosis.advice[0].sentence


def test_who_asks_a_server_is_told_its_own_option_for_warming_up() -> None:
    advice = diagnosed(*lone(20, us=400), outer_us={"decode": [5.0] * 20}).advice
    assert "start the server with --warmup and diagnose again" in [one.action for one in advice]
    assert "engine.warmup()" not in str(advice)


def test_one_request_is_spoken_of_as_one() -> None:
    diagnosis = diagnosed(*lone(1, us=400))
    assert "of the time of 1 request is" in diagnosis.evidence
    assert "what larger runs would gain is not known" in diagnosis.advice[0].sentence


def test_requests_without_a_result_are_counted_by_how_they_ended() -> None:
    made, ran = lone(10, us=400)
    expired = [request._replace(outcome="expired", run=0) for request in made[:3]]
    shed = [request._replace(outcome="shed", run=0) for request in made[3:4]]
    nothing = diagnosed(expired + shed, [])
    assert nothing.verdict == "unknown" and nothing.requests == 0
    assert nothing.evidence == "of 4 requests recorded none had a result: 3 expired, 1 shed"
    assert str(nothing) == f"unknown: {nothing.evidence}"
    some = diagnosed(expired + shed + made[4:], ran[4:])
    assert some.evidence.endswith("; of 10 requests recorded these had no result: 3 expired, 1 shed")
    assert "recorded" not in diagnosed(made, ran).evidence


def test_a_rate_is_said_to_be_that_of_the_time_with_requests_under_way() -> None:
    (advice, *_) = diagnosed(*lone(20, us=400), warmed=warmed({1: 400, 32: 1600})).advice
    assert "rows per second instead of 2,500, while any request is under way, " in advice.sentence


def test_it_is_plain_data_for_json() -> None:
    document = json.loads(json.dumps(diagnosed(*lone(20, us=400)).as_dict()))
    assert {"action", "change", "figure", "now", "predicted", "gain", "at_most", "sentence"} == set(
        document["advice"][0]
    )
    assert document["advice"][0]["figure"] in document["figures"]


def test_nothing_is_known_before_the_first_result_and_without_records() -> None:
    with engine_of() as engine:
        assert engine.diagnose().verdict == "unknown" and "no request" in str(engine.diagnose())
    with (
        engine_of(trace_requests=0) as engine,
        pytest.raises(paddleinfer.ConfigError, match="trace_requests=0"),
    ):
        engine.diagnose()


def test_a_flooded_engine_is_queue_bound_and_a_slow_lone_model_computation_bound() -> None:
    """Real clock: the model sleeps, so that the shares are far apart."""

    def slow(inputs: dict[str, object]) -> object:
        time.sleep(0.02)
        return double(inputs)  # type: ignore[arg-type]

    with engine_of(slow, batchable=False) as engine:
        for _ in range(30):  # where one is kept from its core for long, the others tell
            engine.infer({"x": rows()})
        assert engine.diagnose().verdict == "computation-bound"
    with engine_of(slow, batchable=False) as engine:
        futures = [engine.submit({"x": rows()}) for _ in range(60)]
        for future in futures:
            future.result()
        diagnosis = engine.diagnose()
    assert diagnosis.verdict == "queue-bound" and diagnosis.requests == 60
    assert "queue" in diagnosis.evidence
