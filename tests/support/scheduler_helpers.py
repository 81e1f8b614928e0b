"""Helpers of the scheduler's own tests: units of time, and the form of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from paddleinfer import _ext

US = 1_000
MS = 1_000_000
S = 1_000_000_000


class Given(NamedTuple):
    """What an idle instance is told."""

    number: int | None
    """Of the batch; None: there is nothing to run now."""
    slices: list[tuple[Any, int, int]]
    """(request, first row, rows)"""
    late: list[tuple[Any, str]]
    """(request, why)"""
    wake_at: int | None


def ask_for_work(scheduler: _ext.Scheduler, now: int) -> Given:
    """What `scheduler.next` says. The only place here that knows its form."""
    batch = scheduler.next(now)
    return Given(batch.number, batch.slices, batch.late, batch.wake_at)


def linear(fixed_ns: int, per_row_ns: int) -> Callable[[int], int]:
    return lambda rows: fixed_ns + per_row_ns * rows
