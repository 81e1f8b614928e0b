"""Measures what the scheduler costs per request with ten thousand waiting, without model, thread or clock.

Also measures what copying rows costs beside running them. Python's part is included: a tuple in a list for
each request of a batch, and an entry taken out of a dictionary for each that ends. Making a request is not
included, but measured apart.

``python -m benchmarks.bench_scheduler [--quick] [--json FILE]``
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.harness import Effort, Section, differences, interleave, spread
from paddleinfer._ext import Scheduler
from paddleinfer.config import BatchingOptions

QUEUED = 10_000
ROWS = 32
"""The rows of a batch."""
RUN_NS = 1_000_000
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Mix:
    """The kind of requests."""

    deadlines: tuple[float, float] | None = None
    """The range of deadlines, in seconds from now; None: requests have none, and go as they came."""
    buckets: int = 1
    """How many kinds of requests there are, which do not share batches."""


MIXES = {
    "as they came": Mix(),
    "deadlines mixed": Mix((2.0, 20.0)),
    "deadlines mixed, 16 shapes": Mix((2.0, 20.0), buckets=16),
}


@dataclass(frozen=True)
class Cost:
    """Nanoseconds per request."""

    admit: float
    next: float
    done: float

    @property
    def all(self) -> float:
        """The time from its arrival to its end."""
        return self.admit + self.next + self.done


class Queue:
    """A scheduler with a constant number of requests: as many come as go."""

    def __init__(self, mix: Mix) -> None:
        random = np.random.default_rng(1)
        self._scheduler = Scheduler(BatchingOptions(max_batch_size=ROWS, max_queue_rows=2 * QUEUED))
        self._ahead: list[int | None] = [None]
        if mix.deadlines:
            low, high = (int(seconds * SECOND) for seconds in mix.deadlines)
            self._ahead = [int(each) for each in random.integers(low, high, 1 << 14)]
        self._kinds = [int(each) for each in random.integers(0, mix.buckets, 1 << 14)]
        self._number = 0
        self._now = SECOND
        self._learn(mix)
        while self._number < QUEUED:
            self._admit(1)

    def _learn(self, mix: Mix) -> None:
        """Reports runs of every size, so that every rule has measurements."""
        for kind in range(mix.buckets):
            for rows in (1, 2, 4, 8, 16, 32) * 3:
                self._scheduler.admit(-1, self._now, rows=rows, bucket=kind)
                batch = self._scheduler.next(self._now)
                self._now += RUN_NS
                assert batch.number is not None
                self._scheduler.done(batch.number, RUN_NS // 2 + RUN_NS * rows // (2 * ROWS), self._now)

    def _admit(self, count: int, rows: int = 1) -> None:
        admit, ahead, kinds, now = self._scheduler.admit, self._ahead, self._kinds, self._now
        for number in range(self._number, self._number + count):
            after = ahead[number % len(ahead)]
            deadline = None if after is None else now + after
            admit(number, now, rows=rows, bucket=kinds[number % len(kinds)], deadline=deadline)
        self._number += count

    def turns(self, count: int) -> Cost:
        """Runs so many batches; after each, as many requests come as it held."""
        clock = time.perf_counter_ns
        admitting = taking = ending = served = 0
        for _ in range(count):
            begin = clock()
            batch = self._scheduler.next(self._now)
            taken = clock()
            self._now += RUN_NS
            assert batch.number is not None
            self._scheduler.done(batch.number, RUN_NS, self._now)
            ended = clock()
            self._admit(batch.rows)
            admitting += clock() - ended
            taking += taken - begin
            ending += ended - taken
            served += batch.rows
            if batch.late or self._scheduler.load()["queued_requests"] != QUEUED:
                raise SystemExit("requests were refused or shed: this measures something else")
        return Cost(admitting / served, taking / served, ending / served)

    def turned_down(self, count: int) -> float:
        """Times a request with more rows than may wait, in nanoseconds: it is made, refused and dropped.

        This is the cost of admitting before the scheduler does anything.
        """
        clock = time.perf_counter_ns
        begin = clock()
        self._admit(count, rows=4 * QUEUED)
        return (clock() - begin) / count


def section(effort: Effort) -> Section:
    """All mixes."""
    table = Section(
        f"Scheduler: nanoseconds a request with {QUEUED:,} waiting, batches of {ROWS}",
        ["requests", "admit", "its share of next", "of done", "all", "unit", "without making the request"],
    )
    turns = effort.calls
    queues = {name: Queue(mix) for name, mix in MIXES.items()}
    for queue in queues.values():
        queue.turns(turns // 4)

    def costs(queue: Queue) -> tuple[Cost, float]:
        return queue.turns(turns), queue.turned_down(turns * ROWS)

    variants = {name: functools.partial(costs, queue) for name, queue in queues.items()}
    for name, measured in interleave(variants, effort.rounds).items():
        parts = {
            part: [getattr(cost, part) for cost, _ in measured] for part in ("admit", "next", "done", "all")
        }
        python = [made for _, made in measured]
        own = differences(parts["all"], python)
        table.raw |= {f"{name}, {part}": values for part, values in parts.items()}
        table.raw |= {f"{name}, making a request": python, f"{name}, without it": own}
        table.rows.append([name, *(spread(values) for values in parts.values()), "ns", spread(own)])
        table.verdict(f"us a request, {name}", statistics.median(own) / 1e3, at_most=1)
    return table


def main() -> None:
    """Measures, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_scheduler", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short and noisy run, to see that everything works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    options = parser.parse_args()
    effort = Effort.of(options.quick)
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    sections = {"scheduler": section(effort)}
    harness.show(sections["scheduler"])
    seconds = 1.0 if options.quick else 5.0
    sections["copying"] = harness.section_of(harness.child("callers.copying", str(seconds)))
    harness.show(sections["copying"])
    if options.json:
        harness.write_json(options.json, sections, asdict(effort))


if __name__ == "__main__":
    main()
