"""How requests are queued and merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from paddleinfer.config.checks import check_choice, check_int, check_switch, checked_sizes
from paddleinfer.config.padding import PadAxis
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["BatchingKeywords", "BatchingOptions"]

OnFull = Literal["raise", "wait"]
Policy = Literal["adaptive", "eager", "fixed_delay"]

_POLICIES = ("adaptive", "eager", "fixed_delay")


class BatchingKeywords(TypedDict, total=False):
    """The fields of BatchingOptions as keywords; BatchingOptions describes them."""

    batchable: bool | Literal["auto"]
    max_batch_size: int
    policy: Policy
    preferred_batch_sizes: Sequence[int]
    allowed_batch_sizes: Sequence[int]
    verify_every: int
    pad: PadAxis | Sequence[PadAxis]
    max_queue_delay_us: int | None
    max_queue_rows: int
    max_queue_bytes: int
    on_full: OnFull


@dataclass(frozen=True)
class BatchingOptions:
    """How requests are queued and merged."""

    batchable: bool | Literal["auto"] = "auto"
    """Whether axis 0 of every input and output is the batch; "auto" asks its operators, then the model."""
    max_batch_size: int = 32
    """Rows that run together at most; a request of more runs in parts."""
    policy: Policy = "adaptive"
    """"adaptive" goes by what is measured; "eager" takes what waits; "fixed_delay" waits for a full batch."""
    preferred_batch_sizes: tuple[int, ...] = ()
    """Rising sizes at which a batch counts as full."""
    allowed_batch_sizes: tuple[int, ...] = ()
    """Rising sizes that the model may see; a batch is padded to the next. Empty: any."""
    verify_every: int = 1000
    """One in so many requests that shared a run runs again alone and is compared; 0: none is."""
    pad: tuple[PadAxis, ...] = ()
    """Axes that are padded, so that requests of different lengths share batches."""
    max_queue_delay_us: int | None = None
    """Microseconds that a batch may be delayed for more rows to join it; None: as long as that pays."""
    max_queue_rows: int = 4096
    """Rows that may wait at once; one request of more is taken while nothing else waits."""
    max_queue_bytes: int = 256 << 20
    """Bytes of input that may wait at once, also of one request."""
    on_full: OnFull = "raise"
    """When the queue is full: "raise" QueueFull, or "wait" for room."""

    def __post_init__(self) -> None:
        check_switch("batchable", self.batchable)
        check_int("max_batch_size", self.max_batch_size, 1, 1 << 20)
        check_choice("policy", self.policy, _POLICIES)
        preferred = checked_sizes("preferred_batch_sizes", self.preferred_batch_sizes, self.max_batch_size)
        object.__setattr__(self, "preferred_batch_sizes", preferred)
        allowed = checked_sizes("allowed_batch_sizes", self.allowed_batch_sizes, self.max_batch_size)
        object.__setattr__(self, "allowed_batch_sizes", allowed)
        pads = (self.pad,) if isinstance(self.pad, PadAxis) else self.pad
        if not isinstance(pads, (list, tuple)) or not all(isinstance(pad, PadAxis) for pad in pads):
            raise ConfigError(f"pad must be a PadAxis or a list of them, not {shown(self.pad)}")
        if sum(pad.split_rows for pad in pads) > 1:
            raise ConfigError(
                "only one PadAxis of pad can have split_rows=True: rows are split along one axis"
            )
        padded = [place for pad in pads for place in pad.inputs.items()]
        for name, axis in padded:
            if padded.count((name, axis)) > 1:
                raise ConfigError(f"pad names axis {axis} of input {shown(name)} twice")
        object.__setattr__(self, "pad", tuple(pads))
        if self.policy == "fixed_delay" and self.max_queue_delay_us is None:
            raise ConfigError('policy="fixed_delay" needs max_queue_delay_us, the delay in microseconds')
        if self.policy == "eager" and self.max_queue_delay_us is not None:
            raise ConfigError('max_queue_delay_us has no effect with policy="eager", which never waits')
        if self.max_queue_delay_us is not None:
            check_int("max_queue_delay_us", self.max_queue_delay_us, 0, 1 << 40)
        check_int("verify_every", self.verify_every, 0, 1 << 40)
        check_choice("on_full", self.on_full, ("raise", "wait"))
        check_int("max_queue_rows", self.max_queue_rows, 1, 1 << 40)
        check_int("max_queue_bytes", self.max_queue_bytes, 1, 1 << 50)

    @property
    def most_rows(self) -> int:
        """Rows that run together at most: ``max_batch_size``, or the largest allowed size."""
        return self.allowed_batch_sizes[-1] if self.allowed_batch_sizes else self.max_batch_size
