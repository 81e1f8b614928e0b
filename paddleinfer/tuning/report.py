"""Defines what ``tune`` returns: the options that won, and what was measured of each setting."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paddleinfer.tuning.samples import Outcome, Sample
from paddleinfer.tuning.search import Tried

__all__ = ["Figure", "SettingResult", "TuningReport"]


@dataclass(frozen=True)
class Figure:
    """One figure over the rounds of a setting."""

    median: float
    """The median of the rounds."""
    least: float
    """That of the lowest round."""
    most: float
    """That of the highest round."""

    @classmethod
    def of(cls, samples: Sequence[Sample], value: Callable[[Sample], float]) -> Figure:
        """Sums up the values of some samples."""
        values = [value(sample) for sample in samples]
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class SettingResult:
    """What became of one setting."""

    setting: str
    """Its options that differ from those that the search began with; "defaults" where none do."""
    options: Mapping[str, Any]
    """The same as keywords of ``Engine``."""
    outcome: Outcome
    """"measured"; "crashed" (its process ended), "refused" (it cannot be loaded), "differs" (its answers are
    not Paddle's), "too slow" (it had no answer in time), or "not measured" (the time was over before)."""
    reason: str
    """Why it was not measured, or which limit it does not keep; else empty."""
    rounds: int
    """How many rounds were measured."""
    of_defaults: float | None
    """How many times as good as the defaults it was in the same rounds, by the goal; None if not measured."""
    rows_per_s: Figure | None
    """Rows a second; None if not measured."""
    p50_ms: Figure | None
    """The median latency of a request, in milliseconds."""
    p99_ms: Figure | None
    """The 99th percentile of the latency, in milliseconds."""
    memory_bytes: int | None
    """The most resident memory of its process."""

    @classmethod
    def of(cls, tried: Tried) -> SettingResult:
        """Sums up what a search knows of a setting."""
        samples, fell = tried.samples, tried.fell
        return cls(
            setting=str(tried.setting),
            options=tried.setting.changes,
            outcome=fell.outcome if fell is not None else "measured" if samples else "not measured",
            reason=tried.misses if fell is None else fell.reason,
            rounds=len(samples),
            of_defaults=tried.of_defaults,
            rows_per_s=Figure.of(samples, lambda one: one.rows_per_s) if samples else None,
            p50_ms=Figure.of(samples, lambda one: one.p50_ms) if samples else None,
            p99_ms=Figure.of(samples, lambda one: one.p99_ms) if samples else None,
            memory_bytes=max(one.memory_bytes for one in samples) if samples else None,
        )


@dataclass(frozen=True)
class TuningReport:
    """What ``tune`` found."""

    path: str
    """The model's path, as it was given."""
    goal: str
    """What was wanted: the goal and its limits."""
    load: str
    """The load under which it was measured."""
    inputs: str
    """The inputs of a request."""
    machine: Mapping[str, Any]
    """The processor's name, its usable cores, and the versions of what ran."""
    setting: str | None
    """The setting that won; "defaults" where nothing is better beyond the noise, None if nothing keeps the
    limits."""
    options: Mapping[str, Any]
    """The options that won, as keywords of ``Engine``; those that are not named stay as they were."""
    gain: float
    """How many times as good as the defaults they are, by the goal; 1.0 for the defaults."""
    results: tuple[SettingResult, ...]
    """Every setting that was tried, in order."""
    not_tried: tuple[str, ...]
    """The stages for which there was no time."""
    interrupted: bool
    """Whether Ctrl-C has cut the search short."""
    seconds: float
    """How long it took."""
    file: str | None
    """The file that was written; None if none was."""
    is_followed: bool
    """Whether engines of the model follow the file by themselves: it has the usual name, beside the model."""
