"""Makes up requests and runs, and diagnoses them."""

from __future__ import annotations

from paddleinfer.config import EngineConfig
from paddleinfer.diagnosis.diagnosis import Diagnosis, diagnose
from paddleinfer.engine.warmup import WarmedSize
from paddleinfer.resolved_options import ResolvedOptions
from paddleinfer.tracing.records import TracedRequest, TracedRun

US = 1_000


def requests(count: int, **stages_us: int) -> list[TracedRequest]:
    """Requests whose stages take so many microseconds."""
    made = []
    for number in range(1, count + 1):
        instants = [1_000 * US]
        for stage in ("submit", "queue", "gather", "run", "scatter", "deliver"):
            instants.append(instants[-1] + stages_us.get(stage, 1) * US)
        made.append(TracedRequest(number, 1, *instants, hold_ns=0, rows=1, outcome="result"))
    return made


def apart(
    count: int, us: int, at_once: int, shapes: int | None = None
) -> tuple[list[TracedRequest], list[TracedRun]]:
    """Single rows of so many shapes, each its own by default, in a run each; so many are always under way."""
    made, ran = [], []
    for number in range(1, count + 1):
        began, ended = number * us * US, (number + 1) * us * US
        called = max(0, number + 1 - at_once) * us * US
        times = (called, called, began, began, ended, ended, ended)
        made.append(TracedRequest(number, number, *times, hold_ns=0, rows=1, outcome="result"))
        bucket = number % (shapes or count)
        ran.append(TracedRun(number, 0, began, began, ended, ended, 1, 1, 1, 0, "idle", False, bucket))
    return made, ran


def runs(sizes: dict[int, int], count: int = 5) -> list[TracedRun]:
    """Runs of so many rows -> microseconds each."""
    return [
        TracedRun(number, 0, 0, 0, us * US, us * US, size, size, size, 0, "idle", False)
        for number, (size, us) in enumerate(list(sizes.items()) * count, start=1)
    ]


def diagnosed(
    traced: list[TracedRequest],
    ran: list[TracedRun],
    *,
    outer_us: dict[str, list[float]] | None = None,
    legacy: bool = False,
    cores: int = 1,
    binary_us: dict[str, float] | None = None,
    warmed: tuple[WarmedSize, ...] = (),
    **changed: object,
) -> Diagnosis:
    """By an engine with these options and defaults."""
    resolved = ResolvedOptions(EngineConfig())
    for name, value in {"instances": 1, "batchable": "yes", **changed}.items():
        resolved.decide(name, value, "option")
    return diagnose(traced, ran, outer_us or {}, resolved, cores, legacy, binary_us or {}, warmed)


def lone(count: int, us: int, apart_us: int = 0) -> tuple[list[TracedRequest], list[TracedRun]]:
    """One caller of one row after the other: a run of `us`, and so much beside it."""
    made, ran = [], []
    for number in range(1, count + 1):
        began = number * (us + apart_us) * US
        ended = began + us * US
        times = (began, began, began, began, ended, ended, ended + apart_us * US)
        made.append(TracedRequest(number, number, *times, hold_ns=0, rows=1, outcome="result"))
        ran.append(TracedRun(number, 0, began, began, ended, ended, 1, 1, 1, 0, "idle", False))
    return made, ran


def flood(count: int, us: int, run_rows: int) -> tuple[list[TracedRequest], list[TracedRun]]:
    """Single rows that all came at once, in runs of so many rows, one after the other."""
    made, ran = [], []
    for first in range(0, count, run_rows):
        number = first // run_rows + 1
        began, ended = number * us * US, (number + 1) * us * US
        ran.append(
            TracedRun(number, 0, began, began, ended, ended, run_rows, run_rows, run_rows, 9, "full", False)
        )
        times = (us * US, us * US, began, began, ended, ended, ended)
        made += [
            TracedRequest(first + row + 1, number, *times, hold_ns=0, rows=1, outcome="result")
            for row in range(run_rows)
        ]
    return made, ran
