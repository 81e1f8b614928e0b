"""Why a request went as it did."""

from __future__ import annotations

from dataclasses import dataclass

from paddleinfer.stages import Stage

__all__ = ["InferInfo"]


@dataclass(frozen=True)
class InferInfo:
    """What happened to one request. A request in parts has the values of the part that ended last."""

    queue_us: float
    """Microseconds from arrival to the start of its batch."""
    hold_us: float
    """Microseconds of these during which an idle instance delayed the batch so that others could join it."""
    batch_rows: int
    """Rows that ran together; 0 where nothing ran for it."""
    bucket: str
    """What requests of one batch have in common: dtypes, and shapes beyond the rows."""
    padded_share: float
    """The share of the rows the model saw that were padding."""
    run_us: float
    """Microseconds the model ran."""
    predicted_us: float | None
    """Microseconds that the model was predicted to run; None while nothing was known."""
    instance: int
    """The number of the instance that ran it."""
    dispatch_reason: str
    """Why the batch went when it went: "idle" (an instance was idle, and waiting was not predicted to pay),
    "full", "all_callers_queued" (all recently active callers were queued), "delay_expired" (the batching
    delay was over), "deadline" (its most urgent request left no more time), "unbatchable" (nothing else may
    share its run), "closing", "inline" (it ran on the thread of its only caller), "warmup"; "cached" (nothing
    ran: the result of an equal request was kept), "coalesced" (it got the result of an equal request)."""
    rows: int
    """Rows of the request itself."""
    run: int
    """The number of its run, as in ``Trace.runs``: requests that ran together share it. It is 0 where
    ``trace_requests`` is 0 and nothing is traced, and where nothing ran for the request."""
    stages: tuple[Stage, ...]
    """When it was in which stage: "submit", "queue", "hold", "gather", "run" and "scatter"."""
