"""Loads without enough memory get one sentence, and the previous model stays."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.paddle import runtime

X = {"x": np.ones((1, 16), "float32")}


def failing(error: Exception) -> Any:
    def fails(*_: object, **__: object) -> None:
        raise error

    return fails


@pytest.mark.on_paddle
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError("std::bad_alloc"), r"there was not enough memory to load .*mlp-\w+; free some"),
        (MemoryError(), r"there was not enough memory to load .*mlp-\w+; free some"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), r"not enough memory to load .*mlp-\w+; free"),
        (
            RuntimeError("(ResourceExhausted) no room"),
            "Paddle cannot load .* no room; it has not enough memory",
        ),
        (
            RuntimeError("(PreconditionNotMet) libx.so: failed to map segment from shared object"),
            "failed to map segment from shared object; it has not enough memory",
        ),
    ],
)
def test_a_load_without_memory_is_an_error_of_that_kind(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    model = zoo.directory("mlp", zoo.formats[0])
    with paddleinfer.Engine(model, instances=1) as engine:
        with monkeypatch.context() as patched:
            patched.setattr(runtime.Runtime, "_start", failing(error))
            with pytest.raises(paddleinfer.OutOfMemory, match=sentence) as refused:
                paddleinfer.Engine(model, instances=1)
            assert refused.value.__cause__ is error and "\n" not in str(refused.value)
            with pytest.raises(paddleinfer.OutOfMemory, match=f"{sentence}.*; the model .* stays in service"):
                engine.reload()
        engine.infer(X)
        engine.reload()


@pytest.mark.on_paddle
def test_any_other_failure_of_the_system_stays_what_it_is(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(runtime.Runtime, "_start", failing(error))
    with pytest.raises(OSError, match="Input/output error") as raised:
        paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), instances=1)
    assert raised.value is error


def test_a_row_at_load_that_has_no_memory_is_no_fault_of_the_model(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paddleinfer.engine import load_check

    monkeypatch.setattr(load_check, "row_of_numbers", failing(paddleinfer.OutOfMemory("no room")))
    with pytest.raises(paddleinfer.OutOfMemory, match=r"mlp-\w+ cannot run one row .*1x16.*: no room"):
        paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), instances=1)


def test_a_process_that_cannot_be_started_for_want_of_memory_is_an_error_of_that_kind(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = zoo.directory("mlp", zoo.formats[0])  # Paddle's import starts processes, too
    monkeypatch.setattr(subprocess, "Popen", failing(OSError(errno.ENOMEM, "Cannot allocate")))
    with pytest.raises(paddleinfer.OutOfMemory, match="not enough memory to load"):
        paddleinfer.Engine(directory, instances=1, check_load="process")


@pytest.mark.parametrize("more_mib", [2, 12, 40, 120])
def test_with_few_addresses_left_every_call_ends_with_a_result_or_a_sentence(zoo: Zoo, more_mib: int) -> None:
    script = """
        import resource, sys
        import numpy as np
        import paddleinfer

        def ask(what, call):
            try:
                call()
            except paddleinfer.PaddleInferError as error:
                print(what, "refused:", error)
            else:
                print(what, "done")

        path, more = sys.argv[1], int(sys.argv[2]) << 20
        x = {"x": np.ones((1, 16), "float32")}
        engine = paddleinfer.Engine(path, instances=2)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
        ask("infer", lambda: engine.infer(x))
        ask("reload", engine.reload)
        ask("new", lambda: paddleinfer.Engine(path, instances=1).close())
        ask("infer_many", lambda: list(engine.infer_many([x] * 64)))
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        engine.infer(x)
        engine.reload()
        engine.close()
        print("ended")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), zoo.directory("mlp", zoo.formats[0]), str(more_mib)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in said] == ["infer", "reload", "new", "infer_many", "ended"], said
