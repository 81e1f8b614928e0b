"""Defines the records of requests and of runs: the instants between their stages."""

from __future__ import annotations

from typing import NamedTuple

from paddleinfer.stages import Stage, engine_stages

__all__ = ["TracedRequest", "TracedRun"]


class TracedRequest(NamedTuple):
    """One ended request. Instants are nanoseconds of ``time.monotonic_ns``; 0: it did not get that far."""

    number: int
    """Its number, counted from 1 in the order of the requests' ends."""
    run: int
    """The number of the run that gave its result; of several runs, the last; 0: it never ran."""
    called_ns: int
    arrival_ns: int
    """When it entered the queue."""
    started_ns: int
    """When an instance took it."""
    gather_end_ns: int
    """When its rows were in the model's input."""
    run_end_ns: int
    """When the model had run."""
    scatter_end_ns: int
    """When all outputs of its run were copied out."""
    delivered_ns: int
    """When its caller, or its future, had the result or the error."""
    hold_ns: int
    """How long before `started_ns` an idle instance delayed it so that others could join its batch."""
    rows: int
    outcome: str
    """"result", "error", "expired", "shed" or "closed". Cancelled and refused requests appear only in
    ``Engine.stats``, because a request is recorded when its outcome is taken."""

    def stages(self) -> list[Stage]:
        """Returns (stage, begin, end) in nanoseconds, in order, from the call to the delivery."""
        if self.arrival_ns == 0:
            return [("submit", self.called_ns, self.delivered_ns)]
        if self.scatter_end_ns == 0:
            return [
                ("submit", self.called_ns, self.arrival_ns),
                ("queue", self.arrival_ns, self.delivered_ns),
            ]
        instants = (self.called_ns, self.arrival_ns, self.started_ns, self.gather_end_ns, self.run_end_ns)
        stages = engine_stages(*instants, self.scatter_end_ns, self.hold_ns)
        return [*stages, ("deliver", self.scatter_end_ns, self.delivered_ns)]


class TracedRun(NamedTuple):
    """One run of the model. Instants are nanoseconds of ``time.monotonic_ns``."""

    number: int
    instance: int
    began_ns: int
    gather_end_ns: int
    run_end_ns: int
    scatter_end_ns: int
    rows: int
    padded_rows: int
    requests: int
    queued_requests: int
    """The rows that waited when it ended."""
    reason: str
    """Why it went when it went; see ``InferInfo.dispatch_reason``."""
    failed: bool
    bucket: int = 0
    """The bucket. Runs of one bucket have inputs of the same dtypes and the same shapes beyond the rows."""
