"""``paddleinfer bench`` measures how fast an engine answers callers who wait, or requests at a rate."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddleinfer.cli.bench_chart import check_picture, draw
from paddleinfer.cli.engine import add_engine_options, add_model, engine_config, open_engine
from paddleinfer.cli.load import add_load, check_answered, drive, load_document, load_text, warm_up
from paddleinfer.cli.load_inputs import inputs_of
from paddleinfer.cli.output import as_columns, print_document
from paddleinfer.cli.progress import progress
from paddleinfer.cli.trace import TraceFile, add_trace
from paddleinfer.models.reader import load_spec
from paddleinfer.traffic.load_inputs import LoadInputs
from paddleinfer.traffic.tally import Tally

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "measure how fast an engine answers callers who wait, or requests at a rate"

_PERCENTILES = (50, 90, 99)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    add_model(parser)
    add_load(parser)
    parser.add_argument("--png", metavar="FILE.png", type=Path, help="draw latency and throughput over time")
    add_trace(parser)
    add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the figures, and returns the exit code."""
    config = engine_config(options)
    inputs = inputs_of(options, load_spec(options.model, config.runtime.params).inputs)
    trace = TraceFile(options.trace)
    if options.png is not None:
        check_picture(options.png)
    rows = inputs.rows
    with open_engine(options.model, config) as engine:
        try:
            warm_up(engine, inputs, options)
            for _ in range(engine.effective_config()["instances"]["value"]):
                engine.infer(inputs.of_request(0))
        except KeyboardInterrupt:
            engine.close(drain=False)
            raise
        before = engine.stats()
        with progress("measuring", options.seconds) as advance, trace.recording(engine):
            tally = drive(engine, inputs, options, advance)
        document = {
            "path": str(options.model),
            "load": load_document(options),
            "rows_per_request": rows,
            "rows_in_turn": inputs.rows_in_turn,
            "inputs": inputs.described(),
            **_figures(tally, rows),
            "mean_batch_rows": _mean_batch_rows(before, engine.stats()),
            "instances": engine.effective_config()["instances"]["value"],
            "batchable": engine.effective_config()["batchable"]["value"],
            "png": options.png,
        }
    with trace.saved() as saved:
        check_answered(tally)
        if options.png is not None:
            draw(options.png, f"{options.model.name}: {load_text(document['load'], rows)}", tally, rows)
        document["trace"] = saved
        if options.json:
            print_document(document)
        else:
            _print(document, inputs, trace)
    return 0


def _figures(tally: Tally, rows: int) -> dict[str, Any]:
    results = len(tally.latencies_ms)
    per_s = results / tally.seconds if results else 0.0
    latency_ms: dict[str, float] = {}
    if results:
        values = np.percentile(tally.latencies_ms, _PERCENTILES)
        latency_ms = {f"p{n}": float(value) for n, value in zip(_PERCENTILES, values, strict=True)}
        latency_ms["max"] = max(tally.latencies_ms)
    return {
        "seconds": tally.seconds,
        "requests": tally.sent,
        "results": results,
        "refused": tally.refused,
        "late": tally.late,
        "requests_per_s": per_s,
        "rows_per_s": per_s * rows,
        "latency_ms": latency_ms,
        "most_lag_ms": tally.most_lag_ms,
    }


def _mean_batch_rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    runs = after["executions"] - before["executions"]
    return (after["executed_rows"] - before["executed_rows"]) / runs if runs else None


def _print(document: Mapping[str, Any], inputs: LoadInputs, trace: TraceFile) -> None:
    batch_rows = document["mean_batch_rows"]
    latency = "  ".join(f"{name} {value:.3f}" for name, value in document["latency_ms"].items())
    facts = [
        ("load", load_text(document["load"], document["rows_per_request"])),
        ("inputs", str(inputs)),
        ("instances", str(document["instances"])),
        ("requests/s", f"{document['requests_per_s']:,.1f}"),
        ("rows/s", f"{document['rows_per_s']:,.1f}"),
        ("latency ms", latency),
        ("rows a run", "not known" if batch_rows is None else f"{batch_rows:.2f} on average"),
        (
            "requests",
            f"{document['requests']:,}: {document['results']:,} answered, "
            f"{document['refused']:,} refused, {document['late']:,} late",
        ),
    ]
    if document["load"]["kind"] == "rate":
        facts.append(("sender", f"behind by {document['most_lag_ms']:.1f} ms at most"))
    if document["png"] is not None:
        facts.append(("picture", str(document["png"])))
    if document["trace"] is not None:
        facts.append(("trace", str(trace)))
    print(document["path"])
    print(as_columns(facts))
