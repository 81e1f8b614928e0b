"""Runs a batch through a fake predictor in a virtual engine: together, and in halves if that fails.

``_ext/running/execution.h`` does the same with a backend; ``tests/testing/test_conformance.py`` plays scripts
through both. This one stands beside it because an Execution is one call on an instance's thread, from the
first run to the last: inside a run, and between two, a virtual engine moves its clock, others arrive, cancel
and expire, and a run may hang. A binding would need a thread for each batch that runs, and would hand over to
it and back at every step. Here is the order of the runs, and no more; who shares a batch, when it goes, and
what its runs teach is the core's own scheduler.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.testing.fake_predictor import FakePredictor
from paddleinfer.testing.virtual_requests import VirtualBatch, VirtualSlice

__all__ = ["Steps", "VirtualExecution", "failure_text"]

Array = npt.NDArray[Any]

# Nanoseconds to wait before the next step; None waits as long as the predictor hangs.
Steps = Generator[int | None, None, None]


class VirtualExecution:
    """The execution of one batch on one instance."""

    def __init__(
        self, predictor: FakePredictor, batch: VirtualBatch, number: int, sizes: Sequence[int]
    ) -> None:
        self.batch = batch
        self.number = number
        """The scheduler's."""
        self.runs: list[tuple[int, int, bool, bool]] = []
        """The runs for ``Scheduler.done``: rows without padding, nanoseconds, failed, out of memory."""
        self.outputs: dict[VirtualSlice, dict[str, Array]] = {}
        self.failures: dict[VirtualSlice, Exception] = {}
        self._predictor = predictor
        self._sizes = sizes

    def steps(self) -> Steps:
        """Runs the batch; the generator is to be resumed after each wait."""
        return self._run(self.batch.slices)

    def _run(self, slices: Sequence[VirtualSlice]) -> Steps:
        """Runs slices together, and if that fails, each half by itself, until only culprits fail."""
        failure = yield from self._together(slices)
        if failure is None:
            return
        if len(slices) == 1:
            self.failures[slices[0]] = failure
            return
        middle = len(slices) // 2
        yield from self._run(slices[:middle])
        yield from self._run(slices[middle:])

    def _together(self, slices: Sequence[VirtualSlice]) -> Generator[int | None, None, Exception | None]:
        """Makes one run, and returns its error. Nothing runs if all the requests have ended."""
        if all(piece.request.outcome is not None for piece in slices):
            return None
        rows = sum(piece.rows for piece in slices)
        seen = next((size for size in self._sizes if size >= rows), rows)
        run = self._predictor.begin(_gathered(slices, seen - rows), f"paddleinfer-{self.batch.instance}")
        while self._predictor.hangs(run):
            yield None
        run_ns = round(self._predictor.run_time_of(seen) * 1e9)
        yield run_ns
        try:
            outputs = self._predictor.end(run)
        except Exception as failure:
            self.runs.append((rows, run_ns, True, _ext.is_out_of_memory(failure_text(failure))))
            return failure
        self.runs.append((rows, run_ns, False, False))
        outputs = _checked(outputs, seen)
        first = 0
        for piece in slices:
            self.outputs[piece] = {name: array[first : first + piece.rows] for name, array in outputs.items()}
            first += piece.rows
        return None


def failure_text(failure: Exception) -> str:
    """Returns the text that the core makes of a Python model's exception."""
    return f"{type(failure).__name__}: {failure}"


def _gathered(slices: Sequence[VirtualSlice], padding: int) -> dict[str, Array]:
    """Returns the slices' rows one after the other, with copies of the last one as padding."""
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
