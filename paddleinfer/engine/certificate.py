"""Defines what ``verify`` returns: for each output and each way to run it, whether answers are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from paddleinfer.sentences import shown

__all__ = ["Agreement", "Certificate", "Compared"]

Compared = Literal["batched", "padded", "runtime"]


@dataclass(frozen=True)
class Agreement:
    """What one comparison found for one output, over all inputs."""

    output: str
    """The name of the output."""
    compared: Compared
    """What its rows alone were compared with: the same rows in a batch, padded, or in the other runtime."""
    holds: bool
    """Whether every difference was allowed."""
    difference: float
    """The largest absolute difference, by what was allowed; infinite where shapes or integers differ."""
    allowed: float
    """The absolute difference that was allowed there; 0 for integers."""
    magnitude: float
    """The largest magnitude that the output has had; where that is next to nothing, little is proved."""
    inputs: str
    """The inputs on which it was found."""
    reason: str
    """A sentence that says why it does not hold; empty where it holds."""


@dataclass(frozen=True)
class Certificate:
    """What ``verify`` found for one model."""

    path: str
    """The model's path, as it was given."""
    runtime: str
    """The runtime that ran the model, with its version."""
    other_runtime: str | None
    """The runtime that its answers were compared with; None where there was none."""
    inputs: tuple[str, ...]
    """The inputs that it ran on."""
    agreements: tuple[Agreement, ...]
    """What each comparison found, for each output."""
    not_compared: Mapping[Compared, str]
    """For each comparison that was not made, why there is nothing to compare."""
    lacking: str
    """Why a comparison that was asked for could not be made; empty where all were."""
    not_finite: Mapping[str, int]
    """Output -> how many values of its rows alone were not finite; outputs without any are left out."""

    @property
    def holds(self) -> bool:
        """Whether all outputs agree, and every comparison that was asked for was made."""
        return not self.lacking and all(one.holds for one in self.agreements)

    @property
    def faults(self) -> list[str]:
        """One sentence for each thing that does not hold."""
        faults = [
            f"output {shown(one.output)} {one.reason}, on {one.inputs}"
            for one in self.agreements
            if not one.holds
        ]
        return [*faults, *([self.lacking] if self.lacking else [])]
