"""Loads that another process tries first, so that a program that crashes Paddle ends that one."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S
from zoo import Zoo

import paddleinfer
from paddleinfer.config import EngineConfig
from paddleinfer.engine import load_trial
from paddleinfer.engine.opening import Opening, end_openings, opening
from paddleinfer.errors import ConfigError, EngineClosed, ModelLoadError
from paddleinfer.models import columns
from paddleinfer.sentences import MOST_CHARACTERS

# What stands for a child: it reads its order, says that it begins, and does this.
IMPORTS = "import os, pickle, signal, sys, time; "
CHILD = (
    f"{IMPORTS}read = sys.stdin.buffer; pickle.load(read); order = pickle.load(read); "
    "os.write(order[2], b'!'); "
)


def tried(child: str, **options: Any) -> None:
    load_trial.try_load("model", EngineConfig(), Opening(), child=CHILD + child, **options)


@pytest.mark.parametrize(
    ("child", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "with SIGSEGV"),
        ("os.abort()", "with SIGABRT"),
        ("os._exit(7)", "with the exit code 7"),
        ("os._exit(0)", "with the exit code 0"),
    ],
)
def test_a_process_that_a_model_ends_is_a_refusal_of_the_model(child: str, how: str) -> None:
    with pytest.raises(
        ModelLoadError, match=f"model ended the process that tried to load it {how}; its program .* damaged"
    ):
        tried(child)


@pytest.mark.parametrize(
    ("number", "how"),
    [
        ("SIGTERM", "with SIGTERM from outside; that"),
        ("SIGINT", "with SIGINT from outside; that"),
        ("SIGHUP", "with SIGHUP from outside; that"),
        ("SIGKILL", "with SIGKILL from outside, as the system does where memory is short; that"),
        ("SIGRTMIN + 3", r"with signal \d+ from outside; that"),
    ],
)
def test_a_process_that_somebody_else_ends_says_nothing_of_the_model(number: str, how: str) -> None:
    child = (  # which may have inherited that it is ignored
        f"number = signal.{number}; number == signal.SIGKILL or signal.signal(number, signal.SIG_DFL); "
        "os.kill(os.getpid(), number); time.sleep(1000)"
    )
    with pytest.raises(ModelLoadError, match=f"tried to load model was ended {how}") as refusal:
        tried(child)
    assert "damaged" not in str(refusal.value) and "load it again" in str(refusal.value)


@pytest.mark.parametrize("child", ["raise MemoryError", "os.kill(os.getpid(), signal.SIGSEGV)"])
def test_a_process_that_ends_before_it_begins_says_nothing_of_the_model(child: str) -> None:
    with pytest.raises(ModelLoadError, match=r"model cannot be tried in another process .*before it began"):
        load_trial.try_load("model", EngineConfig(), Opening(), child=IMPORTS + child)


def test_without_an_interpreter_to_start_a_model_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    for executable in (None, "", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(ModelLoadError, match="model cannot be tried in another process"):
            tried("")


def test_a_process_that_does_not_come_back_is_ended() -> None:
    with pytest.raises(ModelLoadError, match=r"was not loaded within 0\.5 s by the process that tried it"):
        tried("time.sleep(1000)", longest_s=0.5)


def test_what_the_process_was_refused_with_is_raised_here() -> None:
    with pytest.raises(ConfigError, match="a sentence"):
        tried('os.write(order[2], b\'["ConfigError", "a sentence"]\')')
    tried("os.write(order[2], b'[null, \"\"]')")


def test_a_sentence_that_no_pipe_holds_comes_shortened() -> None:
    with pytest.raises(ModelLoadError, match=r"x\.\.\.$") as raised:
        load_trial.try_load("x" * 100_000, EngineConfig(), Opening())
    assert len(str(raised.value)) == MOST_CHARACTERS


def test_what_a_process_writes_beside_its_answer_is_of_no_effect() -> None:
    tried("print('banner' * 100_000); os.write(2, b'x' * 100_000); os.write(order[2], b'[null, \"\"]')")


def test_an_ended_load_ends_the_process(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    child = f"{CHILD}open({str(started)!r}, 'w').close(); time.sleep(1000)"
    load = Opening()

    def end() -> None:
        started.open().close()  # until the child is there
        load.end()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(EngineClosed, match="load of the model was ended"):
        load_trial.try_load("model", EngineConfig(), load, child=child)
    ending.join(PATIENCE_S)
    with pytest.raises(EngineClosed):
        load_trial.try_load("model", EngineConfig(), load, child=child)


def test_all_loads_of_a_process_can_be_ended() -> None:
    with opening() as first, opening() as second:
        first.check()
        end_openings()
        for one in (first, second):
            with pytest.raises(EngineClosed):
                one.check()
    with opening() as third:
        third.check()


def test_a_load_that_ends_while_it_waits_raises_after_its_step() -> None:
    load, ended = Opening(), []
    with pytest.raises(EngineClosed), load.ended_by(lambda: ended.append(True)):
        load.end()
    assert ended == [True]


# With Paddle


@pytest.mark.parametrize("place", ["constructor", "reload"])
def test_a_sound_model_is_tried_and_loaded(zoo: Zoo, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    tries = []
    try_load = load_trial.try_load

    def counted(*arguments: Any) -> None:
        try_load(*arguments)
        tries.append(arguments[0])

    monkeypatch.setattr(load_trial, "try_load", counted)
    directory = zoo.directory("mlp", zoo.formats[0])
    options: Any = {"check_load": "process"} if place == "constructor" else {}
    with paddleinfer.Engine(directory, instances=1, **options) as engine:
        if place == "reload":
            assert not tries
            engine.reload(check_load="process")
        assert len(tries) == 1
        engine.infer({"x": np.ones((1, 16), "float32")})
        expected = "process" if place == "constructor" else "auto"
        assert engine.effective_config()["check_load"]["value"] == expected


@pytest.mark.on_paddle
def test_a_model_that_crashes_paddle_is_refused_in_a_sentence(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = (
        f"{CHILD}import paddleinfer.backends.paddle.runtime as runtime; "
        "runtime.Runtime._start = lambda *_: os.kill(os.getpid(), signal.SIGSEGV); "
        "from paddleinfer.engine.engine import Engine; Engine(order[0], order[1])"
    )
    try_load = load_trial.try_load
    monkeypatch.setattr(load_trial, "try_load", lambda *arguments: try_load(*arguments, child=crash))
    directory = zoo.directory("mlp", zoo.formats[0])
    with paddleinfer.Engine(directory, instances=1) as engine:
        with pytest.raises(ModelLoadError, match=r"with SIGSEGV; .* stays in service"):
            engine.reload(check_load="process")
        engine.infer({"x": np.ones((1, 16), "float32")})


@pytest.mark.on_paddle
@pytest.mark.paddle3
def test_a_damaged_program_that_crashes_paddle_is_refused_and_the_old_one_stays(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(zoo.directory("embedding", "json"), damaged)
    (program,) = damaged.glob("*.json")
    sound = program.read_text()
    program.write_text(sound.replace('"D":0},"N":"col"', '"D":-1},"N":"col"'))
    assert program.read_text() != sound
    # The reader refuses this, the one change of a byte that is known to crash Paddle: so both processes read
    # without its check. The crash is Paddle's own.
    unchecked = "lambda self, column, entry: self._entries.update({column: entry})"
    monkeypatch.setattr(columns.Columns, "add", eval(unchecked))
    child = (
        f"{IMPORTS}from paddleinfer.models.columns import Columns; Columns.add = {unchecked}; "
        "sys.path[:] = pickle.load(sys.stdin.buffer); from paddleinfer.engine.load_trial import run; run()"
    )
    try_load = load_trial.try_load
    monkeypatch.setattr(load_trial, "try_load", lambda *arguments: try_load(*arguments, child=child))
    with paddleinfer.Engine(zoo.directory("embedding", "json"), instances=1) as engine:
        with pytest.raises(ModelLoadError, match=r"ended the process .* with SIG\w+; .* stays in service"):
            engine.reload(damaged, check_load="process")
        engine.infer({"ids": np.ones((1, 6), "int64")})


@pytest.mark.on_paddle
def test_a_real_trial_that_is_terminated_says_nothing_of_the_model(zoo: Zoo) -> None:
    child = (
        f"{IMPORTS}sys.path[:] = pickle.load(sys.stdin.buffer); "
        "import paddleinfer.backends.paddle.runtime as runtime; "
        "runtime.Runtime._start = lambda *_: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(1000)); "
        "from paddleinfer.engine.load_trial import run; run()"
    )
    model = zoo.directory("mlp", zoo.formats[0])
    with pytest.raises(
        ModelLoadError, match=r"ended with SIGTERM from outside; that says nothing of the model"
    ):
        load_trial.try_load(model, EngineConfig(), Opening(), child=child)


@pytest.mark.parametrize("kind", ["OutOfMemory", "ThreadStartError"])
def test_what_the_process_lacked_is_an_error_of_that_kind(kind: str) -> None:
    with pytest.raises(getattr(paddleinfer, kind), match="a sentence"):
        tried(f'os.write(order[2], b\'["{kind}", "a sentence"]\')')


def test_check_load_is_one_of_its_choices() -> None:
    with pytest.raises(ConfigError, match='check_load must be one of "auto", "here", "process"'):
        EngineConfig(check_load="child")  # type: ignore[arg-type]
    with (
        paddleinfer.Engine.from_callable(
            lambda feeds: feeds["x"], {"x": ("float32", (-1, 1))}, ["y"], check_load="process"
        ) as engine,
        pytest.raises(ConfigError, match="check_load must be one of"),
    ):
        assert engine.effective_config()["check_load"]["value"] == "here"
        engine.reload(check_load="child")  # type: ignore[arg-type]
