"""Why a request went as it did."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["InferInfo"]


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
