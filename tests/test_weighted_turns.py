"""Turns by weight: how often each comes, and who is passed over."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.weighted_turns import WeightedTurns


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
def test_of_as_many_requests_as_the_weights_add_up_to_each_variant_gets_its_weight(
    weights: list[int],
) -> None:
    variants = [
        SimpleNamespace(place=place, weight=weight, ready=True) for place, weight in enumerate(weights)
    ]
    turns = WeightedTurns(len(variants))
    for _ in range(3):
        chosen = [turns.next(variants).place for _ in range(sum(weights))]
        assert [chosen.count(place) for place in range(len(weights))] == weights


@given(st.data())
def test_turns_never_chooses_one_that_is_not_ready_while_another_is(data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=5))
    variants = [SimpleNamespace(weight=weight, ready=True) for weight in weights]
    turns = WeightedTurns(len(variants))
    for _ in range(20):
        for variant in variants:
            variant.ready = data.draw(st.booleans())
        chosen = turns.next(variants)
        assert chosen.ready or not any(variant.ready for variant in variants)
