"""Each end that a caller sees is counted under its name, even a timeout that no run could have met."""

from __future__ import annotations

import asyncio
import collections
import re
import threading
import time
from collections.abc import Callable

import pytest
from engine_helpers import PATIENCE_S, Arrays, Gate, double, engine_of, rows

import paddleinfer

ENDS = ("results", "errors", "cancelled", "expired", "shed", "closed")


def end_seen(call: Callable[[], object]) -> str:
    """The counter of ``stats()`` that this call's end belongs to, as far as its caller can tell."""
    try:
        call()
    except paddleinfer.QueueFull:
        return "refused"
    except paddleinfer.DeadlineExceeded as error:
        return "shed" if error.shed else "expired"
    except paddleinfer.Cancelled:
        return "cancelled"
    except paddleinfer.ModelError:
        return "errors"
    except paddleinfer.EngineClosed as error:
        return "closed" if error.accepted else "nothing"
    return "results"


def test_each_end_is_counted_as_its_caller_sees_it() -> None:
    gate = Gate()

    def model(inputs: Arrays) -> Arrays:
        if (inputs["x"] == -2).any():
            raise ValueError("no")
        return gate(inputs)

    seen: list[str] = []
    with engine_of(model, max_queue_rows=2, batchable=False) as engine:
        running = engine.submit({"x": rows()})
        gate.wait_entered()
        cancelled = [engine.submit({"x": rows()}) for _ in range(2)]
        seen.append(end_seen(lambda: engine.infer({"x": rows()})))
        for future in cancelled:
            future.cancel()
            seen.append(end_seen(future.result))
        late = engine.submit({"x": rows()}, timeout=0.01)
        seen.append(end_seen(late.result))
        gate.open()
        seen.append(end_seen(running.result))
        seen.append(end_seen(lambda: engine.infer({"x": rows(value=-2)})))
        gate.shut()
        hanging, queued = engine.submit({"x": rows()}), engine.submit({"x": rows()})
        gate.wait_entered()
        engine.close(timeout=0.01)
        seen += [end_seen(hanging.result), end_seen(queued.result)]
        seen.append(end_seen(lambda: engine.infer({"x": rows()})))
        gate.open()
    ends = [
        "refused",
        "cancelled",
        "cancelled",
        "expired",
        "results",
        "errors",
        "closed",
        "closed",
        "nothing",
    ]
    assert seen == ends
    stats = engine.stats()
    assert {end: stats[end] for end in (*ENDS, "refused")} == {
        end: seen.count(end) for end in (*ENDS, "refused")
    }


def slow(inputs: Arrays) -> Arrays:
    time.sleep(0.02)
    return double(inputs)


@pytest.mark.parametrize("method", ["infer", "submit", "ainfer", "infer_many"])
def test_a_timeout_that_no_run_can_meet_ends_as_such_and_says_what_one_takes(method: str) -> None:
    methods: dict[str, Callable[[paddleinfer.Engine], object]] = {
        "infer": lambda engine: engine.infer({"x": rows()}, timeout=0.015),
        "submit": lambda engine: engine.submit({"x": rows()}, timeout=0.015).result(),
        "ainfer": lambda engine: asyncio.run(engine.ainfer({"x": rows()}, timeout=0.015)),
        "infer_many": lambda engine: list(engine.infer_many([{"x": rows()}], timeout=0.015)),
    }
    with engine_of(slow) as engine:
        for _ in range(20):
            engine.infer({"x": rows()})
        ends, sentences = collections.Counter[str](), []
        for _ in range(20):
            with pytest.raises(TimeoutError) as caught:
                methods[method](engine)
            assert isinstance(caught.value, paddleinfer.DeadlineExceeded)
            ends["shed" if caught.value.shed else "expired"] += 1
            if caught.value.shed:
                sentences.append(str(caught.value))
        stats = engine.stats()
    # Where this machine lets time pass between calls, one may find out again.
    assert ends["shed"] > 0 and {end: stats[end] for end in ("shed", "expired")} == {
        end: ends[end] for end in ("shed", "expired")
    }
    assert stats["refused"] == 0 and stats["requests"] == sum(stats[end] for end in ENDS) == 40
    needs = re.fullmatch(
        r"dropped before it ran: no result could be there within 0\.015 s, "
        r"because it is predicted to take (\S+) s",
        sentences[0],
    )
    assert needs is not None and float(needs[1]) >= 0.02


def test_a_cold_first_run_does_not_make_an_idle_engine_refuse() -> None:
    cold = threading.Event()

    def model(inputs: Arrays) -> Arrays:
        time.sleep(0.0 if cold.is_set() else 3 * 0.2)
        cold.set()
        return double(inputs)

    with engine_of(model) as engine:
        engine.infer({"x": rows()})
        assert end_seen(lambda: engine.infer({"x": rows()}, timeout=0.2)) != "shed"
        assert end_seen(lambda: engine.infer({"x": rows()}, timeout=PATIENCE_S)) == "results"
        assert engine.stats()["refused"] == engine.stats()["shed"] == 0
