"""Models how long a batch takes by its rows, for simulations, and derives bounds from that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paddleinfer.engine.warmup import WarmupReport
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown
from paddleinfer.simulation.arrivals import ArrivalProcess

__all__ = ["LatencyTable", "RunTimes", "attainable_goodput", "capacity", "mean_latency_bound"]

_Z95 = 1.6448536269514722  # the 95th percentile of a normal distribution
_MOST_P95_TO_MEAN = math.exp(_Z95**2 / 2)  # the largest ratio of a lognormal distribution

_JITTER = 0.05
_BATCH_SIZE = 32
_DRAWN_AT_ONCE = 4096
_NOISE = 3  # the stream of random numbers after those of arrival processes


@dataclass(frozen=True)
class LatencyTable:
    """Mean and 95th percentile of a run, by rows. ``linear``, ``points`` and ``measured`` make one.

    Between the given sizes, and beyond the largest, times follow straight lines. The times of one size are
    lognormal.
    """

    sizes: tuple[tuple[float, float, float], ...]
    """(rows, mean microseconds, 95th percentile in microseconds), rows rising."""

    @classmethod
    def linear(cls, a_us: float, b_us: float, jitter: float = _JITTER) -> LatencyTable:
        """Makes a table in which a run of n rows takes ``a_us + b_us * n`` microseconds on average.

        ``jitter`` is the standard deviation of a run time over its mean.
        """
        for name, value in (("a_us", a_us), ("b_us", b_us)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be 0 or more, not {shown(value)}")
        if a_us + b_us <= 0:
            raise ConfigError("a_us and b_us must not both be 0")
        above = _p95_to_mean(jitter)
        return cls(tuple((n, a_us + b_us * n, above * (a_us + b_us * n)) for n in (0, 1)))

    @classmethod
    def points(cls, times_us: Mapping[int, tuple[float, float]]) -> LatencyTable:
        """Makes a table from rows -> (mean, 95th percentile) of a run, in microseconds."""
        if not times_us:
            raise ConfigError("a latency table needs the times of at least one batch size")
        for rows, (mean, p95) in times_us.items():
            if rows < 1 or not 0 < mean <= p95 <= mean * _MOST_P95_TO_MEAN:
                raise ConfigError(
                    f"{shown(rows)} rows with a mean of {shown(mean)} and a 95th percentile of {shown(p95)} "
                    f"us: there must be at least 1 row, and the percentile must be from 1 to "
                    f"{_MOST_P95_TO_MEAN:.1f} means"
                )
        return cls(tuple((rows, *times_us[rows]) for rows in sorted(times_us)))

    @classmethod
    def measured(cls, report: WarmupReport, jitter: float = _JITTER) -> LatencyTable:
        """Makes a table from what ``Engine.warmup()`` measured, which is means only: you give the jitter."""
        above = _p95_to_mean(jitter)
        return cls.points({rows: (mean, above * mean) for rows, mean in report.run_us.items()})

    def mean_us(self, rows: int) -> float:
        """Returns the mean time of a run of this size, in microseconds."""
        return self._at(rows, 1)

    def p95_us(self, rows: int) -> float:
        """Returns the 95th percentile of the time of a run of this size, in microseconds."""
        return self._at(rows, 2)

    def spread(self, rows: int) -> float:
        """Returns the standard deviation of the logarithm of such a run time."""
        above = min(max(self.p95_us(rows) / self.mean_us(rows), 1.0), _MOST_P95_TO_MEAN)
        return _Z95 - math.sqrt(max(0.0, _Z95**2 - 2 * math.log(above)))

    def _at(self, rows: int, column: int) -> float:
        known = [size[0] for size in self.sizes]
        times = [size[column] for size in self.sizes]
        if rows <= known[-1]:
            return float(np.interp(rows, known, times))
        if len(known) == 1:
            return times[0] * rows / known[0]
        slope = (times[-1] - times[-2]) / (known[-1] - known[-2])
        return times[-1] + slope * (rows - known[-1])


class RunTimes:
    """Draws the times of successive runs. The n-th deviates from its mean by the seed's n-th factor."""

    def __init__(self, table: LatencyTable, max_rows: int, seed: int) -> None:
        sizes = range(1, max_rows + 1)
        self.means_ns = [0.0, *(1e3 * table.mean_us(n) for n in sizes)]
        """By rows, from 0 on."""
        self.spreads = [0.0, *map(table.spread, sizes)]
        """Likewise. A run takes its scale times exp(its spread times a standard normal number)."""
        # A lognormal factor exp(s * z) has the mean exp(s^2 / 2).
        self.scales_ns = [
            mean_ns * math.exp(-(spread**2) / 2)
            for mean_ns, spread in zip(self.means_ns, self.spreads, strict=True)
        ]
        self._random = np.random.default_rng([seed, _NOISE])
        self._deviations: list[float] = []

    def deviations(self) -> npt.NDArray[np.float64]:
        """Draws the deviations of the next runs, for who makes their times itself."""
        return np.ascontiguousarray(self._random.standard_normal(_DRAWN_AT_ONCE)[::-1])

    def draw(self, rows: int) -> int:
        """Draws the nanoseconds of the next run."""
        if not self._deviations:
            self._deviations = self.deviations()[::-1].tolist()
        return max(1, round(self.scales_ns[rows] * math.exp(self.spreads[rows] * self._deviations.pop())))


def capacity(
    table: LatencyTable,
    instances: int = 1,
    deadline_ms: float | None = None,
    max_batch_size: int = _BATCH_SIZE,
) -> float:
    """Returns the most rows a second that can be in time: the best ``instances * b / mean(b)`` over sizes b.

    A row waits for the run before its own, so a size counts only if two of its runs of the 95th percentile
    fit into the deadline. It is 0 if no size does.
    """
    rates = [
        instances * rows / table.mean_us(rows) * 1e6
        for rows in range(1, max_batch_size + 1)
        if deadline_ms is None or 2 * table.p95_us(rows) <= deadline_ms * 1e3
    ]
    return max(rates, default=0.0)


def attainable_goodput(
    arrivals: ArrivalProcess, rows_per_s: float, *, requests: int = 10_000, seed: int = 1
) -> float:
    """Returns a bound of the requests a second in time at this ``capacity``, except for luck with run times.

    It is the goodput of a server that runs one row after another, first come first served, each in
    ``1 / rows_per_s``, and leaves out rows that it cannot end in time. This server can do all that a server
    of batches does: the rows of a batch fit one after another into its run. But it need not wait for a
    batch's last row to come or to end, so this is only a bound. It is for requests of one kind that do not
    wait for answers.
    """
    drawn = arrivals.draw(requests, seed)
    if len(drawn.kinds) != 1 or drawn.callers:
        raise ConfigError("attainable_goodput is for requests of one kind that do not wait for answers")
    (kind,) = drawn.kinds
    allowed_ns = math.inf if kind.deadline_ms is None else kind.deadline_ms * 1e6
    work_ns = kind.rows / rows_per_s * 1e9
    free_ns, in_time = 0.0, 0
    for time_ns in drawn.offsets_ns.tolist():
        end_ns = max(free_ns, time_ns) + work_ns
        if end_ns <= time_ns + allowed_ns:
            free_ns = end_ns
            in_time += 1
    return in_time / max(float(drawn.offsets_ns[-1]) / 1e9, 1e-9)


def mean_latency_bound(rate_per_s: float, a_us: float, b_us: float) -> float:
    """Returns a bound of the eager policy's mean latency in milliseconds; infinite at full load.

    It holds for one instance, Poisson arrivals of one row each, runs of exactly a + b * n, and unlimited
    batches. This is the closed form of Inoue (arXiv 1912.06322), derived here again. Let L be the arrival
    rate, r = L * b the load at which batches would grow without end, N the rows of a batch and
    t(N) = a + b * N the time of its run.

    1.  During a run of N rows, K new ones come: Poisson with mean L * t(N). They are the next batch; if K is
        0, the next batch is the one row that comes first. So N' = K + [K = 0], and in equilibrium N' is
        distributed as N. Write m for E[N], s for E[N^2] and p for the probability that K is 0.
    2.  Means: m = L * (a + b * m) + p. As p >= 0, m >= L * a / (1 - r). And m >= 1.
    3.  Squares: s = E[K^2] + p = L * E[t] + L^2 * E[t^2] + p = m + L^2 * E[t^2].
        With E[t^2] = b^2 * s + 2 * a * b * m + a^2 this gives
        s / m = (1 + 2 * r * L * a + (L * a)^2 / m) / (1 - r^2).
    4.  Latency, summed over the rows of one batch: those that came during the run before have waited half of
        it on average, which sums to E[K * t(N) / 2] = L * E[t^2] / 2; a row that came to an idle instance has
        not waited. All N' then stay for their own run: E[N * t(N)] = b * s + a * m. Over the m rows,
        W = (s / m) * b * (1 + r / 2) + a * (1 + r) + L * a^2 / (2 * m).
    5.  With 3 put into 4, m is the only unknown in W, and W falls as m rises. So a lower bound of m in its
        place makes W larger: m = max(1, L * a / (1 - r)), from 2. The first makes it Inoue's phi0, the
        second his phi1 = 3 * a / (2 * (1 - r)) + b * (2 + r) / (2 * (1 - r^2)).
    """
    rate = rate_per_s / 1e6  # per microsecond
    load = rate * b_us
    if load >= 1:
        return math.inf
    rows = max(1.0, rate * a_us / (1 - load))
    square_to_mean = (1 + 2 * load * rate * a_us + (rate * a_us) ** 2 / rows) / (1 - load**2)
    return (square_to_mean * b_us * (1 + load / 2) + a_us * (1 + load) + rate * a_us**2 / (2 * rows)) / 1e3


def _p95_to_mean(jitter: float) -> float:
    """Returns that ratio of a lognormal time whose standard deviation is ``jitter`` means."""
    if not 0 <= jitter <= 1:
        raise ConfigError(f"jitter must be from 0 to 1, not {shown(jitter)}")
    spread = math.sqrt(math.log1p(jitter**2))
    return math.exp(_Z95 * spread - spread**2 / 2)
