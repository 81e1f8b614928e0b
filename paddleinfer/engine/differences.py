"""Collects the largest difference of each output in each comparison of ``verify``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.engine.certificate import Agreement, Compared

__all__ = ["Differences", "difference_of", "difference_with_ties", "not_finite_in"]

Array = npt.NDArray[Any]
Answers = Mapping[str, Array]

# Across runtimes floats of 32 and 64 bits may differ by ten times what they may within one.
_ACROSS_RUNTIMES = 10
_LEAST_DIFFERENCE = 1e-6
_SHARE_OF_LARGEST = 1e-3


def difference_of(
    given: Array, wanted: Array, largest: float, *, across_runtimes: bool = True
) -> tuple[float, float]:
    """Returns by how much two results of one output differ, and by how much they may.

    Parameters
    ----------
    given, wanted
        The results; of two runtimes `wanted` is Paddle's. Shapes or dtypes that differ are an infinite
        difference.
    largest
        The largest magnitude that the output has had in any case.
    across_runtimes
        Whether two runtimes gave them, which may differ by more than two runs of one.
    """
    if given.shape != wanted.shape or given.dtype != wanted.dtype:
        return math.inf, 0.0
    tolerance = _ext.tolerance_of(wanted.dtype)
    if tolerance == 0:
        return (0.0 if np.array_equal(given, wanted) else math.inf), 0.0
    if across_runtimes and wanted.dtype in (np.float32, np.float64):
        tolerance *= _ACROSS_RUNTIMES
    left, right = given.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where((left == right) | (np.isnan(left) & np.isnan(right)), 0.0, np.abs(left - right))
    difference = float(np.nan_to_num(apart, nan=math.inf).max(initial=0.0))
    magnitude = _ext.largest_magnitude(wanted)
    floor = max(_LEAST_DIFFERENCE, tolerance * _SHARE_OF_LARGEST * max(largest, magnitude))
    return difference, tolerance * magnitude + floor


def difference_with_ties(
    output: str, given: Array, wanted: Answers, largest: Mapping[str, float], *, across_runtimes: bool = True
) -> tuple[float, float]:
    """Returns what `difference_of` does; integers that name values which are as good as equal do not differ.

    An argmax of such values may be any of them.

    Parameters
    ----------
    output
        The name of the output.
    given
        Its one result.
    wanted
        Output -> its other result; of all outputs, for the integers may come from any of them.
    largest
        Output -> its largest magnitude in any case.
    across_runtimes
        As in `difference_of`.
    """
    other = wanted[output]
    difference, allowed = difference_of(
        given, other, largest.get(output, 0.0), across_runtimes=across_runtimes
    )
    if difference <= allowed or given.shape != other.shape or given.dtype != other.dtype:
        return difference, allowed
    if _ext.tolerance_of(other.dtype) == 0 and any(
        _ext.differs_by_ties(given, other, source, largest.get(name, 0.0)) for name, source in wanted.items()
    ):
        difference = 0.0
    return difference, allowed


def not_finite_in(output: Array) -> int:
    """Returns how many values are infinite or NaN, which prove nothing."""
    if _ext.tolerance_of(output.dtype) == 0:
        return 0
    return int(output.size - np.isfinite(output.astype(np.float64)).sum())


class Differences:
    """The worst that each comparison found for each output."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self._outputs = tuple(outputs)
        self._largest: dict[str, float] = {}
        self._worst: dict[tuple[Compared, str], tuple[float, Agreement]] = {}
        self.not_finite: dict[str, int] = {}
        """Output -> how many of the values that were counted are not finite."""

    def saw(self, answers: Answers) -> None:
        """Notes how large outputs are; what is small beside it is noise."""
        for name, output in answers.items():
            self._largest[name] = max(self._largest.get(name, 0.0), _ext.largest_magnitude(output))

    def count_not_finite(self, answers: Answers) -> None:
        """Counts values that are not finite."""
        for name, output in answers.items():
            if count := not_finite_in(output):
                self.not_finite[name] = self.not_finite.get(name, 0) + count

    def compare(self, compared: Compared, given: Answers, wanted: Answers, inputs: str) -> None:
        """Notes how far two results of some outputs are apart, but for integers that differ by ties.

        Parameters
        ----------
        given
            Output -> its result; outputs may be missing.
        wanted
            Output -> its result; all outputs.
        inputs
            The inputs that gave them.
        """
        for output, result in given.items():
            other, largest = wanted[output], self._largest.get(output, 0.0)
            difference, allowed = difference_with_ties(
                output, result, wanted, self._largest, across_runtimes=compared == "runtime"
            )
            holds = difference <= allowed
            reason = "" if holds else _reason(compared, result, other, difference, allowed)
            self._note(Agreement(output, compared, holds, difference, allowed, largest, inputs, reason))

    def differ(self, compared: Compared, output: str, reason: str, inputs: str) -> None:
        """Notes an output that cannot be compared number by number."""
        largest = self._largest.get(output, 0.0)
        self._note(Agreement(output, compared, False, math.inf, 0.0, largest, inputs, reason))

    def fail(self, compared: Compared, reason: str, inputs: str) -> None:
        """Notes that there are no outputs."""
        for output in self._outputs:
            self.differ(compared, output, reason, inputs)

    def agreements(self) -> tuple[Agreement, ...]:
        """Returns the worst of each output, output by output."""
        order = {name: place for place, name in enumerate(self._outputs)}
        found = [agreement for _, agreement in self._worst.values()]
        return tuple(sorted(found, key=lambda one: order[one.output]))

    def _note(self, agreement: Agreement) -> None:
        key = (agreement.compared, agreement.output)
        share = agreement.difference / agreement.allowed if agreement.allowed else agreement.difference
        if key not in self._worst or share > self._worst[key][0]:
            self._worst[key] = (share, agreement)


def _reason(compared: Compared, given: Array, wanted: Array, difference: float, allowed: float) -> str:
    if compared == "runtime" and not math.isinf(difference):
        return f"differs by {difference:.2g} between the runtimes, where {allowed:.2g} is allowed"
    how = {"batched": "in a batch", "padded": "padded", "runtime": "in one runtime"}[compared]
    alone = "in the other" if compared == "runtime" else "alone"
    if given.shape != wanted.shape or given.dtype != wanted.dtype:
        return f"is {given.dtype} {given.shape} {how} and {wanted.dtype} {wanted.shape} {alone}"
    if _ext.tolerance_of(wanted.dtype) == 0:
        return f"is not equal {how} and {alone}"
    if math.isinf(difference):
        return f"is finite only {how} or only {alone}"
    return f"differs by {difference:.2g} between {how} and {alone}, where {allowed:.2g} is allowed"
