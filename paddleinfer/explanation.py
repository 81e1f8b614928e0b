"""Why a request went as it did."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["InferInfo", "Stage", "engine_stages"]

Stage = tuple[str, int, int]
"""Its name, its begin and its end, in nanoseconds of ``time.monotonic_ns``."""


def engine_stages(
    called_ns: int,
    arrival_ns: int,
    started_ns: int,
    gathered_ns: int,
    over_ns: int,
    scattered_ns: int,
    hold_ns: int,
) -> list[Stage]:
    """Of a request that ran: its stages one after the other, from the call to its outputs."""
    held_from = started_ns - hold_ns
    # Of a request in parts, or whose batch failed before, the model's time begins with the first.
    gathered = max(gathered_ns, started_ns)
    return [
        ("submit", called_ns, arrival_ns),
        ("queue", arrival_ns, held_from),
        ("hold", held_from, started_ns),
        ("gather", started_ns, gathered),
        ("run", gathered, over_ns),
        ("scatter", over_ns, scattered_ns),
    ]


@dataclass(frozen=True)
class InferInfo:
    """What happened to one request. Of a request in parts: of the part that ended last."""

    queue_us: float
    """Microseconds from arrival to the start of its batch."""
    hold_us: float
    """Of these, while an idle instance held the batch back for company."""
    batch_rows: int
    """Rows that ran together."""
    bucket: str
    """What requests of one batch have in common: dtypes, and shapes beyond the rows."""
    padded_share: float
    """The share of the rows the model saw that were padding."""
    run_us: float
    """Microseconds the model ran."""
    predicted_us: float | None
    """What was predicted for that; None while nothing was known."""
    instance: int
    """The number of the instance that ran it."""
    dispatch_reason: str
    """Why the batch went when it went: "idle" (an instance was, and waiting was not predicted to pay),
    "full", "all_here" (every caller of late was waiting), "held_over" (it had been held as long as was worth
    it), "deadline" (its most urgent request left no more time), "alone" (nothing else may share its run),
    "closing", "on_caller" (it ran on the thread of its only caller), "warmup"."""
    rows: int
    """Of the request itself."""
    run: int
    """The number of its run, as in ``Trace.runs``: requests that ran together have the same. 0 where
    ``trace_requests`` is 0 and nothing is traced."""
    stages: tuple[Stage, ...]
    """When it was in which stage: "submit", "queue", "hold", "gather", "run" and "scatter"."""
