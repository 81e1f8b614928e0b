"""How slow a client may be, on a clock of the test's own."""

from __future__ import annotations

import pytest

from paddleinfer.shim.http.pace import Pace, PaceLimits

LIMITS = PaceLimits(silence_s=10.0, least_bytes_per_s=100.0, total_s=60.0)


def ended_s(limits: PaceLimits, every_s: float, count_bytes: int) -> tuple[float, str]:
    """When a message that comes in such pieces is too slow, and why."""
    pace = Pace(limits, 0.0)
    now_s = 0.0
    while pace.left_s(now_s) > 0 and now_s < 10_000:
        now_s += min(every_s, pace.left_s(now_s))
        if pace.left_s(now_s) > 0:
            pace.move(now_s, count_bytes)
    return now_s, pace.fault(now_s)


def test_silence_ends_it() -> None:
    assert ended_s(LIMITS, 11.0, 1000) == (10.0, "nothing more came for 10 s")


def test_a_drip_ends_as_soon_as_silence_does() -> None:
    ends_s, why = ended_s(LIMITS, 0.5, 1)
    assert ends_s == pytest.approx(10.2, abs=0.05)
    assert why == "it came at less than 100 bytes/s"


def test_what_was_fast_and_then_drips_ends_when_it_is_too_slow_on_the_average() -> None:
    pace = Pace(LIMITS, 0.0)
    pace.move(1.0, 2000)
    for second in range(2, 30):
        assert pace.left_s(second) > 0
        pace.move(second, 1)
    assert pace.left_s(31.0) <= 0


def test_the_least_rate_is_enough_until_the_total_time_is_over() -> None:
    ends_s, why = ended_s(LIMITS, 1.0, 101)
    assert (ends_s, why) == (60.0, "it was not whole after 60 s")


def test_another_message_begins_anew() -> None:
    pace = Pace(LIMITS, 0.0)
    pace.begin(59.0)
    assert pace.left_s(60.0) == pytest.approx(9.0)


def test_without_a_total_time_only_the_rate_counts() -> None:
    assert ended_s(PaceLimits(10.0, 100.0), 1.0, 101)[0] >= 10_000
