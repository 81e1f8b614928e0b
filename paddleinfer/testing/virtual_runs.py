"""How a batch goes through a fake predictor in a virtual engine: together, and apart when together it fails.

``_ext/running/execution.h`` does the same with a real one; ``tests/testing/test_conformance.py`` compares.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.testing.fake_predictor import FakePredictor
from paddleinfer.testing.virtual_requests import VirtualBatch, VirtualSlice

__all__ = ["Steps", "VirtualExecution", "VirtualRun"]

Array = npt.NDArray[Any]

# Seconds to wait before the next step; None: as long as the predictor hangs.
Steps = Generator[float | None, None, None]


@dataclass(frozen=True)
class VirtualRun:
    """One run of the predictor."""

    rows: int
    """Without padding."""
    seconds: float
    failed: bool
    out_of_memory: bool


class VirtualExecution:
    """One batch on one instance."""

    def __init__(
        self, predictor: FakePredictor, batch: VirtualBatch, number: int, sizes: Sequence[int]
    ) -> None:
        self.batch = batch
        self.number = number
        """The scheduler's."""
        self.runs: list[VirtualRun] = []
        self.outputs: dict[VirtualSlice, dict[str, Array]] = {}
        self.failures: dict[VirtualSlice, Exception] = {}
        self._predictor = predictor
        self._sizes = sizes

    def steps(self) -> Steps:
        """The whole way; to be resumed after each wait."""
        slices = self.batch.slices
        failure = yield from self._together(slices)
        if failure is None:
            return
        if len(slices) == 1:
            self.failures[slices[0]] = failure
        else:
            yield from self._halves(slices)

    def _halves(self, slices: Sequence[VirtualSlice]) -> Steps:
        middle = len(slices) // 2
        for half in (slices[:middle], slices[middle:]):
            failure = yield from self._together(half)
            if failure is None:
                continue
            if len(half) == 1:
                self.failures[half[0]] = failure
            else:
                yield from self._halves(half)

    def _together(self, slices: Sequence[VirtualSlice]) -> Generator[float | None, None, Exception | None]:
        """One run; what it failed with. Nothing runs for requests that have all ended."""
        if all(piece.request.outcome is not None for piece in slices):
            return None
        rows = sum(piece.rows for piece in slices)
        seen = next((size for size in self._sizes if size >= rows), rows)
        run = self._predictor.begin(_gathered(slices, seen - rows), f"paddleinfer-{self.batch.instance}")
        while self._predictor.hangs(run):
            yield None
        seconds = self._predictor.run_time_of(seen)
        yield seconds
        failure: Exception | None = None
        try:
            outputs = self._predictor.end(run)
        except Exception as error:
            failure = error
        else:
            self._scatter(slices, _checked(outputs, seen))
        self.runs.append(VirtualRun(rows, seconds, failure is not None, isinstance(failure, MemoryError)))
        return failure

    def _scatter(self, slices: Sequence[VirtualSlice], outputs: Mapping[str, Array]) -> None:
        first = 0
        for piece in slices:
            self.outputs[piece] = {name: array[first : first + piece.rows] for name, array in outputs.items()}
            first += piece.rows


def _gathered(slices: Sequence[VirtualSlice], padding: int) -> dict[str, Array]:
    """The slices' rows one after the other, the last one again as padding."""
    gathered = {}
    for name in slices[0].request.inputs:
        pieces = [
            piece.request.inputs[name][piece.first_row : piece.first_row + piece.rows] for piece in slices
        ]
        gathered[name] = np.concatenate([*pieces, *[pieces[-1][-1:]] * padding])
    return gathered


def _checked(given: Any, rows: int) -> dict[str, Array]:
    named = given if isinstance(given, Mapping) else {"y": given}
    outputs = {name: np.asarray(array) for name, array in named.items()}
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise ValueError(
                f"compute gave {name!r} the shape {array.shape} for {rows} rows; in a virtual engine every "
                "output has the rows of the batch"
            )
    return outputs
