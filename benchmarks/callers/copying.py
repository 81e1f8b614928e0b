"""Measures the share of an instance's time for copying rows, the most that gathering ahead could save.

``python -m benchmarks.callers.copying SECONDS`` prints the section as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from benchmarks.harness import Section, answers
from benchmarks.models import MODELS, directory
from paddleinfer import Engine
from paddleinfer.traffic.callers import Callers, call_from_tasks

CALLERS = 64


def flood(engine: Engine, model: str, seconds: float) -> None:
    """Callers of one row each that ask again at once, so that every instance is always busy."""
    feeds = MODELS[model].feed(1)
    call_from_tasks(Callers(CALLERS, seconds, fewest=CALLERS), lambda _: engine.ainfer(feeds))


def section(seconds: float) -> Section:
    """All models."""
    table = Section(
        f"Copying, {CALLERS} callers of one row: microseconds a run",
        ["model", "rows a run", "gather us", "run us", "scatter us", "gather, of all"],
    )
    for model in MODELS:
        with Engine(directory(model), max_queue_bytes=1 << 30) as engine:  # 64 pictures are 300 MiB
            flood(engine, model, seconds / 4)
            before = engine.stats()
            flood(engine, model, seconds)
            after = engine.stats()
        gone = {name: value - before[name] for name, value in after.items() if isinstance(value, int)}
        runs = max(1, gone["executions"])
        gather, run, scatter = (gone[f"{part}_ns"] / runs / 1e3 for part in ("gather", "run", "scatter"))
        share = gather / (gather + run + scatter)
        table.raw[f"{model}: gather, run, scatter us"] = [gather, run, scatter]
        rows = gone["executed_rows"] / runs
        table.rows.append(
            [model, f"{rows:.1f}", f"{gather:,.1f}", f"{run:,.0f}", f"{scatter:,.1f}", f"{share:.2%}"]
        )
    return table


if __name__ == "__main__":
    stream = answers()
    json.dump(asdict(section(float(sys.argv[1]))), stream)
    stream.close()
