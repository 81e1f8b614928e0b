"""Measurements as data, for tests of what a search makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paddleinfer.tuning.samples import Fell, Sample
from paddleinfer.tuning.settings import Setting


def sample(rows_per_s: float, p50_ms: float = 1.0, p99_ms: float = 2.0, memory_bytes: int = 100) -> Sample:
    return Sample(rows_per_s, p50_ms, p99_ms, memory_bytes)


Figures = Mapping[str, Sequence[float | Sample] | float | Sample | Fell]


class FakeBench:
    """Gives what a table says: setting -> rows a second, one for all rounds or one a round, or Fell."""

    def __init__(
        self,
        figures: Figures,
        in_force: Mapping[str, Any] | None = None,
        left_s: float = 1e6,
        before: Callable[[str, int], None] = lambda text, number: None,
    ) -> None:
        self._figures = figures
        self._in_force = {"onednn": True, "instances": 2, "max_batch_size": 32, **(in_force or {})}
        self._left_s = left_s
        self._before = before
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.measured: list[tuple[str, int]] = []

    def open(self, setting: Setting) -> Mapping[str, Any]:
        self.opened.append(str(setting))
        self._left_s -= self.seconds_of("open")
        given = self._figures[str(setting)]
        if isinstance(given, Fell):
            raise given
        return self._in_force

    def measure(self, setting: Setting, number: int) -> Sample:
        self._before(str(setting), number)
        self._left_s -= self.seconds_of("measure")
        self.measured.append((str(setting), number))
        given = self._figures[str(setting)]
        if isinstance(given, Sequence):
            given = given[min(number, len(given) - 1)]
        if isinstance(given, Fell):
            raise given
        return given if isinstance(given, Sample) else sample(given)

    def close(self, settings: Sequence[Setting]) -> None:
        self.closed += map(str, settings)

    def seconds_left(self) -> float:
        return self._left_s

    def seconds_of(self, action: str) -> float:
        return {"open": 2.0, "measure": 1.0}[action]
