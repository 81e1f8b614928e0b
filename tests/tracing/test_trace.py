"""Traces of an engine account for every request, in a document that keeps the format's rules."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import Gate, double, engine_of, eventually, rows, run_threads
from zoo import Zoo

import paddleinfer
from paddleinfer.tracing.records import TracedRequest
from paddleinfer.tracing.timeline import chrome_trace
from paddleinfer.tracing.validate import check


def call(engine: paddleinfer.Engine, times: int) -> None:
    for _ in range(times):
        engine.infer({"x": rows()})


def test_a_traced_request_s_stages_follow_each_other_from_its_call_to_its_delivery() -> None:
    with engine_of(batchable=True) as engine, engine.trace() as trace:
        run_threads(4, lambda _: call(engine, 50))
        engine.submit({"x": rows(3)}).result()
    assert len(trace.requests) == 201 and trace.lost_requests == 0
    for request in trace.requests:
        assert request.outcome == "result"
        stages = request.stages()
        assert [name for name, _, _ in stages] == [
            *("submit", "queue", "hold", "gather", "run", "scatter", "deliver"),
        ]
        assert stages[0][1] == request.called_ns and stages[-1][2] == request.delivered_ns
        for (_, _, end), (_, begin, _) in pairwise(stages):
            assert begin == end
        assert all(begin <= end for _, begin, end in stages)


def test_the_stages_sum_to_what_the_caller_measures() -> None:
    """Real clock, and the least of many differences, for a call may be interrupted anywhere."""
    with engine_of(lambda inputs: time.sleep(0.005) or double(inputs)) as engine, engine.trace() as trace:
        measured_ns = []
        for _ in range(100):
            begin = time.monotonic_ns()
            engine.infer({"x": rows()})
            measured_ns.append(time.monotonic_ns() - begin)
    differences = [
        measured - sum(end - begin for _, begin, end in request.stages())
        for measured, request in zip(measured_ns, trace.requests, strict=True)
    ]
    assert 0 <= min(differences) <= 0.05 * min(measured_ns)


def test_a_trace_of_many_requests_keeps_the_format_s_rules_and_counts_what_stats_counts(zoo: Zoo) -> None:
    x = np.ones((1, 16), "float32")
    with paddleinfer.Engine(zoo.directory("mlp", "legacy"), instances=2, batchable=True) as engine:
        before = engine.stats()
        with engine.trace() as trace:

            def many(_: int) -> None:
                for _ in range(125):
                    for future in [engine.submit([x]) for _ in range(10)]:
                        future.result()

            run_threads(8, many)
            assert eventually(lambda: engine.stats()["results"] - before["results"] == 10_000)
        after = engine.stats()
    document = json.loads(json.dumps(trace.to_chrome()))
    assert check(document) == []
    assert len(trace.requests) == after["results"] - before["results"] == 10_000
    assert len(trace.runs) == after["executions"] - before["executions"]
    assert sum(run.rows for run in trace.runs) == after["executed_rows"] - before["executed_rows"]
    events = document["traceEvents"]
    assert sum(event["ph"] == "s" for event in events) == 10_000
    assert sum(event["name"] == "batch" for event in events) == len(trace.runs)
    in_runs = {run.number: run.requests for run in trace.runs}
    for request in trace.requests:
        in_runs[request.run] -= 1
    assert set(in_runs.values()) == {0}


def test_a_trace_repeats_nothing_that_has_not_changed() -> None:
    with engine_of(batchable=True) as engine, engine.trace() as trace:
        call(engine, 20)
    events = trace.to_chrome()["traceEvents"]
    assert [event["args"] for event in events if event["ph"] == "C"] == [{"requests": 0}]
    assert all(event.get("args") != {} for event in events)


def test_what_an_engine_did_of_late_is_known_also_when_it_is_closed() -> None:
    with engine_of(trace_requests=5) as engine:
        call(engine, 7)
    activity = engine.recent_activity()
    assert (len(activity.requests), activity.lost_requests) == (5, 2)
    assert check(chrome_trace(activity)) == []


def test_two_engines_in_one_document_keep_their_arrows_apart() -> None:
    with engine_of() as one, engine_of() as other:
        call(one, 3)
        call(other, 4)
        document = chrome_trace(one.recent_activity(), other.recent_activity())
    assert check(document) == []
    assert sum(event["ph"] == "f" for event in document["traceEvents"]) == 7


def test_requests_that_end_otherwise_are_traced_as_such() -> None:
    gate = Gate()
    with engine_of(gate) as engine, engine.trace() as trace:
        running = engine.submit({"x": rows()})
        gate.wait_entered()
        with pytest.raises(paddleinfer.DeadlineExceeded):
            engine.infer({"x": rows()}, timeout=0.01)
        gate.open()
        running.result()
    by_outcome = {request.outcome: request for request in trace.requests}
    assert set(by_outcome) == {"result", "expired"}
    assert [name for name, _, _ in by_outcome["expired"].stages()] == ["submit", "queue"]
    assert check(trace.to_chrome()) == []


def test_a_failed_batch_leaves_each_request_with_the_run_that_was_its_own() -> None:
    def picky(inputs: dict[str, Any]) -> dict[str, Any]:
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return double(inputs)

    with engine_of(picky, batchable=True, max_queue_delay_us=100_000, max_batch_size=4) as engine:
        with engine.trace() as trace:
            futures = [engine.submit({"x": rows(value=value)}) for value in (1.0, 2.0, -1.0, 3.0)]
            errors = [future.exception() for future in futures]
        assert [error is None for error in errors] == [True, True, False, True]
    runs = {run.number: run for run in trace.runs}
    for request in trace.requests:
        assert runs[request.run].failed == (request.outcome == "error")
    assert check(trace.to_chrome()) == []


def test_the_time_of_a_run_that_fails_is_the_run_s() -> None:
    def fail(_: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.02)
        raise ValueError("no")

    with (
        engine_of(fail) as engine,
        engine.trace() as trace,
        pytest.raises(paddleinfer.ModelError) as raised,
    ):
        engine.infer({"x": rows()}, return_info=True)
    (request,), (run,) = trace.requests, trace.runs
    assert run.failed and run.run_end_ns - run.gather_end_ns >= 20_000_000
    assert dict((name, end - begin) for name, begin, end in request.stages())["run"] >= 20_000_000
    assert raised.value.info is not None and raised.value.info.run_us >= 20_000


def test_a_trace_goes_on_over_a_reload(tmp_path: Path) -> None:
    with engine_of() as engine, engine.trace() as trace:
        call(engine, 3)
        engine.reload()
        call(engine, 4)
    assert len(trace.requests) == 7
    trace.save(tmp_path / "trace.json")
    assert check(json.loads((tmp_path / "trace.json").read_text())) == []


def test_a_trace_over_reloads_under_load_is_sound() -> None:
    with engine_of(instances=2) as engine, engine.trace() as trace:
        over = threading.Event()

        def calls() -> None:
            while not over.is_set():
                engine.infer({"x": rows()})

        threads = [threading.Thread(target=calls) for _ in range(6)]
        for thread in threads:
            thread.start()
        for number in range(3):
            assert eventually(lambda number=number: engine.stats()["results"] > 10 * number)
            engine.reload()
        over.set()
        for thread in threads:
            thread.join()
    assert trace.requests and check(trace.to_chrome()) == []


def test_more_requests_than_a_trace_keeps_are_counted_as_lost() -> None:
    with engine_of(trace_requests=0) as engine:
        with engine.trace(max_requests=10) as trace:
            call(engine, 25)
        assert len(trace.requests) == 10 and trace.lost_requests == 15
        assert trace.to_chrome()["otherData"]["lost_requests"] == 15
        call(engine, 5)
        with engine.trace() as empty:
            pass
        assert empty.requests == [] and empty.lost_requests == 0
        assert check(empty.to_chrome()) == []


def test_traces_may_overlap() -> None:
    with engine_of() as engine, engine.trace() as outer:
        call(engine, 2)
        with engine.trace(max_requests=5) as inner:
            call(engine, 3)
        call(engine, 4)
    assert (len(outer.requests), len(inner.requests)) == (9, 3)


def test_a_trace_is_used_once_and_read_at_its_end() -> None:
    with engine_of() as engine:
        trace = engine.trace()
        with trace, pytest.raises(paddleinfer.PaddleInferError, match="once its with block has ended"):
            trace.to_chrome()
        with pytest.raises(paddleinfer.PaddleInferError, match="used once"), trace:
            pass
        for wrong in (0, -1, 1.5, "many", 10**9):
            with pytest.raises(paddleinfer.ConfigError, match="max_requests must be an integer from 1"):
                engine.trace(max_requests=wrong)  # type: ignore[arg-type]


def test_a_request_that_was_never_queued_has_only_its_submission() -> None:
    request = TracedRequest(1, 0, 100, 0, 0, 0, 0, 0, 300, 0, 1, "closed")
    assert request.stages() == [("submit", 100, 300)]
