"""The cache of results against a simple one: what is kept, what leaves, and what runs, whatever is asked."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from engine_helpers import PATIENCE_S, Arrays, X, rows
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import paddleinfer

FACTORS = {"y": 2, "z": 3}

Key = tuple[float, int, tuple[str, ...]]


def overhead_bytes(outputs: int) -> int:
    """What an entry of so many outputs takes beside their bytes."""
    with engine(1 << 20, lambda: None) as one:
        results = one.infer(rows(), outputs=list(FACTORS)[:outputs])
        return int(one.stats()["cache_bytes"]) - sum(array.nbytes for array in results.values())


def engine(cache_bytes: int, note: Callable[[], object]) -> paddleinfer.Engine:
    def multiplied(inputs: Arrays) -> Arrays:
        note()
        return {name: inputs["x"] * factor for name, factor in FACTORS.items()}

    return paddleinfer.Engine.from_callable(
        multiplied, {"x": X}, list(FACTORS), cache_bytes=cache_bytes, batchable=False
    )


def infer(one: paddleinfer.Engine, x: np.ndarray, outputs: Sequence[str]) -> Arrays:
    return one.infer(x, outputs=outputs)


def submit(one: paddleinfer.Engine, x: np.ndarray, outputs: Sequence[str]) -> Arrays:
    return one.submit(x, outputs=outputs).result(PATIENCE_S)


def infer_many(one: paddleinfer.Engine, x: np.ndarray, outputs: Sequence[str]) -> Arrays:
    (results,) = one.infer_many([x], outputs=outputs)
    return results


def ainfer(one: paddleinfer.Engine, x: np.ndarray, outputs: Sequence[str]) -> Arrays:
    async def awaited() -> Arrays:
        return await one.ainfer(x, outputs=outputs)

    return asyncio.run(awaited())


class CacheMachine(RuleBasedStateMachine):
    """One caller asks one request after the other."""

    overheads: ClassVar[dict[int, int]] = {}

    @initialize(limit=st.sampled_from([1, 500, 900, 1500, 4000]))
    def open(self, limit: int) -> None:
        if not self.overheads:
            self.overheads.update({count: overhead_bytes(count) for count in (1, 2)})
        self.limit = limit
        self.ran = 0
        self.engine = engine(limit, self.count)
        self.kept: OrderedDict[Key, int] = OrderedDict()
        self.hits = self.misses = self.evictions = 0

    def count(self) -> None:
        self.ran += 1

    @rule(
        call=st.sampled_from([infer, submit, infer_many, ainfer]),
        value=st.sampled_from([0.0, 1.0, 2.0, 3.0]),
        count=st.integers(1, 4),
        outputs=st.sampled_from([("y",), ("z",), ("y", "z"), ("z", "y")]),
        in_place=st.booleans(),
    )
    def ask(self, call: Any, value: float, count: int, outputs: tuple[str, ...], in_place: bool) -> None:
        key = (value, count, outputs)
        x = rows(count, value)
        before = self.ran
        results = call(self.engine, x, list(outputs))
        assert list(results) == list(outputs)
        for name, array in results.items():
            np.testing.assert_array_equal(array, x * FACTORS[name])
        size = self.overheads[len(outputs)] + sum(array.nbytes for array in results.values())
        if in_place:
            for array in results.values():
                array[:] = -1
        x[:] = 99  # its caller's again
        assert (self.ran == before) is (key in self.kept)
        if key in self.kept:
            self.hits += 1
            self.kept.move_to_end(key)
            return
        self.misses += 1
        if size > self.limit:
            return
        self.kept[key] = size
        while sum(self.kept.values()) > self.limit:
            self.kept.popitem(last=False)
            self.evictions += 1

    @rule()
    def reload(self) -> None:
        self.engine.reload()
        self.kept.clear()

    @invariant()
    def counts_what_it_did(self) -> None:
        if not hasattr(self, "engine"):
            return
        stats = self.engine.stats()
        assert stats["cache_entries"] == len(self.kept)
        assert stats["cache_bytes"] == sum(self.kept.values()) <= self.limit
        assert (stats["cache_hits"], stats["cache_misses"]) == (self.hits, self.misses)
        assert stats["cache_evictions"] == self.evictions
        assert stats["requests"] == stats["results"] == self.hits + self.misses
        assert stats["executions"] == self.misses

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
