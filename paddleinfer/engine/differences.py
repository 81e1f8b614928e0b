"""Collects the largest difference of each output in each comparison of ``verify``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.engine.agreement import difference_of
from paddleinfer.engine.certificate import Agreement, Compared

__all__ = ["Differences"]

Array = npt.NDArray[Any]
Answers = Mapping[str, Array]


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
            if _ext.tolerance_of(output.dtype) > 0:
                count = int(output.size - np.isfinite(output.astype(np.float64)).sum())
                if count:
                    self.not_finite[name] = self.not_finite.get(name, 0) + count

    def compare(self, compared: Compared, given: Answers, wanted: Answers, inputs: str) -> None:
        """Notes how far two results of some outputs are apart.

        Integers that name values which are as good as equal, as an argmax of them may, count as equal.

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
            difference, allowed = difference_of(result, other, largest, across_runtimes=compared == "runtime")
            if difference > allowed and self._is_tie(result, other, wanted):
                difference = 0.0
            holds = difference <= allowed
            reason = "" if holds else _reason(compared, result, other, difference, allowed)
            self._note(Agreement(output, compared, holds, difference, allowed, largest, inputs, reason))

    def _is_tie(self, given: Array, wanted: Array, answers: Answers) -> bool:
        if given.shape != wanted.shape or given.dtype != wanted.dtype or _ext.tolerance_of(wanted.dtype) > 0:
            return False
        return any(
            _ext.differs_by_ties(given, wanted, source, self._largest.get(name, 0.0))
            for name, source in answers.items()
        )

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
    how = {"batched": "in a batch", "padded": "padded", "runtime": "in one runtime"}[compared]
    alone = "in the other" if compared == "runtime" else "alone"
    if given.shape != wanted.shape or given.dtype != wanted.dtype:
        return f"is {given.dtype} {given.shape} {how} and {wanted.dtype} {wanted.shape} {alone}"
    if _ext.tolerance_of(wanted.dtype) == 0:
        return f"is not equal {how} and {alone}"
    if math.isinf(difference):
        return f"is finite only {how} or only {alone}"
    return f"differs by {difference:.2g} between {how} and {alone}, where {allowed:.2g} is allowed"
