"""Which models give way to others, without models: the policy alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from paddleinfer.shim.service.memory_budget import MemoryBudget

KEYS = st.integers(0, 7)
SIZES = st.integers(0, 60)
SETS = st.frozensets(KEYS)
LIMIT = 100


def loaded(limit_bytes: int = LIMIT, **sizes: int) -> MemoryBudget[str]:
    """Keys in the order of their use, the least recently used first."""
    budget: MemoryBudget[str] = MemoryBudget(limit_bytes)
    for key, size_bytes in sizes.items():
        budget.count(key, size_bytes)
    return budget


def test_what_fits_needs_no_victim() -> None:
    assert loaded(a=40, b=40).victims(20, (), ()) == []
    assert loaded(a=40, b=40).lacking_bytes(20) == 0


def test_the_least_recently_used_gives_way() -> None:
    budget = loaded(a=40, b=40)
    assert budget.victims(40, (), ()) == ["a"]
    budget.use("a")
    assert budget.victims(40, (), ()) == ["b"]
    assert budget.victims(100, (), ()) == ["b", "a"]


def test_what_is_in_use_gives_way_after_all_others() -> None:
    assert loaded(a=40, b=40).victims(40, (), {"a"}) == ["b"]
    assert loaded(a=40, b=40).victims(40, (), {"a", "b"}) == ["a"]


def test_what_is_kept_does_not_give_way() -> None:
    assert loaded(a=40, b=40).victims(40, {"a"}, ()) == ["b"]
    assert loaded(a=40, b=40).victims(70, {"a"}, ()) is None
    assert loaded(a=40, b=40).most_bytes({"a"}) == 60


def test_none_gives_way_that_a_larger_one_spares() -> None:
    assert loaded(a=10, b=10, c=80).victims(50, (), ()) == ["c"]
    assert loaded(a=10, b=10, c=80).victims(90, (), ()) == ["a", "c"]


def test_a_size_that_was_measured_takes_the_place_of_the_estimate() -> None:
    budget = loaded(a=40, b=40)
    budget.count("a", 70)
    assert (budget.loaded_bytes, budget.lacking_bytes(0), budget.size("a")) == (110, 10, 70)
    assert budget.victims(0, {"a"}, ()) == ["b"]
    budget.discard("a")
    budget.discard("a")
    assert (budget.loaded_bytes, budget.peak_bytes, budget.size("a"), "a" in budget) == (40, 110, 0, False)


@given(st.dictionaries(KEYS, SIZES), st.integers(0, 120), SETS, SETS)
def test_victims_are_just_enough_and_used_less_than_those_that_stay(
    sizes: dict[int, int], more_bytes: int, kept: frozenset[int], busy: frozenset[int]
) -> None:
    budget: MemoryBudget[int] = MemoryBudget(LIMIT)
    for key, size_bytes in sizes.items():
        budget.count(key, size_bytes)
    lacking = budget.lacking_bytes(more_bytes)
    may_go = [key for key in sizes if key not in kept]
    victims = budget.victims(more_bytes, kept, busy)
    if victims is None:
        assert sum(sizes[key] for key in may_go) < lacking
        return
    freed = sum(sizes[key] for key in victims)
    assert freed >= lacking
    assert all(freed - sizes[key] < lacking for key in victims)
    assert kept.isdisjoint(victims)
    # Whatever stays although it was used before the last victim would not have helped.
    order = sorted(may_go, key=lambda key: key in busy)
    if victims:
        before_last = order[: order.index(victims[-1])]
        assert [key for key in before_last if key in victims] == victims[:-1]
        assert sum(sizes[key] for key in before_last) < lacking


class Loads(RuleBasedStateMachine):
    """Loads, uses and unloads in any order, with victims unloaded before each load."""

    def __init__(self) -> None:
        super().__init__()
        self.budget: MemoryBudget[int] = MemoryBudget(LIMIT)
        self.order: list[int] = []
        self.sizes: dict[int, int] = {}

    @rule(key=KEYS, size_bytes=SIZES, kept=SETS, busy=SETS)
    def load(self, key: int, size_bytes: int, kept: frozenset[int], busy: frozenset[int]) -> None:
        more_bytes = size_bytes - self.sizes.get(key, 0)
        victims = self.budget.victims(more_bytes, kept | {key}, busy)
        if victims is None:
            others = sum(size for other, size in self.sizes.items() if other in kept and other != key)
            assert others + size_bytes > LIMIT
            assert self.budget.most_bytes(kept - {key}) < size_bytes
            return
        for victim in victims:
            self.unload(victim)
        self.budget.count(key, size_bytes)
        self.sizes[key] = size_bytes
        if key not in self.order:
            self.order.append(key)

    @precondition(lambda self: self.order)
    @rule(place=st.integers(0, 7))
    def use(self, place: int) -> None:
        key = self.order.pop(place % len(self.order))
        self.budget.use(key)
        self.order.append(key)

    @rule(key=KEYS)
    def unload(self, key: int) -> None:
        self.budget.discard(key)
        if self.sizes.pop(key, None) is not None:
            self.order.remove(key)

    @invariant()
    def the_bound_holds_and_the_order_is_that_of_use(self) -> None:
        assert self.budget.loaded_bytes == sum(self.sizes.values()) <= LIMIT
        assert self.budget.peak_bytes <= LIMIT
        assert [key for key in range(8) if key in self.budget] == sorted(self.sizes)
        others = [key for key in self.order if self.sizes[key]]
        if others:  # one byte more than fits takes the first with any
            lacking_one = LIMIT - self.budget.loaded_bytes + 1
            assert self.budget.victims(lacking_one, (), ()) == [others[0]]


test_loads_in_any_order = Loads.TestCase
