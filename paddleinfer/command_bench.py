"""``paddleinfer bench``: how fast an engine answers, under callers who wait or at a rate."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddleinfer.command_arrays import add_shapes, random_inputs
from paddleinfer.command_bench_chart import check_picture, draw
from paddleinfer.command_engine import add_engine_options, add_model, engine_config, open_engine
from paddleinfer.command_load import Requests, Tally, drive_callers, drive_rate, warm_up
from paddleinfer.command_output import as_columns, print_document, shape_text
from paddleinfer.command_progress import progress
from paddleinfer.errors import ConfigError, PaddleInferError
from paddleinfer.model import load_spec
from paddleinfer.option_values import count, positive

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "how fast an engine answers, under callers who wait or at a rate"

_CALLERS = 8
_PERCENTILES = (50, 90, 99)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The sub-command's options."""
    add_model(parser)
    load = parser.add_argument_group("the load").add_mutually_exclusive_group()
    load.add_argument(
        "--callers", metavar="N", type=count, help=f"threads that wait for each answer; default: {_CALLERS}"
    )
    load.add_argument(
        "--rate", metavar="R", type=positive, help="requests a second, whether answered or not (Poisson)"
    )
    parser.add_argument("--seconds", metavar="S", type=positive, default=5.0, help="default: 5")
    parser.add_argument("--rows", metavar="N", type=count, help="rows of each request; default: 1")
    parser.add_argument("--deadline-ms", metavar="MS", type=positive, help="of each request; default: none")
    add_shapes(parser)
    parser.add_argument("--png", metavar="FILE.png", type=Path, help="latency and throughput over time")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the figures; gives the exit code."""
    config = engine_config(options)
    inputs = random_inputs(load_spec(options.model).inputs, options.shape, options.rows)
    if not inputs:
        raise ConfigError(f"{options.model} has no inputs, so there is nothing to measure it with")
    if options.png is not None:
        check_picture(options.png)
    rows = min(len(array) if array.ndim else 1 for array in inputs.values())
    with open_engine(options.model, config) as engine:
        requests = Requests(
            engine, inputs, options.seconds, options.deadline_ms / 1e3 if options.deadline_ms else None
        )
        try:
            warm_up(engine, inputs)
            for _ in range(engine.effective_config()["instances"]["value"]):
                engine.infer(inputs)
            before = engine.stats()
            with progress("measuring", options.seconds) as advance:
                if options.rate is not None:
                    tally = drive_rate(requests, options.rate, advance)
                else:
                    tally = drive_callers(requests, options.callers or _CALLERS, advance)
        except KeyboardInterrupt:
            engine.close(drain=False)
            raise
        document = {
            "path": str(options.model),
            "load": _load(options),
            "rows_per_request": rows,
            "inputs": [
                {"name": name, "dtype": str(array.dtype), "shape": array.shape}
                for name, array in inputs.items()
            ],
            **_figures(tally, rows),
            "mean_batch_rows": _mean_batch_rows(before, engine.stats()),
            "instances": engine.effective_config()["instances"]["value"],
            "batchable": engine.effective_config()["batchable"]["value"],
            "png": options.png,
        }
    if not tally.latencies_ms:
        raise PaddleInferError(
            f"none of {tally.sent} requests was answered ({tally.refused} refused, {tally.late} late); "
            "allow more time with --seconds or --deadline-ms, or ask for less"
        )
    if options.png is not None:
        draw(options.png, f"{options.model.name}: {_load_text(document)}", tally, rows)
    if options.json:
        print_document(document)
    else:
        _print(document)
    return 0


def _load(options: argparse.Namespace) -> dict[str, Any]:
    kind = (
        {"kind": "rate", "requests_per_s": options.rate}
        if options.rate is not None
        else {"kind": "callers", "callers": options.callers or _CALLERS}
    )
    return {**kind, "seconds": options.seconds, "deadline_ms": options.deadline_ms}


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


def _load_text(document: Mapping[str, Any]) -> str:
    load, rows = document["load"], document["rows_per_request"]
    if load["kind"] == "rate":
        asked = f"{load['requests_per_s']:,g} requests a second"
    else:
        asked = "1 caller" if load["callers"] == 1 else f"{load['callers']:,} callers"
    each = "1 row each" if rows == 1 else f"{rows} rows each"
    deadline = f", deadline {load['deadline_ms']:g} ms" if load["deadline_ms"] else ""
    return f"{asked}, {each}, {load['seconds']:g} s{deadline}"


def _print(document: Mapping[str, Any]) -> None:
    batch_rows = document["mean_batch_rows"]
    latency = "  ".join(f"{name} {value:.3f}" for name, value in document["latency_ms"].items())
    shapes = ", ".join(
        f"{line['name']} {line['dtype']} {shape_text(line['shape'])}" for line in document["inputs"]
    )
    facts = [
        ("load", _load_text(document)),
        ("inputs", shapes),
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
    print(document["path"])
    print(as_columns(facts))
