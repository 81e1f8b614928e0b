"""Each setting is measured in a child process, whose end is a result and not the end of the search."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleinfer import EngineConfig
from paddleinfer.tuning import children as module
from paddleinfer.tuning.child import ChildOrder, difference_from
from paddleinfer.tuning.children import Children
from paddleinfer.tuning.load import Load
from paddleinfer.tuning.samples import Fell
from paddleinfer.tuning.settings import Setting

BEGIN = "import json, os, pickle, signal, sys; sys.path[:] = pickle.load(sys.stdin.buffer)\n"
ORDERED = BEGIN + "order = pickle.load(sys.stdin.buffer); parent = pickle.load(sys.stdin.buffer)\n"
SAY = "def say(**line): os.write(order.answers, json.dumps(line).encode() + b'\\n')\n"
READY = ORDERED + SAY + "say(outcome='measured', in_force={'instances': 2}, run_s=0.1)\n"
FIGURES = "rows_per_s=7.0, p50_ms=1.0, p99_ms=2.0, memory_bytes=3"
ROUNDS = "for line in sys.stdin.buffer: say(outcome='measured', sample=dict({}, lost=int(line.split()[0])))\n"
SERVES = READY + ROUNDS.format(FIGURES)


def order(setting: Setting, descriptor: int) -> ChildOrder:
    return ChildOrder("model", EngineConfig(), Load(), [], [], 0.1, descriptor)


def running(code: str, seconds: float = 60.0, tell: Any = lambda: None) -> Children:
    return Children(order, (0.5, 3.0), time.monotonic() + seconds, tell, code=code)


def fell(children: Children) -> Fell:
    with pytest.raises(Fell) as caught:
        children.open(Setting())
        children.measure(Setting(), 0)
    assert not children._children, "what fell is ended"
    return caught.value


def test_a_child_stays_loaded_from_round_to_round() -> None:
    children = running(SERVES)
    assert children.open(Setting()) == {"instances": 2}
    (child,) = children._children.values()
    assert [children.measure(Setting(), number).lost for number in (3, 4)] == [3, 4]
    assert children.seconds_of("open") > 0 and 0 < children.seconds_left() < 60
    children.close_all()
    assert child.process.returncode == -9


@pytest.mark.parametrize(("run_s", "round_s"), [(0.001, 0.5), (0.1, 1.5), (9.0, 3.0)])
def test_rounds_are_as_long_as_the_first_settings_runs_ask_for(run_s: float, round_s: float) -> None:
    says_seconds = SERVES.replace("lost=int(line.split()[0])", "lost=int(1000 * float(line.split()[1]))")
    children = running(says_seconds.replace("run_s=0.1", f"run_s={run_s}"))
    children.open(Setting())
    assert children.measure(Setting(), 0).lost == 1000 * round_s
    children.close_all()


def test_a_crash_is_a_result_that_names_the_signal() -> None:
    crash = "os.kill(os.getpid(), signal.SIGSEGV)\n"
    for code in (ORDERED + crash, READY + crash):
        found = fell(running(code))
        assert found.outcome == "crashed" and found.reason == "its process ended with SIGSEGV"
    killed = fell(running(READY + "os.kill(os.getpid(), signal.SIGKILL)"))
    assert killed.reason == "its process ended with SIGKILL from outside"
    assert fell(running("raise SystemExit(3)")).reason == "its process ended with the exit code 3"


def test_what_a_child_says_against_its_setting_is_the_result() -> None:
    found = fell(running(ORDERED + SAY + "say(outcome='differs', reason='output y differs')"))
    assert (found.outcome, found.reason) == ("differs", "output y differs")


def test_a_child_without_an_answer_is_ended_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.0)
    told: list[None] = []
    found = fell(running(ORDERED + "sys.stdin.buffer.read()", 0.0, lambda: told.append(None)))
    assert found.outcome == "too slow" and told


def test_ctrl_c_while_a_child_is_waited_for_ends_it() -> None:
    def press() -> None:
        raise KeyboardInterrupt

    children = running(ORDERED + "sys.stdin.buffer.read()", tell=press)
    with pytest.raises(KeyboardInterrupt):
        children.open(Setting())
    assert not children._children


def test_where_memory_is_short_the_one_used_longest_ago_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    children = running(SERVES)
    settings = [Setting({"instances": count}) for count in (1, 2, 3)]
    for setting in settings[:2]:
        children.open(setting)
        children.measure(setting, 0)
    monkeypatch.setattr(module, "free_memory_bytes", lambda: 4)
    children.open(settings[2])
    assert list(children._children) == ["instances=2", "instances=3"]
    assert children.measure(settings[0], 5).lost == 5, "it is loaded again when its turn comes"
    children.close_all()


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    children = running(SERVES)
    children.open(Setting())
    children.close_all()
    fell(running(READY + "os.abort()"))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_other_answers_than_paddles_are_told_and_noise_is_not() -> None:
    wanted = {"y": np.array([[1.0, 2.0]], "float32"), "n": np.array([[3]])}
    near = {"y": wanted["y"] + np.float32(1e-6), "n": wanted["n"]}
    assert difference_from(near, wanted) == ""
    far = {**near, "y": wanted["y"] + np.float32(0.1)}
    assert difference_from(far, wanted).startswith(
        "output 'y' differs by 0.1 from Paddle's with its defaults"
    )
    assert difference_from({**near, "n": np.array([[4]])}, wanted).startswith("output 'n' differs by inf")
