"""A contest takes the best of some settings beyond the noise, and else the one closer to the defaults."""

from __future__ import annotations

import pytest
from tuning_helpers import FakeBench, Figures, sample

from paddleinfer.errors import ConfigError
from paddleinfer.tuning.contest import Contest, Entrant, beats
from paddleinfer.tuning.goal import Goal
from paddleinfer.tuning.samples import Fell
from paddleinfer.tuning.settings import Setting

A, B, C = (Setting({"onednn": False}), Setting({"instances": 1, "cpu_threads": 2}), Setting({"instances": 1}))
DEFAULTS = Setting()


def played(figures: Figures, *others: Setting, goal: Goal | None = None) -> tuple[Contest, FakeBench]:
    bench = FakeBench(figures)
    contest = Contest(goal or Goal(), [DEFAULTS, *others])
    contest.play(bench.measure, lambda running: True)
    return contest, bench


def won(contest: Contest) -> str | None:
    winner = contest.winner()
    return None if winner is None else str(winner.setting)


@pytest.mark.parametrize(
    ("one", "other", "is_better"),
    [
        ([110, 112, 108], [100, 100, 100], True),
        ([110, 112, 99], [100, 100, 100], False),  # not in each round
        ([102, 102, 102], [100, 100, 100], False),  # by too little
        ([104, 204, 304], [100, 200, 300], False),  # 2 % in the median, whatever the drift
        ([104, 208, 312], [100, 200, 300], True),
        ([150, 90, 160, 155], [100] * 4, True),  # but for one, and by much
        ([110, 90, 112, 111], [100] * 4, False),
        ([150, 90, 160], [100] * 3, False),
        ([150, 90, 160, 95, 155], [100] * 5, False),
        ([140], [100], False),  # one round has to show more
        ([160], [100], True),
        ([130, 130], [100, 100], True),
        ([130, 115], [100, 110], False),
        ([], [], False),
        ([1], [0], False),
    ],
)
def test_better_is_what_is_so_in_each_round_and_by_enough(
    one: list[float], other: list[float], is_better: bool
) -> None:
    assert beats(one, other) is is_better


def test_the_best_wins_beyond_the_noise() -> None:
    contest, _ = played({"defaults": [100, 105, 95], str(A): [150, 160, 145], str(B): [120, 125, 118]}, A, B)
    assert won(contest) == "onednn=False"
    assert contest.ratio(contest.entrants[1]) == pytest.approx(1.524, abs=0.01)


def test_a_tie_goes_to_the_setting_closer_to_the_defaults() -> None:
    noisy = {"defaults": [100, 105, 95, 100, 100], str(A): [102, 99, 101, 103, 99]}
    assert won(played(noisy, A)[0]) == "defaults"
    both = {"defaults": [50.0], str(B): [102, 99, 101, 103, 100], str(C): [100, 101, 100, 100, 101]}
    assert won(played(both, B, C)[0]) == str(C)  # one change instead of two


def test_the_best_so_far_stays_where_another_has_the_best_median_and_bad_rounds() -> None:
    figures: Figures = {
        "defaults": [30, 31, 34, 28, 30],
        str(A): [47, 50, 60, 72, 50],
        str(B): [72, 86, 23, 80, 27],
    }
    contest = Contest(Goal(), [DEFAULTS, A], kept=2)
    contest.entrants.append(Entrant(B))
    contest.play(FakeBench(figures).measure, lambda running: True)
    assert won(contest) == str(A)


def test_what_is_far_behind_falls_out_and_the_defaults_stay_in() -> None:
    contest, bench = played({"defaults": [10.0], str(A): [100, 110, 95, 99, 101], str(B): 30.0}, A, B)
    assert [number for text, number in bench.measured if text == str(B)] == [0]
    assert contest.entrants[2].behind and not contest.entrants[0].behind
    assert won(contest) == str(A)


def test_rounds_end_once_it_is_clear_and_go_on_while_it_is_close() -> None:
    clear, _ = played({"defaults": 100.0, str(A): 200.0}, A)
    close, _ = played({"defaults": 100.0, str(A): 105.0}, A)
    assert (clear.rounds, close.rounds) == (3, 5)


def test_settings_take_turns_and_none_always_comes_first() -> None:
    _, bench = played({"defaults": 100.0, str(A): 100.0, str(B): 100.0}, A, B)
    rounds = [[text for text, n in bench.measured if n == number] for number in range(5)]
    assert [one[0] for one in rounds] == ["defaults", str(A), str(B), "defaults", str(A)]
    assert all(sorted(one) == sorted(rounds[0]) for one in rounds)


def test_what_crashes_in_a_round_is_out_and_the_others_go_on() -> None:
    crash = Fell("crashed", "its process ended with SIGSEGV")
    contest, _ = played({"defaults": 100.0, str(A): [300.0, crash], str(B): 200.0}, A, B)
    assert contest.entrants[1].fell is crash and won(contest) == str(B)


def test_limits_come_before_the_goal() -> None:
    figures = {
        "defaults": sample(100, p99_ms=5, memory_bytes=100),
        str(A): sample(300, p99_ms=50, memory_bytes=100),
        str(B): sample(200, p99_ms=5, memory_bytes=900),
        str(C): sample(150, p99_ms=5, memory_bytes=100),
    }
    both, _ = played(figures, A, B, C, goal=Goal(p99_ms=10, memory_limit_bytes=500))
    assert won(both) == str(C)
    assert both.misses(both.entrants[1]) == "its p99 is 50 ms, and 10 is the limit"
    assert both.misses(both.entrants[2]) == "it takes 900 bytes, and 500 is the limit"
    none, _ = played(figures, A, B, C, goal=Goal(p99_ms=1))
    assert won(none) is None


def test_each_goal_has_its_own_winner() -> None:
    figures = {
        "defaults": sample(100, p50_ms=5, memory_bytes=500),
        str(A): sample(200, p50_ms=9, memory_bytes=700),
        str(B): sample(99, p50_ms=1, memory_bytes=600),
        str(C): sample(98, p50_ms=6, memory_bytes=300),
        "mkl_amd=False": sample(60, p50_ms=6, memory_bytes=100),
    }
    others = (A, B, C, Setting({"mkl_amd": False}))
    assert won(played(figures, *others)[0]) == str(A)
    assert won(played(figures, *others, goal=Goal("latency"))[0]) == str(B)
    least, _ = played(figures, *others, goal=Goal("memory"))
    assert won(least) == str(C)
    assert least.misses(least.entrants[4]) == "it answers 60 rows a second, and the defaults 100"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "speed"}, 'goal must be one of "throughput", "latency", "memory"'),
        ({"p99_ms": 0}, "p99_ms must be a number of milliseconds above 0"),
        ({"p99_ms": "5"}, "p99_ms must be a number of milliseconds above 0"),
        ({"memory_limit_bytes": True}, "memory_limit_bytes must be an integer from 1 up"),
    ],
)
def test_a_goal_that_is_none_is_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Goal(**fields)  # type: ignore[arg-type]
