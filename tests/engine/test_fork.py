"""A forked child is told to make an engine of its own, and the parent's goes on."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from exit_processes import PRELUDE, START_SECONDS, finish, start


def test_a_forked_child_is_told_to_make_its_own_engine() -> None:
    process = start(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork
        engine = make(instances=2)
        pending = make(hang).submit([X])
        engine.infer([X])
        for _ in range(3): keep_calling(engine)
        child = os.fork()
        if child == 0:
            for call in (
                lambda: engine.infer([X]), lambda: engine.submit([X]), engine.stats, pending.result,
                lambda: asyncio.run(engine.ainfer([X])), lambda: next(engine.infer_many([[X]])),
            ):
                try:
                    call()
                except paddleinfer.EngineClosed as error:
                    assert "create the engine after the fork" in str(error), error
                else:
                    os._exit(3)
            engine.close()
            assert engine.closed and "forked" in repr(engine)
            with make() as own:
                assert (own.infer([X])["y"] == 2).all()
            del engine
            gc.collect()
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        assert (engine.infer([X])["y"] == 2).all()
        print("child", os.waitstatus_to_exitcode(status), flush=True)
        engine.close()
        """
    )
    stdout, stderr = finish(process, START_SECONDS)
    assert process.returncode == 0 and stdout.strip() == "child 0", (stdout, stderr)


def test_a_child_ends_though_a_thread_of_its_parent_was_about_to_enter_python() -> None:
    process = start(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork
        engine = make()
        sys.setswitchinterval(1000.0)  # the instance waits for the GIL from here on
        pending = engine.submit([X])
        end = time.monotonic() + 0.2
        while time.monotonic() < end: pass
        child = os.fork()
        if child == 0:
            sys.exit(7)
        _, status = os.waitpid(child, 0)
        print("child", os.waitstatus_to_exitcode(status), pending.result()["y"].tolist(), flush=True)
        engine.close()
        """
    )
    stdout, stderr = finish(process, START_SECONDS)
    assert process.returncode == 0 and stdout.strip() == "child 7 [[2.0, 2.0, 2.0]]", (stdout, stderr)


def test_a_child_that_is_forked_during_a_reload_is_told_so_too() -> None:
    process = start(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        gate = threading.Event()
        def waits(feeds):
            started.set()
            gate.wait()
            return {"y": feeds["x"] * 2}
        engine = make(waits)
        pending = engine.submit([X])
        started.wait()
        reloading = threading.Thread(target=engine.reload)
        reloading.start()
        while engine.stats()["generation"] < 2: time.sleep(0.001)
        child = os.fork()
        if child == 0:
            for call in (engine.reload, engine.stats, pending.result, lambda: engine.infer([X])):
                try:
                    call()
                except paddleinfer.EngineClosed as error:
                    assert "create the engine after the fork" in str(error), error
                else:
                    os._exit(3)
            engine.close()
            assert engine.closed
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        gate.set()
        reloading.join()
        assert (pending.result()["y"] == 2).all() and (engine.infer([X])["y"] == 2).all()
        print("child", os.waitstatus_to_exitcode(status), flush=True)
        engine.close()
        """
    )
    stdout, stderr = finish(process, START_SECONDS)
    assert process.returncode == 0 and stdout.strip() == "child 0", (stdout, stderr)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_children_make_their_own_engine(tmp_path: Path, method: str) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        PRELUDE
        + textwrap.dedent(
            f"""
            import multiprocessing, pickle, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            def work(number):
                with make() as own:
                    return float(own.infer([X * number])["y"][0, 0])
            if __name__ == "__main__":
                engine = make()
                engine.infer([X])
                with multiprocessing.get_context("{method}").Pool(2) as pool:
                    print(pool.map(work, [1, 2, 3]))
                try:
                    pickle.dumps(engine)
                except TypeError as error:
                    print("cannot be pickled" in str(error))
                engine.close()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    assert done.returncode == 0 and done.stdout.split("\n")[:2] == ["[2.0, 4.0, 6.0]", "True"], done.stderr
