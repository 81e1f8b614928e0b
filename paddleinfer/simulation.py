"""What the scheduler makes of a load, on a virtual clock."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.arrival_processes import ArrivalProcess, Drawn
from paddleinfer.errors import ConfigError
from paddleinfer.run_times import LatencyTable

_NEVER = 1 << 62


@dataclass(frozen=True)
class Policy:
    name: str
    delay_ms: float | None = None


def simulate(arrivals, table, policy=Policy("adaptive"), *, instances=1, requests=10000, seed=1, max_batch_size=32,
             scheduler=None, **options):
    drawn = arrivals.draw(requests, seed)
    if scheduler is None:
        scheduler = _ext.Scheduler(
            instances=instances,
            policy=policy.name,
            max_batch_size=max_batch_size,
            max_hold_us=None if policy.delay_ms is None else int(policy.delay_ms * 1000),
            **options,
        )
    run = _Run(drawn, table, scheduler, instances, seed, max_batch_size)
    run.go()
    return run


class _Run:
    def __init__(self, drawn, table, scheduler, instances, seed, max_batch_size):
        self.drawn = drawn
        self.scheduler = scheduler
        self.instances = instances
        rows = range(1, max_batch_size + 1)
        self.mean_ns = [0.0] + [table.mean_us(n) * 1e3 for n in rows]
        self.spread = [0.0] + [table.spread(n) for n in rows]
        self.random = np.random.default_rng([seed, 3])

    def go(self):
        drawn = self.drawn
        count = len(drawn.kind_of)
        admit, next_, done = self.scheduler.admit, self.scheduler.next, self.scheduler.done
        offsets, kind_of = drawn.offsets_ns, drawn.kind_of
        kinds = [
            (k.rows, None if k.deadline_ms is None else round(k.deadline_ms * 1e6), k.priority, k.bucket)
            for k in drawn.kinds
        ]
        callers = drawn.callers
        mean_ns = self.mean_ns
        arrived = [0] * count
        ended = [-1] * count
        busy = []
        idle = self.instances
        nexts = 0
        place = 0
        soonest_end = wake = _NEVER
        coming = offsets[0]
        refused = late = 0
        runs = 0
        rows, relative, priority, bucket = kinds[0]
        single = len(kinds) == 1
        factor = np.exp(self.spread[1]*self.random.standard_normal(count)-self.spread[1]**2/2).tolist()
        while True:
            if coming <= soonest_end and coming <= wake:
                now = coming
                if not single:
                    rows, relative, priority, bucket = kinds[kind_of[place]]
                arrived[place] = now
                if (
                    admit(place, now, rows=rows, bucket=bucket,
                          deadline=None if relative is None else now + relative, priority=priority)
                    != "accepted"
                ):
                    refused += 1
                place += 1
                if place == count: break
                coming = offsets[place]
                if not idle or coming == now:
                    continue
            elif soonest_end <= wake:
                now, batch, run_ns = heapq.heappop(busy)
                idle += 1
                for number in done(batch, run_ns, now):
                    ended[number] = now
                soonest_end = busy[0][0] if busy else _NEVER
                if coming == now or soonest_end == now:
                    continue
            else:
                now = wake
            wake = _NEVER
            while idle:
                nexts += 1
                batch = next_(now)
                if batch.late:
                    late += len(batch.late)
                if batch.number is None:
                    if batch.wake_at is not None:
                        wake = batch.wake_at
                    break
                idle -= 1
                run_ns = int(mean_ns[batch.rows] * factor[runs])
                runs += 1
                heapq.heappush(busy, (now + run_ns, batch.number, run_ns))
                soonest_end = busy[0][0]
        self.arrived, self.ended, self.refused, self.late, self.runs, self.nexts = arrived, ended, refused, late, runs, nexts
        self.now = now
