"""Defines the requests and batches of a virtual engine. Times are seconds on its clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from paddleinfer.errors import ModelError

__all__ = ["Outcome", "VirtualBatch", "VirtualRequest", "VirtualSlice"]

Array = npt.NDArray[Any]
Outcome = Literal["result", "error", "cancelled", "expired", "shed", "refused"]


@dataclass(eq=False, repr=False)
class VirtualRequest:
    """One submitted request."""

    number: int
    """Its number; requests count from 0, in the order of their submission."""
    inputs: dict[str, Array]
    """Its input arrays by name."""
    rows: int
    """Its own rows."""
    arrival_s: float
    """When it was submitted."""
    deadline_s: float | None
    """When its result is due; None: it has no deadline."""
    priority: int
    """Its priority: 0, 1 or 2, the most urgent first."""
    bucket: int
    """Its bucket; only requests of one bucket share a batch."""
    outcome: Outcome | None = None
    """How it ended; None while it has not."""
    ended_s: float | None = None
    """When it ended; None while it has not."""
    refusal: str | None = None
    """Why it was refused, as in ``paddleinfer._ext.ADMISSIONS``."""
    outputs: dict[str, Array] | None = None
    """Its result."""
    error: ModelError | None = None
    """Its ModelError, with the model's own exception as ``__cause__``."""
    queue_s: float | None = None
    """Seconds from its arrival to the start of its first batch; None while it has not started."""
    hold_s: float = 0.0
    """Seconds of these during which an idle instance delayed the batch so that others could join it."""
    batches: list[VirtualBatch] = field(default_factory=list)
    """Its batches: one, or one for each part of a request that is larger than a batch."""
    rows_done: int = 0
    """How many of its rows have a result."""

    @property
    def batch(self) -> VirtualBatch | None:
        """The batch it was in; the last one of a request in parts."""
        return self.batches[-1] if self.batches else None

    @property
    def dispatch_reason(self) -> str | None:
        """Why its batch went when it went, as in ``InferInfo``."""
        return self.batches[-1].reason if self.batches else None

    @property
    def started(self) -> bool:
        """Whether rows of it have been handed to the model."""
        return bool(self.batches)

    def has_ended(self) -> bool:
        """Whether it has an outcome."""
        return self.outcome is not None

    def keep(self, outputs: dict[str, Array], first_row: int) -> None:
        """Adds the outputs of some of its rows."""
        if self.outputs is None:
            self.outputs = {
                name: np.empty((self.rows, *array.shape[1:]), array.dtype) for name, array in outputs.items()
            }
        for name, array in outputs.items():
            self.outputs[name][first_row : first_row + len(array)] = array

    def __repr__(self) -> str:
        state = "not ended" if self.ended_s is None else f"{self.outcome} at {self.ended_s:g} s"
        return f"<request {self.number}: {self.rows} rows, {state}>"


@dataclass(frozen=True)
class VirtualSlice:
    """Rows of one request that run together, all of them or a part."""

    request: VirtualRequest
    first_row: int
    rows: int

    @property
    def whole(self) -> bool:
        """Whether it is the whole request."""
        return self.rows == self.request.rows


@dataclass(eq=False, repr=False)
class VirtualBatch:
    """Rows that the scheduler has sent to the model together."""

    number: int
    """Its number; batches count from 0, in the order they started."""
    slices: list[VirtualSlice]
    """The slices it consists of."""
    instance: int
    """The number of the instance that ran it."""
    reason: str
    """Why it went when it went, as in ``InferInfo``."""
    started_s: float
    """When it began."""
    ended_s: float | None = None
    """When it ended; None while it runs."""
    predicted_s: float | None = None
    """The predicted seconds of its run; None if nothing was known."""

    @property
    def rows(self) -> int:
        """The rows of all its requests."""
        return sum(piece.rows for piece in self.slices)

    @property
    def requests(self) -> list[VirtualRequest]:
        """Its requests, in the order of their rows."""
        return [piece.request for piece in self.slices]

    @property
    def numbers(self) -> list[int]:
        """The numbers of its requests."""
        return [piece.request.number for piece in self.slices]

    def __repr__(self) -> str:
        end = "now" if self.ended_s is None else f"{self.ended_s:g} s"
        return (
            f"<batch {self.number}: requests {self.numbers}, {self.rows} rows, {self.reason}, "
            f"on instance {self.instance} from {self.started_s:g} s to {end}>"
        )
