"""Measures settings, each in a child process that stays loaded from round to round; its crash is a result."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paddleinfer.backends.processors import free_memory_bytes
from paddleinfer.child_process import CRASHES, NotStarted, ended, order_bytes, python_code, start_python
from paddleinfer.tuning.child import ChildOrder
from paddleinfer.tuning.samples import Fell, Sample
from paddleinfer.tuning.settings import Setting

__all__ = ["Children"]

_CHILD = python_code("paddleinfer.tuning.child")
# Beyond the time of the search: what is under way may end.
_GRACE_S = 20.0
_LOOK_S = 0.1
_ANSWERS_A_ROUND = 30
_MOST_LINE_BYTES = 1 << 20
_ROOM = 1.5


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    answers: int
    memory_bytes: int = 0
    used_s: float = field(default_factory=time.monotonic)
    rest: bytes = b""
    """What it has written of a next line."""

    def end(self) -> None:
        self.process.kill()
        with contextlib.suppress(OSError):  # it may have gone with something unread
            assert self.process.stdin is not None
            self.process.stdin.close()
        self.process.wait()
        os.close(self.answers)


class Children:
    """Measures settings for a search.

    Parameters
    ----------
    order
        Makes what a setting's child gets, for the file descriptor that it writes to.
    round_s
        The least and the most that a round may take, in seconds. It is longer where runs are, by the first
        setting that is opened, so that the last few answers decide nothing.
    ends_s
        When the time for the search is over, by ``time.monotonic``.
    tell
        It is called often, with nothing, while something is waited for.
    code
        What the children run.
    """

    def __init__(
        self,
        order: Callable[[Setting, int], ChildOrder],
        round_s: tuple[float, float],
        ends_s: float,
        tell: Callable[[], object],
        *,
        code: str = _CHILD,
    ) -> None:
        self._order = order
        self._shortest_s, self._longest_s = round_s
        self._round_s: float | None = None
        self._ends_s = ends_s
        self._tell = tell
        self._code = code
        self._children: dict[str, _Child] = {}
        self._seconds: dict[str, float] = {}

    def seconds_left(self) -> float:
        """See ``Bench``."""
        return self._ends_s - time.monotonic()

    def seconds_of(self, action: str) -> float:
        """See ``Bench``."""
        return self._seconds.get(action, 0.0)

    def open(self, setting: Setting) -> Mapping[str, Any]:
        """See ``Bench``."""
        self._make_room()
        began_s = time.monotonic()
        readable, writable = os.pipe()
        try:
            process = start_python(self._code, kept_open=(writable,), own_session=True)
        except NotStarted as error:
            os.close(readable)
            raise Fell("refused", f"no process can be started for it ({error})") from error
        finally:
            os.close(writable)
        child = self._children[str(setting)] = _Child(process, readable)
        self._give(child, order_bytes(self._order(setting, writable)))
        line = self._answer(setting, child)
        self._seconds["open"] = time.monotonic() - began_s
        found: Mapping[str, Any] = line["in_force"]
        if self._round_s is None:
            wanted_s = _ANSWERS_A_ROUND * line["run_s"] / found["instances"]
            self._round_s = min(max(wanted_s, self._shortest_s), self._longest_s)
        return found

    def measure(self, setting: Setting, number: int) -> Sample:
        """See ``Bench``."""
        if str(setting) not in self._children:  # it was ended to make room
            self.open(setting)
        child = self._children[str(setting)]
        began_s = time.monotonic()
        self._give(child, b"%d %f\n" % (number, self._round_s or self._shortest_s))
        sample = Sample(**self._answer(setting, child)["sample"])
        child.memory_bytes, child.used_s = sample.memory_bytes, time.monotonic()
        self._seconds["measure"] = time.monotonic() - began_s
        return sample

    def close(self, settings: Sequence[Setting]) -> None:
        """See ``Bench``."""
        for setting in settings:
            self._end(str(setting))

    def close_all(self) -> None:
        """Ends all children."""
        for text in list(self._children):
            self._end(text)

    def _end(self, text: str) -> None:
        child = self._children.pop(text, None)
        if child is not None:
            child.end()

    def _make_room(self) -> None:
        """Ends those that were used least recently, where memory is short for another one."""
        while len(self._children) > 1:
            largest = max(child.memory_bytes for child in self._children.values())
            free = free_memory_bytes()
            if free is None or free > _ROOM * largest:
                return
            self._end(min(self._children, key=lambda text: self._children[text].used_s))

    def _give(self, child: _Child, data: bytes) -> None:
        assert child.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: its answer says how
            child.process.stdin.write(data)
            child.process.stdin.flush()

    def _answer(self, setting: Setting, child: _Child) -> Mapping[str, Any]:
        """Waits for a line. If it says that the setting falls out, or there is none, the child is ended."""
        try:
            line = self._line(child)
            answer: Mapping[str, Any] = json.loads(line) if line else {}
            if answer.get("outcome") == "measured":
                return answer
            if answer:
                raise Fell(answer["outcome"], answer["reason"])
            code = child.process.wait()
            crashed = code < 0 and -code in CRASHES
            from_outside = " from outside" if code < 0 and not crashed else ""
            raise Fell("crashed", f"its process ended {ended(code)}{from_outside}")
        except BaseException:
            self._end(str(setting))
            raise

    def _line(self, child: _Child) -> bytes:
        latest_s = max(self._ends_s, time.monotonic()) + _GRACE_S
        while b"\n" not in child.rest:
            self._tell()
            readable, _, _ = select.select([child.answers], [], [], _LOOK_S)
            if readable:
                part = os.read(child.answers, _MOST_LINE_BYTES)
                if not part:
                    return b""
                child.rest += part
            elif time.monotonic() > latest_s:
                raise Fell("too slow", "it had no answer when the time for the search was over")
        line, _, child.rest = child.rest.partition(b"\n")
        return line
