"""Calls without memory or thread get one clear error, and nothing is kept or lost."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine_helpers import Arrays, Gate, engine_of, eventually, gated, rows

import paddleinfer
from paddleinfer.engine import greenlets, lifecycle


def test_a_model_without_memory_ends_its_request_with_an_error_of_its_own() -> None:
    def fails(_: Arrays) -> Arrays:
        raise MemoryError("no room for 5 GiB")

    with engine_of(fails) as engine:
        with pytest.raises(paddleinfer.OutOfMemory, match="no room for 5 GiB") as caught:
            engine.infer(rows())
        assert isinstance(caught.value, (paddleinfer.ModelError, MemoryError))
        assert isinstance(caught.value.__cause__, MemoryError)


@pytest.mark.parametrize("is_short", [True, False])
def test_a_failure_without_a_reason_is_for_want_of_memory_where_memory_is_short(is_short: bool) -> None:
    script = f"""
        import resource
        import numpy as np
        import paddleinfer

        def fails(feeds):
            raise RuntimeError("std::exception")

        engine = paddleinfer.Engine.from_callable(fails, {{"x": ("float32", (-1, 3))}}, ["y"], check=False)
        if {is_short}:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20), resource.RLIM_INFINITY))
        try:
            engine.infer(np.ones((1, 3), "float32"))
        except paddleinfer.OutOfMemory as error:
            print("out of memory:", error)
        except paddleinfer.ModelError as error:
            print("model error:", error)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        engine.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if is_short:
        assert done.stdout.startswith("out of memory: there was not enough memory to run this request")
    else:
        assert done.stdout.startswith("model error: Paddle gave no reason")


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.fixture
def no_native_threads() -> Iterator[None]:
    """Stacks larger than there are addresses."""
    libc = ctypes.CDLL(None)
    usual, huge = (ctypes.create_string_buffer(256) for _ in range(2))
    assert libc.pthread_getattr_default_np(usual) == 0
    assert libc.pthread_attr_init(huge) == 0
    assert libc.pthread_attr_setstacksize(huge, ctypes.c_size_t(1 << 47)) == 0
    assert libc.pthread_setattr_default_np(huge) == 0
    yield
    assert libc.pthread_setattr_default_np(usual) == 0


def test_futures_without_a_thread_to_tell_of_them_are_refused_and_other_calls_go_on(no_threads: None) -> None:
    with engine_of() as engine:
        with pytest.raises(
            paddleinfer.ThreadStartError, match="no thread could be started for the futures of"
        ):
            engine.submit(rows())
        assert engine.stats()["requests"] == 0
        assert engine.infer(rows())["y"].tolist() == [[2, 2, 2]]


def test_an_instance_without_a_thread_is_a_clear_error_and_leaves_none_behind(
    no_native_threads: None,
) -> None:
    with pytest.raises(paddleinfer.ThreadStartError, match="no thread could be started for instance 0 of"):
        engine_of(instances=2)


def test_a_dropped_engine_is_closed_although_there_is_no_thread_for_it(no_threads: None) -> None:
    with pytest.raises(paddleinfer.ThreadStartError, match="started for a-reaper"):
        greenlets.start_real_thread("a-reaper", print)
    engine = engine_of()
    core = engine._generation.core
    lifecycle.reap(core)
    assert core.closed


def kept_of(engine: paddleinfer.Engine, x: np.ndarray) -> list[weakref.ref[Any]]:
    return [weakref.ref(engine._generation.core), weakref.ref(x)]


def loop_with_a_request(engine: paddleinfer.Engine, x: np.ndarray) -> tuple[asyncio.AbstractEventLoop, Any]:
    """Queued, and unfinished on purpose; its task."""
    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(engine.ainfer(x))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False
    return loop, task


def test_a_loop_closed_with_a_request_under_way_leaves_nothing_once_its_engine_is_closed() -> None:
    kept: list[weakref.ref[Any]] = []
    for _ in range(50):
        with gated() as (engine, gate):
            x = rows()
            loop, task = loop_with_a_request(engine, x)
            assert engine.stats()["requests"] == 2  # one is the gate's
            loop.close()
            kept += kept_of(engine, x)
            gate.open()
            engine.close()
            del engine, gate, loop, x, task
    gc.collect()
    assert [ref() for ref in kept if ref() is not None] == []


def test_a_loop_closed_after_its_engine_leaves_nothing_to_the_collector() -> None:
    with gated() as (engine, gate):
        x = rows()
        loop, task = loop_with_a_request(engine, x)
        gate.open()
        engine.close()  # the loop hears nothing of it any more
        loop.close()
        kept = kept_of(engine, x)
        del engine, gate, loop, x, task
    gc.collect()
    assert [ref() for ref in kept if ref() is not None] == []


def test_a_run_that_outlives_its_engine_gives_its_inputs_back_to_the_next_one() -> None:
    gate = Gate()
    engine = engine_of(gate)
    x = rows()
    future = engine.submit(x)
    gate.wait_entered()
    engine.close(timeout=0)
    with pytest.raises(paddleinfer.EngineClosed):
        future.result()
    core, inputs = kept_of(engine, x)
    del engine, x, future
    assert eventually(
        lambda: (gc.collect(), core() is None)[1]
    )  # the thread of its futures has it until it ends
    gate.open()
    with engine_of() as another:
        assert eventually(lambda: (another.infer(rows()), inputs() is None)[1])
