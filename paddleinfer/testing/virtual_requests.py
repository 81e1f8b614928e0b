"""What a virtual engine says of its requests and batches. Times are seconds on its clock."""

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
    """One request, from its submission on."""

    number: int
    """Requests count from 0, in the order they were submitted."""
    inputs: dict[str, Array]
    """Its arrays by name."""
    rows: int
    """Its own rows."""
    arrival_s: float
    """When it was submitted."""
    deadline_s: float | None
    """When its result is due; None: it has no deadline."""
    priority: int
    """0, 1 or 2, the most urgent first."""
    bucket: int
    """Only requests of one bucket share a batch."""
    outcome: Outcome | None = None
    """None while it has not ended."""
    ended_s: float | None = None
    """When it ended; None while it has not."""
    refusal: str | None = None
    """Why it was refused, as in ``paddleinfer._ext.ADMISSIONS``."""
    outputs: dict[str, Array] | None = None
    """Its result."""
    error: ModelError | None = None
    """With the model's own exception as its ``__cause__``."""
    queue_s: float | None = None
    """From arrival to the start of its first batch; None while it has not started."""
    hold_s: float = 0.0
    """Seconds of these during which an idle instance delayed the batch so that others could join it."""
    batches: list[VirtualBatch] = field(default_factory=list)
    """One, or one for each part of a request that is larger than a batch."""
    rows_done: int = 0
    """Rows that have a result."""

    @property
    def batch(self) -> VirtualBatch | None:
        """The one it was in; of a request in parts, the last."""
        return self.batches[-1] if self.batches else None

    @property
    def dispatch_reason(self) -> str | None:
        """Why its batch went when it went, as of ``InferInfo``."""
        return self.batches[-1].reason if self.batches else None

    @property
    def started(self) -> bool:
        """Whether rows of it have been handed to the model."""
        return bool(self.batches)

    def has_ended(self) -> bool:
        """Whether it has an outcome."""
        return self.outcome is not None

    def keep(self, outputs: dict[str, Array], first_row: int) -> None:
        """Takes in the outputs of some of its rows."""
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
    """Rows of one request that run together: all of them, or a part."""

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
    """Batches count from 0, in the order they started."""
    slices: list[VirtualSlice]
    """What it was made of."""
    instance: int
    """The number of the instance that ran it."""
    reason: str
    """Why it went when it went, as of ``InferInfo``."""
    started_s: float
    """When it began."""
    ended_s: float | None = None
    """None while it runs."""
    predicted_s: float | None = None
    """How long a run was predicted to take; None when nothing was known."""

    @property
    def rows(self) -> int:
        """Of all its requests."""
        return sum(piece.rows for piece in self.slices)

    @property
    def requests(self) -> list[VirtualRequest]:
        """In the order of their rows."""
        return [piece.request for piece in self.slices]

    @property
    def numbers(self) -> list[int]:
        """Of its requests."""
        return [piece.request.number for piece in self.slices]

    def __repr__(self) -> str:
        end = "now" if self.ended_s is None else f"{self.ended_s:g} s"
        return (
            f"<batch {self.number}: requests {self.numbers}, {self.rows} rows, {self.reason}, "
            f"on instance {self.instance} from {self.started_s:g} s to {end}>"
        )
