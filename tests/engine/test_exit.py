"""The ends of a process: interpreter exit and Ctrl-C. Each in a process of its own, on the real clock."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from exit_processes import START_SECONDS, finish, start, wait_for
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.paddle.installed import import_paddle

# Together; PADDLEINFER_EXIT_RUNS=200 is the long form.
EXIT_RUNS = int(os.environ.get("PADDLEINFER_EXIT_RUNS", "20"))


EXITS = {
    "in a global": "engine = make(); engine.infer([X]); leave()",
    "in a cycle": "class C: pass\nc = C(); c.engine = make(); c.c = c; c.engine.infer([X]); leave()",
    "in a callback": """
        engine = make()
        future = engine.submit([X])
        future.add_done_callback(lambda f: engine.stats())
        leave()
    """,
    "with daemon threads inside infer": """
        engine = make(instances=2)
        for _ in range(8): keep_calling(engine)
        started.wait(); leave()
    """,
    "with daemon threads that wait": """
        engine = make(hang)
        for _ in range(4): keep_calling(engine)
        started.wait(); leave()
    """,
    "with two hung functions": """
        engines = [make(hang), make(hang)]
        futures = [engine.submit([X]) for engine in engines]
        started.wait(); leave()
    """,
    "with submits pending": "engine = make(); futures = [engine.submit([X]) for _ in range(500)]; leave()",
    "with an event loop in a daemon thread": """
        engine = make(instances=2)
        async def ask():
            while True: await engine.ainfer([X])
        async def main():
            await asyncio.gather(*(ask() for _ in range(8)))
        threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
        started.wait(); leave()
    """,
    "with an event loop that was never closed": """
        engine = make(hang)
        loop = asyncio.new_event_loop()
        task = loop.create_task(engine.ainfer([X]))
        while not started.is_set(): loop.run_until_complete(asyncio.sleep(0.001))
        leave()
    """,
    "in the middle of infer_many": """
        engine = make()
        results = engine.infer_many([X] for _ in iter(int, 1))
        next(results); leave()
    """,
    "with a daemon thread that waits for room": """
        engine = make(hang, max_queue_rows=1, on_full="wait")
        for _ in range(3): keep_calling(engine)
        started.wait(); leave()
    """,
    "in the middle of a reload": """
        engine = make(hang)
        future = engine.submit([X])
        started.wait()
        threading.Thread(target=engine.reload, daemon=True).start()
        while engine.stats()["generation"] < 2: time.sleep(0.001)
        leave()
    """,
    "in a function that goes on": """
        def busy(feeds):
            started.set()
            while True: pass
        engine = make(busy, instances=2)
        futures = [engine.submit([X]) for _ in range(8)]
        started.wait(); leave()
    """,
    "with functions that end after their engines": """
        gate, all_in = threading.Event(), threading.Barrier(9)
        def waits(feeds):
            all_in.wait()
            gate.wait()
            return {"y": feeds["x"]}
        engines = [make(waits) for _ in range(8)]
        futures = [engine.submit([X]) for engine in engines]
        all_in.wait()
        for engine in engines: engine.close(drain=False, timeout=0)
        gate.set(); leave()
    """,
    "in a function's last words": """
        class Model:
            def __call__(self, arrays):
                return arrays
            def close(self):
                started.set()
                while True: time.sleep(0.001)
        from paddleinfer.backends import callables
        callables._opener = lambda fn, spec: lambda instance: Model()
        engine = make()
        engine.infer([X])
        engine.close(timeout=0)
        started.wait(); leave()
    """,
    "by sys.exit inside with": "with make() as engine:\n    engine.infer([X]); leave(); sys.exit(0)",
}
PADDLE_EXITS = {
    "with Paddle and daemon threads": """
        x = [np.ones((1, 16), "float32")]
        engine = paddleinfer.Engine(sys.argv[1], onednn=False, instances=2)
        keep_calling(engine, x)
        keep_calling(engine, x)
        for _ in range(50): engine.infer(x)
        leave()
    """,
    "with Paddle and a thread that reloads": """
        engine = paddleinfer.Engine(sys.argv[1], instances=2)
        def reload():
            while True: engine.reload()
        threading.Thread(target=reload, daemon=True).start()
        keep_calling(engine, [np.ones((1, 16), "float32")])
        while engine.stats()["generation"] < 3: time.sleep(0.001)
        leave()
    """,
    "with Paddle in a global": """
        engine = paddleinfer.Engine(sys.argv[1], instances=2)
        engine.infer([np.ones((1, 16), "float32")]); leave()
    """,
    "with Paddle through Python": """
        x = [np.ones((1, 16), "float32")]
        engine = paddleinfer.Engine(sys.argv[1], driver="python", instances=2)
        keep_calling(engine, x)
        for _ in range(20): engine.infer(x)
        leave()
    """,
}


def noise_free(stderr: str) -> list[str]:
    """Lines that are not glog's."""
    return [line for line in stderr.splitlines() if line and line[:1] not in "IW" and "ccache" not in line]


@pytest.mark.parametrize("kind", EXITS)
def test_an_interpreter_with_a_running_engine_exits_cleanly(kind: str) -> None:
    for _ in range(max(1, EXIT_RUNS // (len(EXITS) + len(PADDLE_EXITS)))):
        process = start(EXITS[kind])
        wait_for(process, "leaving")
        _, stderr = finish(process)
        assert process.returncode == 0, stderr
        assert "Fatal" not in stderr and "terminate called" not in stderr, stderr


def export_loop(directory: Path, format: str) -> Path:
    """Adds one until there are a million: that takes minutes."""
    paddle = import_paddle()

    class Loop(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return paddle.static.nn.while_loop(lambda y: paddle.max(y) < 1e6, lambda y: [y + 1], [x * 1])[0]

    paddleinfer.export(Loop(), directory, inputs={"x": ("float32", (-1, 3))}, format=format)
    return directory


@pytest.mark.parametrize("place", ["instance", "caller"])
def test_an_exit_does_not_pull_paddle_away_under_a_run_that_goes_on(
    zoo: Zoo, tmp_path: Path, place: str
) -> None:
    loop = export_loop(tmp_path / "loop", zoo.formats[0])
    process = start(
        f"""
        engine = paddleinfer.Engine(sys.argv[1], onednn=False, inline=True, instances=2, check=False)
        engine.infer([X * 1e6])
        if {place == "instance"}:
            futures = [engine.submit([X]) for _ in range(2)]
        else:
            keep_calling(engine)
        while not engine.stats()["running_executions"]: time.sleep(0.001)
        leave()
        sys.exit(7)
        """,
        str(loop),
    )
    wait_for(process, "leaving")
    _, stderr = finish(process, START_SECONDS)
    assert process.returncode == 7, stderr


@pytest.mark.parametrize("kind", PADDLE_EXITS)
def test_an_interpreter_with_a_running_paddle_model_exits_cleanly(zoo: Zoo, kind: str) -> None:
    directory: Path = zoo.directory("mlp", "legacy")
    for _ in range(max(1, EXIT_RUNS // (len(EXITS) + len(PADDLE_EXITS)))):
        process = start(PADDLE_EXITS[kind], str(directory))
        wait_for(process, "leaving")
        _, stderr = finish(process)
        assert process.returncode == 0, stderr
        assert not [line for line in noise_free(stderr) if "Fatal" in line or "terminate" in line], stderr


def test_an_exception_that_nobody_caught_ends_the_process_with_one() -> None:
    process = start("engine = make(); engine.infer([X]); raise SystemExit('no more')")
    _, stderr = finish(process, START_SECONDS)
    assert process.returncode == 1 and "no more" in stderr


# Ctrl-C


INTERRUPTED = {
    "infer": "engine.infer([X])",
    "a future's result": "engine.submit([X]).result()",
    "infer_many": "list(engine.infer_many([[X]]))",
    "ainfer": "asyncio.run(engine.ainfer([X]))",
    "infer, for room": "fill(); engine.infer([X])",
    "submit, for room": "fill(); engine.submit([X])",
    "close": "futures = [engine.submit([X])]; started.wait(); engine.close(timeout=None)",
}


@pytest.mark.parametrize("waiting", INTERRUPTED)
def test_ctrl_c_ends_the_wait(waiting: str) -> None:
    process = start(
        f"""
        gate = threading.Event()
        def hang(feeds):
            started.set()
            gate.wait()
            return {{"y": feeds["x"] * 2}}
        engine = make(hang, instances=2, max_queue_rows=1, on_full="wait")
        held = []
        def fill():
            while engine.stats()["running_executions"] < 2 or engine.stats()["queued_rows"] < 1:
                held.append(engine.submit([X]))
                while len(held) < 3 and engine.stats()["queued_rows"]: time.sleep(0.001)
        def watch():
            started.wait()
            while {waiting == "close"} and not engine.closed:
                time.sleep(0.001)
            while {"room" in waiting} and not engine.stats()["requests_waiting_for_room"]:
                time.sleep(0.001)
            time.sleep(0.2)  # Python misses a signal between its last look and a blocking call of asyncio's
            print("hanging", flush=True)
        threading.Thread(target=watch, daemon=True).start()
        try:
            {INTERRUPTED[waiting]}
        except KeyboardInterrupt:
            print("interrupted", engine.stats()["cancelled"], flush=True)
        gate.set()
        if not engine.closed:
            print((engine.infer([X], timeout=30)["y"] == 2).all())
        engine.close()
        """
    )
    wait_for(process, "hanging")
    process.send_signal(signal.SIGINT)
    stdout, stderr = finish(process)
    assert process.returncode == 0, stderr
    cancelled = 0 if waiting in ("a future's result", "close") else 1
    expected = [f"interrupted {cancelled}"] + ([] if waiting == "close" else ["True"])
    assert stdout.split("\n")[:-1] == expected, stderr
