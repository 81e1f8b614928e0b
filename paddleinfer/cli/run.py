"""``paddleinfer run`` runs a model on arrays from files."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddleinfer.cli.arrays import Array, add_input, read_inputs, write_outputs
from paddleinfer.cli.engine import add_engine_options, add_model, engine_config, open_engine
from paddleinfer.cli.output import as_columns, print_document, shape_text
from paddleinfer.cli.progress import progress
from paddleinfer.cli.trace import TraceFile, add_trace
from paddleinfer.errors import ConfigError
from paddleinfer.models.reader import load_spec
from paddleinfer.options.parser import check_writable, count

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "run a model on arrays from .npy and .npz files"

_PREVIEWED = 6


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    add_model(parser)
    add_input(parser, "all their rows are one request")
    parser.add_argument("--output", metavar="FILE.npz", type=Path, help="write the outputs there")
    parser.add_argument(
        "--repeat", metavar="N", type=count, default=1, help="how many times to run it; default: 1"
    )
    add_trace(parser)
    add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the outputs, and returns the exit code."""
    config = engine_config(options)
    inputs = read_inputs(options.input, load_spec(options.model, config.runtime.params).inputs)
    if options.output is not None:
        if options.output.suffix != ".npz":
            raise ConfigError(f"--output must end in .npz, which {options.output} does not")
        check_writable("--output", options.output)
    trace = TraceFile(options.trace)
    began = time.perf_counter()
    with open_engine(options.model, config) as engine:
        load_ms = (time.perf_counter() - began) * 1e3
        times_ms = []
        with progress("running", options.repeat) as advance, trace.recording(engine):
            for number in range(options.repeat):
                began = time.perf_counter()
                outputs = engine.infer(inputs)
                times_ms.append((time.perf_counter() - began) * 1e3)
                advance(number + 1)
    if options.output is not None:
        write_outputs(options.output, outputs)
    document = {
        "path": str(options.model),
        "inputs": _described(inputs),
        "outputs": _described(outputs),
        "load_ms": load_ms,
        "run_ms": times_ms,
        "output": options.output,
    }
    with trace.saved() as saved:
        if options.json:
            print_document({**document, "trace": saved})
        else:
            _print(document)
            if saved is not None:
                print(f"trace in {trace}")
    return 0


def _described(arrays: Mapping[str, Array]) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": str(array.dtype), "shape": array.shape, "preview": _preview(array)}
        for name, array in arrays.items()
    ]


def _preview(array: Array) -> list[Any]:
    """Returns the first values, in the order of memory, as Python's own numbers."""
    first = array.reshape(-1)[:_PREVIEWED]
    # bfloat16 and similar types are not Python's numbers.
    wide = first if first.dtype.kind in "biu" else first.astype(np.float64)
    return list(wide.tolist())


def _print(document: Mapping[str, Any]) -> None:
    rows = [
        (
            side,
            line["name"],
            line["dtype"],
            shape_text(line["shape"]),
            _values(line["preview"], line["shape"]),
        )
        for side, lines in (("input", document["inputs"]), ("output", document["outputs"]))
        for line in lines
    ]
    print(as_columns([("", "name", "dtype", "shape", "first values"), *rows], indent=0))
    first_ms, *others_ms = document["run_ms"]
    print(f"\nload {document['load_ms']:,.0f} ms, run {first_ms:.3f} ms", end="")
    if others_ms:
        least, median, most = min(others_ms), statistics.median(others_ms), max(others_ms)
        again = "once more" if len(others_ms) == 1 else f"{len(others_ms)} times more"
        print(f"; {again}: least {least:.3f}, median {median:.3f}, most {most:.3f} ms", end="")
    print()
    if document["output"] is not None:
        print(f"outputs in {document['output']}")


def _values(preview: list[Any], shape: tuple[int, ...]) -> str:
    shown = ", ".join(f"{value:.5g}" if isinstance(value, float) else str(value) for value in preview)
    return shown + (", ..." if int(np.prod(shape)) > len(preview) else "")
