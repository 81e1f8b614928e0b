"""Lanes: items that overlap lie side by side, in as few lanes as possible."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.tracing.lanes import in_lanes

EXTENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=30)


@given(EXTENTS)
def test_nothing_overlaps_in_a_lane_and_no_lane_is_too_many(extents: list[tuple[int, int]]) -> None:
    items = [(begin, begin + length, (begin, begin + length)) for begin, length in extents]
    placed = in_lanes(items)
    assert sorted(item for _, item in placed) == sorted(item for *_, item in items)
    lanes = defaultdict(list)
    for lane, item in placed:
        lanes[lane].append(item)
    for held in lanes.values():
        assert all(before[1] <= after[0] for before, after in pairwise(held))
    most = max((sum(b <= at < e for b, e, _ in items) for at in range(60)), default=0)
    assert len(lanes) == most


def test_the_first_lane_that_is_free_is_taken_again() -> None:
    placed = in_lanes([(0, 10, "a"), (0, 4, "b"), (5, 9, "c"), (10, 12, "d"), (11, 12, "e")])
    assert placed == [(0, "a"), (1, "b"), (1, "c"), (0, "d"), (1, "e")]


def test_what_may_join_shares_the_lane_of_what_is_not_over() -> None:
    placed = in_lanes(
        [(0, 10, "a"), (1, 9, "b"), (2, 8, "a"), (3, 4, "b"), (10, 12, "b")],
        lambda held, item: item not in held,
    )
    assert placed == [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (0, "b")]


def test_what_takes_no_time_is_in_nobody_s_way() -> None:
    assert in_lanes([(1, 1, "a"), (1, 1, "b"), (1, 5, "c")]) == [(0, "c"), (1, "a"), (1, "b")]
