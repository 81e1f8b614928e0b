"""Draws when requests come: Poisson, bursty, from callers who wait for their answers, or as recorded.

An arrival process draws its requests from a seed, before anything runs. So every simulated policy gets the
same ones: the same times and kinds and, from callers who wait, the same pauses between an answer and the
next call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["ArrivalProcess", "Bursty", "ClosedLoop", "Drawn", "Poisson", "Recorded", "RequestKind", "Wave"]

_NANOS = 1e9
_MOST_PERIODS = 10_000
_TIMES, _KINDS, _STATES = range(3)  # numbers of the streams of random numbers that one seed gives


@dataclass(frozen=True)
class RequestKind:
    """What a request asks for. A process with several kinds draws each request's kind by weight."""

    rows: int = 1
    """Rows of each request."""
    deadline_ms: float | None = None
    """Milliseconds from arrival to deadline; None: it has no deadline."""
    priority: int = 1
    """The priority: 0 is the most urgent, 2 the least."""
    bucket: int = 0
    """The bucket. Requests of one bucket have the same shapes, and may share a batch."""
    weight: float = 1.0
    """How often this kind comes, relative to the other kinds' weights."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigError(f"rows must be at least 1, not {shown(self.rows)}")
        if self.deadline_ms is not None and not 0 < self.deadline_ms < math.inf:
            raise ConfigError(f"deadline_ms must be a positive number or None, not {shown(self.deadline_ms)}")
        if self.priority not in (0, 1, 2):
            raise ConfigError(f"priority must be 0, 1 or 2, not {shown(self.priority)}")
        if not 0 < self.weight < math.inf:
            raise ConfigError(f"weight must be a positive number, not {shown(self.weight)}")


@dataclass(frozen=True, eq=False)
class Drawn:
    """The requests of one simulation, numbered from 0 on."""

    kinds: tuple[RequestKind, ...]
    kind_of: npt.NDArray[np.int32]
    """The place in ``kinds`` of each request."""
    offsets_ns: npt.NDArray[np.int64]
    """When each request comes, in nanoseconds, never falling. With callers who wait: how long its caller
    thinks before it, after an answer or the start."""
    callers: int = 0
    """How many callers wait for answers; whoever has one first makes the next request. 0: nobody waits."""


class ArrivalProcess(Protocol):
    """Anything with ``draw``."""

    def draw(self, requests: int, seed: int) -> Drawn:
        """Draws so many requests; the same seed gives the same ones."""


@dataclass(frozen=True)
class Poisson:
    """Requests of independent callers: the gaps are exponential."""

    rate_per_s: float
    """Requests a second, on average."""
    kinds: tuple[RequestKind, ...] = (RequestKind(),)
    """The kinds of its requests."""

    def __post_init__(self) -> None:
        _check_positive("rate_per_s", self.rate_per_s)
        _check_kinds(self.kinds)

    def draw(self, requests: int, seed: int) -> Drawn:
        """See ``ArrivalProcess``."""
        times = _random(seed, _TIMES).standard_exponential(requests).cumsum() / self.rate_per_s
        return Drawn(self.kinds, _kind_of(self.kinds, requests, seed), _nanos(times))


@dataclass(frozen=True)
class Bursty:
    """A two-state Markov-modulated Poisson process: bursts and calm alternate, each of exponential length."""

    rate_per_s: float
    """Requests a second, on average over bursts and calm."""
    burst_factor: float = 3.0
    """The rate in a burst, in units of ``rate_per_s``. ``burst_factor * burst_share`` is at most 1."""
    burst_share: float = 0.25
    """The share of the time that bursts take."""
    burst_s: float = 0.2
    """The mean length of a burst, in seconds."""
    kinds: tuple[RequestKind, ...] = (RequestKind(),)
    """The kinds of its requests."""

    def __post_init__(self) -> None:
        _check_positive("rate_per_s", self.rate_per_s)
        _check_positive("burst_s", self.burst_s)
        if not 0 < self.burst_share < 1:
            raise ConfigError(f"burst_share must be between 0 and 1, not {shown(self.burst_share)}")
        if not 1 <= self.burst_factor <= 1 / self.burst_share:
            raise ConfigError(
                f"burst_factor must be from 1 to 1 / burst_share, which is {1 / self.burst_share:g}, "
                f"not {shown(self.burst_factor)}"
            )
        _check_kinds(self.kinds)

    def draw(self, requests: int, seed: int) -> Drawn:
        """See ``ArrivalProcess``."""
        # A Poisson process of rate 1 is stretched so that each unit of its time holds one expected request.
        grown = _random(seed, _TIMES).standard_exponential(requests).cumsum()
        ends, grown_at_ends = self._states(grown[-1] if requests else 0.0, _random(seed, _STATES))
        return Drawn(
            self.kinds,
            _kind_of(self.kinds, requests, seed),
            _nanos(np.interp(grown, grown_at_ends, ends)),
        )

    def _states(self, growth: float, random: np.random.Generator) -> tuple[_Floats, _Floats]:
        """Returns the ends of bursts and calm, in seconds, and how many requests are expected until each."""
        calm_factor = (1 - self.burst_factor * self.burst_share) / (1 - self.burst_share)
        calm_s = self.burst_s * (1 - self.burst_share) / self.burst_share
        lengths = np.array([self.burst_s, calm_s])
        rates = np.array([self.burst_factor, calm_factor]) * self.rate_per_s
        if random.random() >= self.burst_share:
            lengths, rates = lengths[::-1], rates[::-1]
        both_s = float(lengths.sum())
        ends, grown_at_ends = np.zeros(1), np.zeros(1)
        while grown_at_ends[-1] <= growth:
            pairs = 8 + int(1.2 * (growth - grown_at_ends[-1]) / (both_s * self.rate_per_s))
            spent = random.standard_exponential((pairs, 2)) * lengths
            ends = np.concatenate([ends, ends[-1] + spent.cumsum()])
            grown_at_ends = np.concatenate([grown_at_ends, grown_at_ends[-1] + (spent * rates).cumsum()])
        return ends, grown_at_ends


@dataclass(frozen=True)
class Wave:
    """Poisson requests whose rate rises and falls as a sine does, from its mean on."""

    rate_per_s: float
    """Requests a second, on average."""
    swing: float = 0.6
    """How far the rate goes above and below its mean, as a share of it; at most 1."""
    period_s: float = 600.0
    """Seconds from one peak to the next."""
    kinds: tuple[RequestKind, ...] = (RequestKind(),)
    """The kinds of its requests."""

    def __post_init__(self) -> None:
        _check_positive("rate_per_s", self.rate_per_s)
        _check_positive("period_s", self.period_s)
        if not 0 <= self.swing <= 1:
            raise ConfigError(f"swing must be from 0 to 1, not {shown(self.swing)}")
        _check_kinds(self.kinds)

    def draw(self, requests: int, seed: int) -> Drawn:
        """See ``ArrivalProcess``."""
        # As of Bursty: a process of rate 1 is stretched.
        grown = _random(seed, _TIMES).standard_exponential(requests).cumsum()
        turn = 2 * math.pi / self.period_s
        periods = math.ceil((grown[-1] if requests else 0.0) / (self.rate_per_s * self.period_s)) + 1
        if periods > _MOST_PERIODS:
            raise ConfigError(
                f"period_s of {shown(self.period_s)} makes more than {_MOST_PERIODS} waves of {requests} "
                "requests; give a longer one"
            )
        times = np.linspace(0.0, periods * self.period_s, 1_000 * periods + 1)
        grown_at = self.rate_per_s * (times + self.swing * (1 - np.cos(turn * times)) / turn)
        return Drawn(
            self.kinds, _kind_of(self.kinds, requests, seed), _nanos(np.interp(grown, grown_at, times))
        )


@dataclass(frozen=True)
class ClosedLoop:
    """Callers who each wait for an answer, think, and call again."""

    callers: int
    """How many callers wait for their answers."""
    think_ms: float = 0.0
    """The mean time for which a caller thinks before a call, in milliseconds; it is exponential."""
    kinds: tuple[RequestKind, ...] = (RequestKind(),)
    """The kinds of its requests."""

    def __post_init__(self) -> None:
        if self.callers < 1:
            raise ConfigError(f"callers must be at least 1, not {shown(self.callers)}")
        if not 0 <= self.think_ms < math.inf:
            raise ConfigError(f"think_ms must be 0 or more, not {shown(self.think_ms)}")
        _check_kinds(self.kinds)

    def draw(self, requests: int, seed: int) -> Drawn:
        """See ``ArrivalProcess``."""
        think_s = _random(seed, _TIMES).standard_exponential(requests) * self.think_ms / 1e3
        return Drawn(self.kinds, _kind_of(self.kinds, requests, seed), _nanos(think_s), self.callers)


@dataclass(frozen=True)
class Recorded:
    """Recorded arrivals."""

    times_s: Sequence[float]
    """When requests came, in seconds from any origin; never falling."""
    kinds: tuple[RequestKind, ...] = (RequestKind(),)
    """The kinds of its requests."""
    kind_of: Sequence[int] | None = None
    """The place in ``kinds`` of each request. None: kinds are drawn by weight."""

    def __post_init__(self) -> None:
        times = np.asarray(self.times_s, dtype=np.float64)
        if not len(times) or not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise ConfigError("times_s must be one or more finite numbers that never fall")
        if self.kind_of is not None:
            places = range(len(self.kinds))
            if len(self.kind_of) != len(times) or not all(place in places for place in self.kind_of):
                raise ConfigError(f"kind_of must have a place in kinds for each of the {len(times)} times")
        _check_kinds(self.kinds)

    def draw(self, requests: int, seed: int) -> Drawn:
        """Returns the first so many, or all that were recorded; the seed only draws kinds."""
        times = np.asarray(self.times_s[:requests], dtype=np.float64)
        if self.kind_of is None:
            kind_of = _kind_of(self.kinds, len(times), seed)
        else:
            kind_of = np.asarray(self.kind_of[: len(times)], dtype=np.int32)
        return Drawn(self.kinds, kind_of, _nanos(times - times[0]))


_Floats = npt.NDArray[np.float64]


def _random(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, stream])


def _nanos(seconds: _Floats) -> npt.NDArray[np.int64]:
    return np.rint(seconds * _NANOS).astype(np.int64)


def _kind_of(kinds: tuple[RequestKind, ...], requests: int, seed: int) -> npt.NDArray[np.int32]:
    if len(kinds) == 1:
        return np.zeros(requests, np.int32)
    weights = np.array([kind.weight for kind in kinds])
    drawn = _random(seed, _KINDS).choice(len(kinds), size=requests, p=weights / weights.sum())
    return drawn.astype(np.int32)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be a positive number, not {shown(value)}")


def _check_kinds(kinds: tuple[RequestKind, ...]) -> None:
    if not kinds:
        raise ConfigError("kinds must hold at least one kind of request")
