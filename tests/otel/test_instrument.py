"""Spans of an instrumented engine: of every call, their parents, their contents, and their ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Arrays, engine_of, eventually, gated, merging, rows
from opentelemetry.trace import SpanKind, StatusCode
from otel_helpers import SPAN_ID, TRACE_ID, Recorded, called_from, exceptions, stages, told

import paddleinfer
from paddleinfer.otel import instrument, uninstrument
from paddleinfer.otel.spans import outcome_of

Call = Callable[[paddleinfer.Engine, Any], Any]

CALLS: dict[str, Call] = {
    "infer": lambda engine, x: engine.infer(x),
    "infer with info": lambda engine, x: engine.infer(x, return_info=True)[0],
    "ainfer": lambda engine, x: asyncio.run(ainfer(engine, x)),
    "submit": lambda engine, x: engine.submit(x).result(PATIENCE_S),
    "infer_many": lambda engine, x: next(engine.infer_many([x])),
}
however_called = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
STAGES = ["submit", "queue", "gather", "run", "scatter"]


async def ainfer(engine: paddleinfer.Engine, x: Any) -> Any:
    return await engine.ainfer(x)


def failing(inputs: Arrays) -> Arrays:
    raise ValueError("no good")


@contextlib.contextmanager
def instrumented(*model: Any, **options: Any) -> Iterator[tuple[paddleinfer.Engine, Recorded]]:
    recorded = Recorded()
    with engine_of(*model, **options) as engine:
        instrument(engine, recorded.provider, name="m")
        yield engine, recorded


@however_called
def test_a_request_is_a_span_below_that_of_its_caller(call: Call) -> None:
    with instrumented() as (engine, recorded):
        with called_from(flags=1):
            results = call(engine, [rows(3)])
        np.testing.assert_array_equal(results["y"], rows(3, 2))
        span = recorded.span()
        (run,) = [record for record in engine._tracing.recent()[1] if record.rows == 3]
    assert (span.name, span.kind) == ("infer m", SpanKind.INTERNAL)
    assert span.parent is not None and (span.parent.trace_id, span.parent.span_id) == (TRACE_ID, SPAN_ID)
    assert span.status.status_code is StatusCode.UNSET
    facts = told(span)
    assert facts["run_us"] > 0 and facts["queue_us"] > 0
    expected = {
        **{"model.name": "m", "model.generation": 1, "outcome": "result", "rows": 3, "batch_rows": 3},
        **{"run": run.number, "instance": 0, "bucket": "x: float32[rows, 3]", "padded_share": 0},
        **{"hold_us": 0, "dispatch_reason": run.reason},
    }
    assert {name: facts[name] for name in expected} == expected


@however_called
def test_stages_are_events_at_the_instants_they_began(call: Call) -> None:
    with instrumented() as (engine, recorded):
        call(engine, [rows()])
        call(engine, [rows()])
        first, second = recorded.spans(2)
    assert stages(first) == STAGES and stages(second) == STAGES
    times = {event.name: event.timestamp for event in second.events}
    queue_us = (times["paddleinfer.gather"] - times["paddleinfer.queue"]) / 1e3
    run_us = (times["paddleinfer.scatter"] - times["paddleinfer.run"]) / 1e3
    assert queue_us == pytest.approx(told(second)["queue_us"], abs=0.01)
    assert run_us == pytest.approx(told(second)["run_us"], abs=0.01)
    assert told(second)["predicted_us"] > 0


@however_called
def test_a_request_that_is_not_sampled_makes_no_span(call: Call) -> None:
    with instrumented() as (engine, recorded):
        with called_from(flags=0):
            np.testing.assert_array_equal(call(engine, [rows()])["y"], rows(value=2))
        assert recorded.spans(0) == []


@however_called
def test_a_request_that_failed_is_an_error_and_tells_how_it_ran(call: Call) -> None:
    with instrumented(failing) as (engine, recorded):
        with pytest.raises(paddleinfer.ModelError):
            call(engine, [rows()])
        span = recorded.span()
    assert exceptions(span) == ["paddleinfer.errors.ModelError"]
    assert "no good" in (span.status.description or "")
    assert told(span)["outcome"] == "error" and told(span)["run"] == 1
    stack = dict(span.events[-1].attributes or {})["exception.stacktrace"]
    assert "ValueError: no good" in str(stack)


@however_called
def test_a_request_that_does_not_fit_is_refused(call: Call) -> None:
    with instrumented() as (engine, recorded):
        with pytest.raises(paddleinfer.InvalidInput):
            call(engine, [rows()[0]])
        span = recorded.span()
    assert exceptions(span) == ["paddleinfer.errors.InvalidInput"]
    assert told(span)["outcome"] == "refused" and "run" not in told(span)


def test_requests_that_ran_together_have_the_same_run() -> None:
    recorded = Recorded()
    with merging(max_batch_size=16) as (engine, gate):
        instrument(engine, recorded.provider)
        futures = [engine.submit([rows(value=value)]) for value in range(10)]
        gate.open()
        for future in futures:
            future.result(PATIENCE_S)
        facts = [told(span) for span in recorded.spans(10)]
        later = engine.submit([rows()])
        later.result(PATIENCE_S)
        assert later.info is not None and {fact["run"] for fact in facts} == {later.info.run - 1}
    assert {fact["batch_rows"] for fact in facts} == {10}


def test_what_ends_before_it_runs_is_an_error_unless_it_was_cancelled() -> None:
    recorded = Recorded()
    with gated(max_queue_rows=2) as (engine, _):
        instrument(engine, recorded.provider)
        late = engine.submit([rows()], timeout=0.01)
        assert isinstance(late.exception(PATIENCE_S), paddleinfer.DeadlineExceeded)
        recorded.spans(1)
        cancelled, waiting = engine.submit([rows()]), engine.submit([rows()])
        with pytest.raises(paddleinfer.QueueFull):
            engine.submit([rows()])
        assert cancelled.cancel()
        expired, full, gone = (told(span)["outcome"] for span in recorded.spans(3))
        assert (expired, full, gone) == ("expired", "refused", "cancelled")
        error, refusal, end = recorded.spans(3)
        assert exceptions(error) == ["paddleinfer.errors.DeadlineExceeded"]
        assert exceptions(refusal) == ["paddleinfer.errors.QueueFull"]
        assert exceptions(end) == [] and end.status.status_code is StatusCode.UNSET
        assert not waiting.done()


def test_a_task_that_is_cancelled_ends_its_span() -> None:
    recorded = Recorded()

    async def cancel(engine: paddleinfer.Engine) -> None:
        task = asyncio.create_task(engine.ainfer([rows()]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    with gated() as (engine, _):
        instrument(engine, recorded.provider)
        asyncio.run(cancel(engine))
    assert told(recorded.span())["outcome"] == "cancelled"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (paddleinfer.DeadlineExceeded("late", shed=True), "shed"),
        (paddleinfer.DeadlineExceeded("late"), "expired"),
        (paddleinfer.EngineClosed("closed", accepted=True), "closed"),
        (paddleinfer.EngineClosed("closed"), "refused"),
        (paddleinfer.PaddleInferError("called from inside its own model"), "refused"),
        (KeyboardInterrupt(), "cancelled"),
        (TypeError("a bug"), "error"),
    ],
    ids=repr,
)
def test_an_end_is_called_what_traces_and_metrics_call_it(error: BaseException, outcome: str) -> None:
    assert outcome_of(error) == outcome


def test_a_request_of_a_stream_ends_when_it_did_not_when_it_is_read() -> None:
    with instrumented() as (engine, recorded):
        with called_from(flags=1):
            stream = engine.infer_many([[rows()]] * 3)
        next(stream)
        assert eventually(lambda: engine.stats()["results"] == 3)
        read_ns = time.time_ns()
        next(stream)
        first, second = recorded.spans(2)
        assert first.end_time is not None and second.end_time is not None and second.end_time < read_ns
        stream.close()  # type: ignore[attr-defined]
        third = recorded.spans(3)[-1]
    assert told(third)["outcome"] == "cancelled"
    assert {span.parent.span_id for span in (first, second, third) if span.parent} == {SPAN_ID}


def test_uninstrumenting_takes_everything_back() -> None:
    with instrumented() as (engine, recorded):
        uninstrument(engine)
        engine.infer([rows()])
        assert type(engine) is paddleinfer.Engine and recorded.spans(0) == []
        with pytest.raises(paddleinfer.ConfigError, match="is not instrumented"):
            uninstrument(engine)
        instrument(engine, recorded.provider)
        engine.infer([rows()])
        assert recorded.span().name == "infer double"
        with pytest.raises(paddleinfer.ConfigError, match="instrumented already"):
            instrument(engine)
    with pytest.raises(paddleinfer.ConfigError, match="takes an Engine"):
        instrument(object())  # type: ignore[arg-type]


def test_an_instrumented_engine_that_is_dropped_is_closed() -> None:
    engine = engine_of()
    instrument(engine, Recorded().provider)
    engine.infer([rows()])
    core = engine._generation.core
    dropped = weakref.ref(engine)
    del engine
    assert dropped() is None and eventually(lambda: core.closed)


def test_a_class_of_your_own_keeps_its_methods() -> None:
    class Mine(paddleinfer.Engine):
        def infer(self, inputs: Any, **options: Any) -> Any:
            return super().infer([inputs[0] + 1], **options)

    recorded = Recorded()
    with Mine.from_callable(lambda feeds: feeds["x"], {"x": ("float32", (-1, 3))}, ["y"]) as engine:
        instrument(engine, recorded.provider)
        np.testing.assert_array_equal(engine.infer([rows()])["y"], rows(value=2))
        assert isinstance(engine, Mine) and recorded.span()


@pytest.mark.parametrize("method", ["infer", "ainfer"])
def test_a_model_error_has_the_info_that_was_asked_for(method: str) -> None:
    async def call(engine: paddleinfer.Engine, **options: Any) -> Any:
        if method == "infer":
            return engine.infer([rows()], **options)
        return await engine.ainfer([rows()], **options)

    with engine_of(failing) as engine:
        with pytest.raises(paddleinfer.ModelError) as plain:
            asyncio.run(call(engine))
        with pytest.raises(paddleinfer.ModelError) as asked:
            asyncio.run(call(engine, return_info=True))
    assert plain.value.info is None
    assert asked.value.info is not None and (asked.value.info.run, asked.value.info.rows) == (2, 1)


def test_nothing_traced_means_no_number_of_a_run() -> None:
    with instrumented(trace_requests=0) as (engine, recorded):
        engine.infer([rows()])
        span = recorded.span()
    assert "run" not in told(span) and stages(span) == STAGES
