"""Models that reloads have replaced leave their counters, and no memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from ended_requests import assert_all_ended, instance_threads
from engine_helpers import PATIENCE_S, double, engine_of, eventually, rows, run_threads
from reload_helpers import versioned
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.processors import resident_memory_bytes
from paddleinfer.engine.statistics import OUTCOMES, StatisticsAggregator

# Counters


def test_counters_never_fall_and_none_is_missing() -> None:
    ends = ("requests", "rows", "results", "executions", "executed_rows", "run_ns", "queue_ns", "generation")
    with engine_of(instances=2, max_batch_size=8) as engine:
        over = threading.Event()
        called = [0] * 4

        def work(number: int) -> None:
            if number == 0:
                for _ in range(20):
                    engine.reload()
                over.set()
            elif number == 1:
                before = engine.stats()
                while not over.is_set():
                    now = engine.stats()
                    assert all(now[name] >= before[name] for name in ends), (before, now)
                    before = now
            else:
                while not over.is_set():
                    engine.infer(rows(number))
                    called[number] += 1

        run_threads(4, work)
        stats = engine.stats()
        assert stats["generation"] == 21
        assert stats["results"] == stats["requests"] == sum(called)
        assert stats["rows"] == 2 * called[2] + 3 * called[3]
        assert sum(size * runs for size, runs in stats["batch_rows"].items()) == stats["executed_rows"]
        assert_all_ended(engine)


class Counted:
    """The counters of a core."""

    def __init__(self, requests: int, results: int, queued: int) -> None:
        self.counters = {"requests": requests, "results": results, "queued_requests": queued}

    def stats(self) -> dict[str, Any]:
        return {**dict.fromkeys(OUTCOMES, 0), **self.counters, "batch_rows": {1: self.counters["results"]}}


def test_a_closed_core_counts_until_its_last_end_is_counted() -> None:
    statistics = StatisticsAggregator()
    old: Any = Counted(requests=3, results=2, queued=1)
    present: Any = Counted(requests=10, results=9, queued=1)
    kept = weakref.ref(old)
    statistics.add(old)
    statistics.add(present)
    statistics.retire(old)
    assert statistics.stats()["results"] == 11 and statistics.stats()["queued_requests"] == 2
    old.counters.update(results=3, queued_requests=0)
    del old
    stats = statistics.stats()
    assert kept() is None
    assert (stats["requests"], stats["results"], stats["batch_rows"]) == (13, 12, {1: 12})
    assert statistics.stats() == stats and stats["queued_requests"] == 1


# Memory


def test_an_old_generation_is_let_go_of_at_once() -> None:
    gc.disable()  # nothing may be left to the collector
    try:
        with versioned(pad=()) as (engine, _):
            engine.submit(rows()).result(PATIENCE_S)
            old = engine._generation
            kept = [weakref.ref(old), weakref.ref(old.core)]
            del old
            engine.reload()
            assert [ref() for ref in kept] == [None, None]
            assert engine.stats()["results"] == 2
    finally:
        gc.enable()


def test_a_dropped_engine_that_was_reloaded_is_closed() -> None:
    before = instance_threads()
    engine = engine_of(double, instances=2)
    engine.reload()
    del engine
    assert eventually(lambda: instance_threads() <= before)


def test_many_reloads_take_no_more_memory_than_a_few(zoo: Zoo) -> None:
    directory = zoo.directory("wide", zoo.formats[-1])  # 88 MB of weights
    x = np.ones((4, 512), "float32")
    with paddleinfer.Engine(directory, instances=2) as engine:
        threads = instance_threads()
        sizes = []
        for _ in range(20):
            assert engine.infer([x]) and engine.submit([x]).result(PATIENCE_S)
            engine.reload()
            gc.collect()
            sizes.append(resident_memory_bytes())
        assert eventually(lambda: instance_threads() <= threads)
    assert min(sizes[15:]) < 1.05 * max(sizes[:5]), f"MiB after each reload: {[size >> 20 for size in sizes]}"


@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_generation_leaves_no_holes_when_it_goes(zoo: Zoo, driver: str) -> None:
    script = """
        import sys
        import numpy as np
        import paddleinfer
        from paddleinfer.backends.processors import resident_memory_bytes

        x = np.ones((4, 512), "float32")
        sizes = []
        with paddleinfer.Engine(sys.argv[1], instances=2, driver=sys.argv[2]) as engine:
            for _ in range(12):
                engine.submit([x]).result()
                engine.reload()
                sizes.append(resident_memory_bytes() >> 20)
        print(*sizes)
    """
    directory = zoo.directory("wide", zoo.formats[0])  # 88 MB of weights
    arguments = [sys.executable, "-c", textwrap.dedent(script), str(directory), driver]
    told = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
    sizes = [int(size) for size in told.split()]
    assert max(sizes) - min(sizes) < 44, f"MiB after each reload: {sizes}"
