"""Provides interleaved rounds, persistent caller threads, spreads, verdicts, tables and machine facts."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np

_Name = TypeVar("_Name")
_T = TypeVar("_T")

REPOSITORY = Path(__file__).resolve().parent.parent
# The tolerance of equal results in float32.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Effort:
    """How much to measure: rounds, and seconds for each variant in each round."""

    rounds: int
    seconds: float
    calls: int

    @classmethod
    def of(cls, quick: bool) -> Effort:
        """Returns a few seconds for a quick look, or enough for figures to quote."""
        return cls(rounds=3, seconds=0.3, calls=500) if quick else cls(rounds=9, seconds=1.0, calls=3000)


@dataclass(frozen=True)
class Verdict:
    """One figure against its limit: what was measured and what was wanted."""

    what: str
    value: float
    wanted: str
    reached: bool


@dataclass
class Section:
    """One table with its verdicts and every single measurement behind it."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    raw: dict[str, list[float]] = field(default_factory=dict)

    def measured(self, name: str, values: Sequence[float], unit: str, *more: str) -> None:
        """Adds a row: the median and the range of one variant."""
        self.raw[name] = list(values)
        self.rows.append([name, spread(values), unit, *more])

    def verdict(
        self, what: str, value: float, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        """Adds a figure against its limit."""
        if at_least is not None:
            self.verdicts.append(Verdict(what, value, f">= {at_least:g}", value >= at_least))
        if at_most is not None:
            self.verdicts.append(Verdict(what, value, f"<= {at_most:g}", value <= at_most))


def spread(values: Sequence[float]) -> str:
    """Writes the median (lowest to highest)."""
    return f"{_short(statistics.median(values))} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divides round by round, so that a slow spell of the whole machine cancels."""
    return [a / b for a, b in zip(above, below, strict=True)]


def differences(left: Sequence[float], right: Sequence[float]) -> list[float]:
    """Subtracts round by round."""
    return [a - b for a, b in zip(left, right, strict=True)]


def interleave(variants: Mapping[_Name, Callable[[], _T]], rounds: int) -> dict[_Name, list[_T]]:
    """Measures every variant once a round; each round begins with another variant."""
    results: dict[_Name, list[_T]] = {name: [] for name in variants}
    names = list(variants)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(variants[name]())
    return results


class Callers:
    """Persistent threads, one for each call: a predictor with oneDNN is slow on every new thread."""

    def __init__(self, calls: Sequence[Callable[[], Any]], warm_up: int = 5) -> None:
        self._calls = calls
        self._threads = [ThreadPoolExecutor(1) for _ in calls]
        self.each(lambda call: [call() for _ in range(warm_up)])

    def each(self, job: Callable[[Callable[[], Any]], Any], callers: int | None = None) -> list[Any]:
        """Runs the job for every call, or for the first few, at once, each on its own thread."""
        pairs = list(zip(self._threads, self._calls, strict=True))[:callers]
        started = [thread.submit(job, call) for thread, call in pairs]
        return [future.result() for future in started]

    def rate(self, seconds: float) -> float:
        """Returns calls per second of all threads together."""
        ready = threading.Barrier(len(self._calls))

        def job(call: Callable[[], Any]) -> float:
            ready.wait()
            return rate(call, seconds)

        return float(sum(self.each(job)))

    def close(self) -> None:
        """Ends the threads."""
        for thread in self._threads:
            thread.shutdown()


def rate(call: Callable[[], Any], seconds: float) -> float:
    """Returns calls per second, back to back."""
    begin = time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - begin) < seconds or count == 0:
        call()
        count += 1
    return count / elapsed


async def keep_awaiting(call: Callable[[], Awaitable[Any]], tasks: int, seconds: float) -> int:
    """Returns how often so many tasks call in all, each one call after the other.

    Unlike ``paddleinfer.traffic`` it records nothing: the loop's own time is measured around it.
    """
    count = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    await asyncio.gather(*(caller() for _ in range(tasks)))
    return count


def p50_us(call: Callable[[], Any], calls: int) -> float:
    """Returns the median microseconds of one call, back to back."""
    clock = time.perf_counter_ns
    taken = []
    for _ in range(calls):
        begin = clock()
        call()
        taken.append(clock() - begin)
    return statistics.median(taken) / 1e3


def check_equal(ours: Mapping[str, Any], theirs: Mapping[str, Any] | Sequence[Any]) -> None:
    """Stops the benchmark if two variants do not compute the same."""
    wanted = list(theirs.values()) if isinstance(theirs, Mapping) else theirs
    for (name, result), expected in zip(ours.items(), wanted, strict=True):
        if not equal(result, expected):
            raise SystemExit(f"output {name} differs from plain Paddle's: the comparison means nothing")


def equal(ours: Any, theirs: Any) -> bool:
    """Tells whether two arrays agree within the tolerance, relative to the largest element."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return a.shape == b.shape and bool(np.abs(a - b).max() <= TOLERANCE * np.abs(b).max())


# -- one process per measurement ---------------------------------------------------------------------


def child(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Any:
    """Runs a module of this package in a fresh process; it prints JSON through answers()."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=REPOSITORY,
        env={**quiet_environment(), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"benchmarks.{module} {' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout)


class Helper:
    """A module of this package in a process of its own, which answers lines of JSON with lines of JSON."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._name = f"benchmarks.{module} {' '.join(arguments)}"
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            cwd=REPOSITORY,
            env={**quiet_environment(), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def tell(self, question: Any) -> None:
        """Sends a question, without waiting for the answer."""
        print(json.dumps(question), file=cast("IO[str]", self._process.stdin), flush=True)

    def answer(self) -> Any:
        """Returns the next answer."""
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            self._errors.seek(0)
            raise SystemExit(f"{self._name} died:\n{self._errors.read()[-4000:]}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._errors.close()


def serve(stream: IO[str], reply: Callable[[Any], Any]) -> None:
    """Answers every line of standard input until that ends, in a Helper's process."""
    for line in sys.stdin:
        print(json.dumps(reply(json.loads(line))), file=stream, flush=True)


def answers() -> IO[str]:
    """Reserves standard output for JSON; what Paddle's C++ prints goes to standard error from now on."""
    kept = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return kept


def quiet_environment() -> dict[str, str]:
    """Returns this environment without Paddle's chatter and without settings that would bias a comparison."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLAGS_", "MKL_"))}
    return {**kept, "GLOG_minloglevel": "2", "PYTHONWARNINGS": "ignore"}


def section_of(answer: Mapping[str, Any]) -> Section:
    """Makes a section from a child's JSON."""
    return Section(**{**answer, "verdicts": [Verdict(**verdict) for verdict in answer["verdicts"]]})


# -- reports -----------------------------------------------------------------------------------------


def facts() -> dict[str, Any]:
    """Returns what a reader needs to judge the figures, without naming the machine."""
    cpu = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as lines:
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "usable cores": len(os.sched_getaffinity(0)),
        "memory GiB": round(memory / 2**30, 1),
        "python": platform.python_version(),
        **{package: _version(package) for package in ("paddlepaddle", "numpy", "paddleinfer")},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def options_of(description: str) -> argparse.Namespace:
    """Reads ``--quick`` and ``--json FILE``; the first line of the description is what --help says."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short and noisy: to see that all of it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    return parser.parse_args()


def show(section: Section) -> None:
    """Writes the table and its verdicts as text."""
    print(f"\n{section.title}")
    widths = [
        max(len(row[i]) for row in [section.columns, *section.rows]) for i in range(len(section.columns))
    ]
    for row in [section.columns, ["-" * width for width in widths], *section.rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for verdict in section.verdicts:
        word = "reached" if verdict.reached else "MISSED "
        print(f"  {word}  {verdict.what}: {_short(verdict.value)} (wanted {verdict.wanted})")


def write_json(path: Path, sections: Mapping[str, Section], effort: Mapping[str, Any]) -> None:
    """Writes everything measured, with the facts of the machine."""
    report = {
        "facts": facts(),
        "effort": dict(effort),
        "sections": {name: asdict(section) for name, section in sections.items()},
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
