"""A search varies the best so far, stage by stage, and keeps it through crashes, lack of time and Ctrl-C."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tuning_helpers import FakeBench, Figures, sample

from paddleinfer.tuning.goal import Goal
from paddleinfer.tuning.samples import Fell
from paddleinfer.tuning.search import Found, search
from paddleinfer.tuning.settings import STAGES, Facts

WORSE = 80.0


class Otherwise(dict[str, Any]):
    """Settings that are not named are worse."""

    def __missing__(self, key: str) -> float:
        return WORSE


def searched(figures: Figures, goal: Goal | None = None, facts: Any = None, **bench: Any) -> Found:
    return searched_on(FakeBench(Otherwise(figures), **bench), goal, facts)


def searched_on(bench: FakeBench, goal: Goal | None = None, facts: Any = None) -> Found:
    def facts_of(in_force: Mapping[str, Any]) -> Facts:
        return Facts(**{"cores": 2, "rows_at_once": 8, "in_force": in_force, **(facts or {})})

    return search(goal or Goal(), facts_of, STAGES, bench)


def test_each_stage_varies_the_best_of_those_before() -> None:
    found = searched(
        {
            "defaults": 100.0,
            "onednn=False": 200.0,
            "onednn=False, instances=1": 300.0,
            "onednn=False, instances=1, max_batch_size=4": 400.0,
        }
    )
    assert str(found.best) == "onednn=False, instances=1, max_batch_size=4"
    assert found.gain == pytest.approx(4.0) and not found.not_tried and not found.interrupted
    assert found.tried["onednn=False"].of_defaults == pytest.approx(2.0)


def test_nothing_better_than_the_defaults_leaves_them() -> None:
    found = searched({"defaults": 100.0})
    assert str(found.best) == "defaults" and found.gain == 1.0
    assert found.tried["onednn=False"].of_defaults == pytest.approx(0.8)


def test_noise_is_a_tie_in_two_searches_that_see_it_differently() -> None:
    for drift in (0.98, 1.02):
        close = [100 * drift, 100 / drift, 100 * drift, 100 / drift, 100 * drift]
        found = searched({"defaults": 100.0, "onednn=False": close})
        assert str(found.best) == "defaults"


def test_what_cannot_be_measured_is_listed_with_its_reason_and_the_search_goes_on() -> None:
    found = searched(
        {
            "defaults": 100.0,
            "onednn=False": Fell("crashed", "its process ended with SIGSEGV"),
            "backend=onnxruntime": Fell("differs", "output 'y' differs by 1"),
            "instances=1": 150.0,
        },
        facts={"backends": ("paddle", "onnxruntime")},
    )
    assert str(found.best) == "instances=1"
    crashed, differs = found.tried["onednn=False"].fell, found.tried["backend=onnxruntime"].fell
    assert crashed is not None and crashed.outcome == "crashed"
    assert differs is not None and differs.reason == "output 'y' differs by 1"


def test_defaults_that_cannot_be_measured_end_it() -> None:
    with pytest.raises(Fell, match="no memory"):
        searched({"defaults": Fell("refused", "no memory")})


def test_a_lack_of_time_is_said_and_what_was_found_stays() -> None:
    found = searched({"defaults": 100.0, "onednn=False": 200.0}, left_s=12.0)
    assert str(found.best) == "onednn=False"
    assert found.not_tried == list(STAGES)[1:4]  # nothing is padded


def test_no_more_settings_are_opened_than_there_is_time_to_measure() -> None:
    bench = FakeBench(Otherwise({"defaults": 100.0}), left_s=17.0)
    found = searched_on(bench, facts={"fixed": {"onednn", "instances"}, "rows_at_once": 64})
    opened = [text for text in bench.opened if "max_batch_size" in text]
    assert opened == [f"max_batch_size={size}" for size in (1, 4, 8, 16)]
    assert all(found.tried[text].samples for text in opened)


def test_a_stage_that_was_cut_short_takes_nothing_back() -> None:
    figures = {"defaults": [100.0], "onednn=False": [120.0, 121.0, 122.0, 120.0, 121.0, 100.0]}

    def slow(text: str, number: int) -> None:
        if text == "onednn=False, instances=1" and number == 1:
            raise KeyboardInterrupt

    found = searched(figures, before=slow)
    assert found.interrupted and str(found.best) == "onednn=False"


def test_ctrl_c_keeps_what_was_found_so_far() -> None:
    def press(text: str, number: int) -> None:
        if "max_batch_size" in text:
            raise KeyboardInterrupt

    bench = FakeBench(Otherwise({"defaults": 100.0, "onednn=False": 200.0}), before=press)
    found = searched_on(bench)
    assert found.interrupted and str(found.best) == "onednn=False"
    assert found.not_tried == ["batch size", "settings of the process"]
    assert "onednn=False, max_batch_size=4" in bench.closed


def test_ctrl_c_before_anything_was_compared_ends_it() -> None:
    def press(text: str, number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched({"defaults": 100.0}, before=press)


def test_losers_are_closed_and_the_defaults_and_the_best_stay_loaded() -> None:
    bench = FakeBench(Otherwise({"defaults": 100.0, "onednn=False": 200.0}))
    searched_on(bench)
    assert "defaults" not in bench.closed and "onednn=False" not in bench.closed
    assert sorted(bench.closed) == sorted(set(bench.opened) - {"defaults", "onednn=False"})
    assert len(bench.opened) == len(set(bench.opened))


def test_where_nothing_keeps_the_limits_there_is_no_best() -> None:
    found = searched({"defaults": sample(100, p99_ms=9)}, Goal(p99_ms=1))
    assert found.best is None and found.tried["defaults"].misses == "its p99 is 9 ms, and 1 is the limit"


def test_a_later_stage_may_keep_limits_that_the_first_ones_missed() -> None:
    figures = {"defaults": sample(100, p99_ms=9), "instances=1": sample(90, p99_ms=1)}
    others = {"onednn=False": sample(200, p99_ms=9)}
    found = searched({**figures, **others}, Goal(p99_ms=5), {"rows_at_once": 1, "fixed": {"eager_deletion"}})
    assert str(found.best) == "instances=1"


def test_with_nothing_to_try_the_defaults_alone_are_measured() -> None:
    fixed = frozenset(("onednn", "instances", "max_batch_size", "eager_deletion"))
    found = searched({"defaults": 100.0}, facts={"fixed": fixed})
    assert str(found.best) == "defaults" and len(found.tried["defaults"].samples) == 1
