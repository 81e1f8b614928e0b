"""Files that change between the check, the read by Paddle, and what is made of them later."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import assert_close
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.paddle import runtime
from paddleinfer.errors import ModelLoadError
from paddleinfer.models.file_states import FileState, refuse_changed, settled_states

Change = Callable[[Path], None]


def rewrite(path: Path) -> None:
    """In place: the same file, of the same size, with other bytes."""
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes((last[0] ^ 1,)))


def rewrite_and_set_back(path: Path) -> None:
    """With the times that it had."""
    before = path.stat()
    rewrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    os.replace(copy, path)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def remove(path: Path) -> None:
    path.unlink()


CHANGES = [rewrite, rewrite_and_set_back, replace, lengthen, remove]


@pytest.fixture
def model(zoo: Zoo, tmp_path: Path) -> Path:
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), tmp_path / "model")
    return tmp_path / "model"


def files_of(model: Path) -> list[Path]:
    return [state.path for state in paddleinfer.models.reader.load_spec(model).files]


def before_paddle_reads(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Once the files are checked."""
    prepare = runtime.prepare

    def prepared(*arguments: Any) -> Any:
        made = prepare(*arguments)
        change()
        return made

    monkeypatch.setattr(runtime, "prepare", prepared)


def after_paddle_read(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """While the last instance is made."""
    start = runtime.Runtime._start

    def started(self: Any, core: Any) -> None:
        start(self, core)
        change()

    monkeypatch.setattr(runtime.Runtime, "_start", started)


WHEN = [before_paddle_reads, after_paddle_read]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("when", WHEN)
def test_a_model_whose_files_change_while_it_is_loaded_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch, change: Change, place: int, when: Any
) -> None:
    path = files_of(model)[place]
    when(monkeypatch, lambda: change(path))
    what = "was removed" if change is remove else "changed"
    with pytest.raises(ModelLoadError, match=f"{path} {what} while the model was loaded"):
        paddleinfer.Engine(model, instances=1)


@pytest.mark.parametrize("driver", ["native", "python"])
@pytest.mark.parametrize("when", WHEN)
def test_a_reload_of_files_that_change_is_refused_and_the_model_before_stays(
    model: Path, monkeypatch: pytest.MonkeyPatch, driver: str, when: Any
) -> None:
    with paddleinfer.Engine(model, instances=1, driver=driver) as engine:
        before = engine.infer({"x": np.ones((1, 16), "float32")})
        path = files_of(model)[1]
        with monkeypatch.context() as patched:
            when(patched, lambda: rewrite(path))
            with pytest.raises(ModelLoadError, match=r"changed while .* stays in service"):
                engine.reload()
        assert engine.generation == 1
        assert_close(engine.infer({"x": np.ones((1, 16), "float32")}), before)
        engine.reload()
        assert engine.generation == 2


def test_files_that_change_while_they_are_checked_are_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files_of(model)[0]
    read = paddleinfer.models.reader.read_whole

    def read_and_change(*arguments: Any) -> bytes:
        data = read(*arguments)
        rewrite(path)
        return data

    monkeypatch.setattr(paddleinfer.models.reader, "read_whole", read_and_change)
    with pytest.raises(ModelLoadError, match="changed while the model was read"):
        paddleinfer.models.reader.load_spec(model)


def test_a_change_within_a_step_of_the_kernel_s_clock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a")
    changed_ns = path.stat().st_ctime_ns
    now_ns, slept_s = [changed_ns + 5_000_000], []

    def sleep(seconds: float) -> None:
        slept_s.append(seconds)
        now_ns[0] += round(seconds * 1e9)

    assert settled_states([path], lambda: now_ns[0], sleep) == (FileState.of(path),)
    assert slept_s == [pytest.approx(0.015)]
    # Nothing is waited for where the change is old, or of a clock that is ahead.
    settled_states([path], lambda: changed_ns + 10**9, sleep)
    settled_states([path], lambda: changed_ns - 10**9, sleep)
    assert settled_states([], lambda: 0, sleep) == ()
    assert len(slept_s) == 1


def test_a_file_that_stays_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a")
    refuse_changed([FileState.of(path)], "loaded")
    path.read_bytes()
    os.utime(path, ns=(0, path.stat().st_mtime_ns))  # reading it, seen later
    states = [FileState.of(path)]
    path.read_bytes()
    refuse_changed(states, "loaded")


@pytest.mark.parametrize("change", CHANGES)
def test_every_way_of_a_change_shows(tmp_path: Path, change: Change) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    states = settled_states([path])
    change(path)
    with pytest.raises(
        ModelLoadError, match=f"{path} was removed" if change is remove else f"{path} changed"
    ):
        refuse_changed(states, "loaded")
