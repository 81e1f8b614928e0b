"""Engines under gevent's monkey-patching, each in a process of its own, which a bound on its time ends."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from engine_helpers import PATIENCE_S, engine_of

import paddleinfer

BEGIN = """
from gevent import monkey
monkey.patch_all()
import faulthandler
faulthandler.dump_traceback_later(120, exit=True)
import asyncio, concurrent.futures, threading, time
import gevent
import numpy as np
import paddleinfer

def rows(count=1, value=1.0):
    return np.full((count, 3), value, "float32")

def double(inputs):
    return {"y": inputs["x"] * 2}

def engine_of(fn=double, **options):
    return paddleinfer.Engine.from_callable(fn, {"x": ("float32", (-1, 3))}, ["y"], **options)

class Gate:
    "A model whose runs wait for it to open: a greenlet does that, which a native wait would stop."

    def __init__(self):
        self.is_open, self.runs = False, 0

    def __call__(self, inputs):
        self.runs += 1
        while not self.is_open:
            time.sleep(0.001)
        return double(inputs)

def open_later(gate):
    def open():
        while gate.runs == 0:
            gevent.sleep(0.001)
        gevent.sleep(0.02)
        gate.is_open = True
    return gevent.spawn(open)

"""

CALLS = {
    "infer": """
        with engine_of(instances=2) as engine:
            jobs = [gevent.spawn(engine.infer, rows(value=n)) for n in range(200)]
            gevent.joinall(jobs, raise_error=True)
            assert [job.value["y"][0, 0] for job in jobs] == [2 * n for n in range(200)]
            results, info = engine.infer(rows(), return_info=True)
            assert results["y"][0, 0] == 2 and info.batch_rows == 1
    """,
    "submit": """
        with engine_of(instances=2) as engine:
            futures = [engine.submit(rows(value=n)) for n in range(200)]
            assert [future.result()["y"][0, 0] for future in futures] == [2 * n for n in range(200)]
            futures = [engine.submit(rows()) for n in range(20)]
            assert len(concurrent.futures.wait(futures).done) == 20
            futures = [engine.submit(rows()) for n in range(20)]
            assert len(list(concurrent.futures.as_completed(futures))) == 20
    """,
    "other greenlets go on": """
        for wait in (
            lambda engine: engine.infer(rows()),
            lambda engine: engine.submit(rows()).result(),
            lambda engine: engine.submit(rows()).exception(timeout=30),
            lambda engine: next(engine.infer_many([rows()])),
            lambda engine: engine.submit(rows()) and engine.close(),
        ):
            gate = Gate()
            with engine_of(gate) as engine:
                opener = open_later(gate)
                wait(engine)
                assert gate.is_open
                opener.join()
    """,
    "callbacks may call the engine": """
        told = []
        engine = engine_of()
        def call(future):
            told.append(engine.infer(future.result()["y"])["y"][0, 0])
        futures = [engine.submit(rows()) for _ in range(20)]
        for future in futures:
            future.add_done_callback(call)
        while len(told) < 20:
            gevent.sleep(0.001)
        assert told == [4] * 20
        engine.submit(rows()).add_done_callback(lambda _: (gevent.sleep(0.01), engine.close()))
        while not engine.closed:
            gevent.sleep(0.001)
        engine.close()
    """,
    "deadlines, cancelling, errors": """
        def fussy(inputs):
            if (inputs["x"] < 0).any():
                raise ValueError("negative")
            return double(inputs)
        with engine_of(fussy) as engine:
            for call in (engine.infer, lambda x: engine.submit(x).result()):
                try:
                    call(rows(value=-1))
                except paddleinfer.ModelError as error:
                    assert isinstance(error.__cause__, ValueError)
                else:
                    raise AssertionError
        gate = Gate()
        with engine_of(gate) as engine:
            running = engine.submit(rows())
            while gate.runs == 0:
                gevent.sleep(0.001)
            waiting = engine.submit(rows())
            assert waiting.cancel() and waiting.cancelled()
            for late in (lambda: engine.infer(rows(), timeout=0.02), lambda: running.result(timeout=0.02)):
                try:
                    late()
                except TimeoutError:
                    pass
                except concurrent.futures.TimeoutError:
                    pass
                else:
                    raise AssertionError
            job = gevent.spawn(engine.infer, rows())
            gevent.sleep(0.02)
            job.kill()  # its request is given up
            assert engine.stats()["queued_requests"] == 0, engine.stats()
            gate.is_open = True
            assert running.result()["y"][0, 0] == 2
    """,
    "a stream": """
        with engine_of(instances=2, max_queue_rows=4) as engine:
            streams = [gevent.spawn(lambda: [float(given["y"][0, 0]) for given in engine.infer_many(
                rows(value=n) for n in range(100))]) for _ in range(15)]
            gevent.joinall(streams, raise_error=True)
            assert all(job.value == [2 * n for n in range(100)] for job in streams)
    """,
    "a full queue": """
        gate = Gate()
        with engine_of(gate, max_queue_rows=2, max_batch_size=1, on_full="wait") as engine:
            jobs = [gevent.spawn(engine.infer, rows(value=n)) for n in range(8)]
            open_later(gate).join()
            gevent.joinall(jobs, raise_error=True)
            assert [job.value["y"][0, 0] for job in jobs] == [2 * n for n in range(8)]
    """,
    "ended while they wait for room": """
        gate = Gate()
        with engine_of(gate, max_queue_rows=1, max_batch_size=1, batchable=False, on_full="wait") as engine:
            running = engine.submit(rows())
            while gate.runs == 0:
                gevent.sleep(0.001)
            waiting = engine.submit(rows())
            ends = []
            def end_soon(call):
                try:
                    with gevent.Timeout(0.05):
                        call(rows())
                except gevent.Timeout as error:
                    ends.append(error)  # which keeps what the call held
            calls = (engine.submit, engine.infer, lambda x: next(engine.infer_many([x])))
            gevent.joinall([gevent.spawn(end_soon, call) for call in calls], raise_error=True)
            assert len(ends) == 3
            assert waiting.cancel()
            while engine.stats()["cancelled"] < 4:  # as there is room, they are given up
                gevent.sleep(0.001)
            gate.is_open = True
            assert running.result() and gate.runs == 1
            for _ in range(4):  # and the hub still hears of ends
                told = []
                engine.submit(rows()).add_done_callback(told.append)
                while not told:
                    gevent.sleep(0.001)
    """,
    "what is refused prints nothing": """
        with engine_of(on_full="wait") as engine:
            for call in (engine.submit, engine.infer, lambda x: next(engine.infer_many([x]))):
                try:
                    call(np.zeros((1, 4), "float32"))
                except paddleinfer.InvalidInput as error:
                    assert "must be 3" in str(error)
                else:
                    raise AssertionError
    """,
    "asyncio": """
        async def main():
            with engine_of() as engine:
                answers = await asyncio.gather(*(engine.ainfer(rows(value=n)) for n in range(50)))
                assert [answer["y"][0, 0] for answer in answers] == [2 * n for n in range(50)]
        asyncio.run(main())
    """,
    "other threads and a dropped engine": """
        engine = engine_of()
        pool = gevent.get_hub().threadpool
        jobs = [pool.spawn(lambda: engine.submit(rows()).result()["y"][0, 0]) for _ in range(20)]
        assert [job.get() for job in jobs] == [2] * 20
        engine.reload()
        assert engine.infer(rows())["y"][0, 0] == 2
        engine.warmup(rows())
        del engine
        began = time.monotonic()
        gevent.sleep(0.01)
    """,
    "the end of the process with requests under way": """
        engine = engine_of(lambda inputs: time.sleep(0.2) or double(inputs))
        futures = [engine.submit(rows()) for _ in range(3)]
    """,
}


def said_by(text: str) -> str:
    """What a process prints that runs this text."""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("call", CALLS)
def test_greenlets_call_an_engine_as_threads_do(call: str) -> None:
    pytest.importorskip("gevent")
    text = (
        BEGIN
        + "".join(line[8:] + "\n" for line in CALLS[call].splitlines())
        + "print('all well', flush=True)\n"
    )
    assert said_by(text) == "all well\n"


def test_a_request_imports_nothing() -> None:
    """Threads that import at once wait for each other, under gevent for ever."""
    text = BEGIN.replace("monkey.patch_all()", "") + textwrap.dedent(
        """
        import sys
        with engine_of(on_full="wait") as engine:
            before = set(sys.modules)
            engine.infer(rows().astype("float64"))
            engine.submit({"x": [[1, 2, 3]]}).result()
            next(engine.infer_many([rows()]))
            print(set(sys.modules) - before)
        """
    )
    assert said_by(text) == "set()\n"


def test_gevent_without_its_monkey_patching_changes_nothing() -> None:
    pytest.importorskip("gevent")
    text = "import gevent\n" + BEGIN.replace("monkey.patch_all()", "")
    text += "with engine_of() as engine:\n    print(engine._generation.green, engine.submit(rows()).inbox)\n"
    assert said_by(text) == "False None\n"


def test_eventlets_monkey_patching_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own account of what it has patched is asked, as its documentation names it."""

    class Patcher:
        @staticmethod
        def is_monkey_patched(module: str) -> bool:
            return module == "thread"

    monkeypatch.setitem(sys.modules, "eventlet.patcher", Patcher)  # type: ignore[arg-type]
    with pytest.raises(paddleinfer.ConfigError, match=r"eventlet.*gevent, asyncio or plain threads"):
        engine_of()
