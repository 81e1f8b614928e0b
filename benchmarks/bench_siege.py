"""Besieges a server: good requests at twice its capacity, among bombs, disconnects and reloads.

``python -m benchmarks.bench_siege [--quick] [--json FILE]``
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks import harness
from benchmarks.harness import Helper, Section
from benchmarks.hostile.siege_clients import MODEL
from benchmarks.models import directory

_PATIENCE_S = 90.0
_CALLERS = 8
# How many times its lone run a request may take: a run that has begun comes first, and others share its own.
_DEADLINE_IN_RUNS = 20
# The ends that a good request may have; any other is a loss.
_TOLD = {"200", "429", "503", "504"}
# The largest ratio of memory and of descriptors at the end to those after the first part.
_FLAT = 1.2


@dataclass(frozen=True)
class BadEffort:
    """How much the bad clients do."""

    reload_s: float
    pause_s: float = 0.05
    scale: float = 0.1
    """The share of the largest allowed body."""


@dataclass(frozen=True)
class Effort:
    """The length of the siege, and of its parts."""

    seconds: float
    part_s: float
    bad: BadEffort

    @classmethod
    def of(cls, quick: bool) -> Effort:
        """Returns the effort of a quick look, or ten minutes."""
        return cls(60, 10, BadEffort(reload_s=6)) if quick else cls(600, 30, BadEffort(reload_s=16))


@dataclass(frozen=True)
class Part:
    """A part of the siege, after which the server's memory is read."""

    ends: dict[str, int]
    answered_s: list[float]
    sent: dict[str, int]
    resident_mb: float
    descriptors: int


@contextlib.contextmanager
def server() -> Iterator[tuple[Path, int]]:
    """Runs ``paddleinfer-http`` with its defaults, except that clients may load; yields /proc and port."""
    command = [str(Path(sys.executable).with_name("paddleinfer-http")), "--model", f"m={directory(MODEL)}"]
    command += ["--host", "127.0.0.1", "--port", "0", "--repository-control"]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, env=harness.quiet_environment(), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield Path(f"/proc/{process.pid}"), _port(process, output)
        finally:
            process.terminate()
            code = process.wait(_PATIENCE_S)
        if code:
            raise SystemExit(f"the server ended with {code}:\n{_said(output)[-2000:]}")


def _port(process: subprocess.Popen[bytes], output: IO[str]) -> int:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        if (found := re.search(r"serves on http:.*:(\d+)", _said(output))) is not None:
            return int(found[1])
        time.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{_said(output)}")


def _said(output: IO[str]) -> str:
    output.seek(0)
    return output.read()


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the least value that this share does not exceed; NaN without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def besiege(effort: Effort) -> tuple[Section, list[Part]]:
    """Runs the whole siege."""
    with server() as (process, port), contextlib.ExitStack() as closing:
        good, bad = (
            closing.enter_context(contextlib.closing(Helper("hostile.siege_clients", kind, str(port))))
            for kind in ("good", "bad")
        )
        good.tell({"seconds": 3.0, "deadline_s": 30.0, "callers": 1})
        alone_s = statistics.median(good.answer()["answered_s"])
        deadline_s = _DEADLINE_IN_RUNS * alone_s
        good.tell({"seconds": 5.0, "deadline_s": 30.0, "callers": _CALLERS})
        capacity_per_s = len(good.answer()["answered_s"]) / 5.0
        parts = []
        end = time.monotonic() + effort.seconds
        while time.monotonic() < end:
            bad.tell({"seconds": effort.part_s, **asdict(effort.bad)})
            offered = {"deadline_s": deadline_s, "rate_per_s": 2 * capacity_per_s}
            good.tell({"seconds": effort.part_s, **offered})
            served, sent = good.answer(), bad.answer()
            parts.append(
                Part(
                    served["ends"],
                    served["answered_s"],
                    sent["sent"],
                    int((process / "statm").read_text().split()[1]) * 4096 / 1e6,
                    len(list((process / "fd").iterdir())),
                )
            )
    return report(parts, capacity_per_s, deadline_s), parts


def report(parts: Sequence[Part], capacity_per_s: float, deadline_s: float) -> Section:
    """Reports what became of all requests, and of the server."""
    ends: collections.Counter[str] = collections.Counter()
    sent: collections.Counter[str] = collections.Counter()
    for part in parts:
        ends += collections.Counter(part.ends)
        sent += collections.Counter(part.sent)
    answered_s = [seconds for part in parts for seconds in part.answered_s]
    table = Section(
        f"{MODEL} at twice {capacity_per_s:.0f} requests/s, deadline {deadline_s * 1e3:.0f} ms",
        ["what", "figure"],
    )
    p50_ms, p99_ms = percentile(answered_s, 0.5) * 1e3, percentile(answered_s, 0.99) * 1e3
    table.rows += [
        ["good requests, by how they ended", ", ".join(f"{end}: {n:,}" for end, n in sorted(ends.items()))],
        ["answered: p50, p99", f"{p50_ms:.0f}, {p99_ms:.0f} ms"],
        ["bad ones that were sent", ", ".join(f"{attack}: {n:,}" for attack, n in sorted(sent.items()))],
        ["resident MB after each part", " ".join(f"{part.resident_mb:.0f}" for part in parts)],
        ["descriptors after each part", " ".join(str(part.descriptors) for part in parts)],
    ]
    lost = sum(count for end, count in ends.items() if end not in _TOLD and end != "not sent")
    table.verdict("p99 of the deadline", p99_ms / 1e3 / deadline_s, at_most=1.0)
    table.verdict("good requests without a known end", lost, at_most=0)
    memory = [part.resident_mb for part in parts]
    half = max(1, len(parts) // 2)
    table.verdict(
        "resident memory, most of the second half over most of the first",
        max(memory[half:], default=memory[-1]) / max(memory[:half]),
        at_most=_FLAT,
    )
    descriptors = [part.descriptors for part in parts]
    table.verdict(
        "descriptors, the same",
        max(descriptors[half:], default=descriptors[-1]) / max(descriptors[:half]),
        at_most=_FLAT,
    )
    return table


def main() -> None:
    """Measures, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_siege", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of ten")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    options = parser.parse_args()
    effort = Effort.of(options.quick)
    table, parts = besiege(effort)
    harness.show(table)
    if options.json:
        details: dict[str, Any] = {**asdict(effort), "parts": [asdict(part) for part in parts]}
        harness.write_json(options.json, {"siege": table}, details)


if __name__ == "__main__":
    main()
