"""Defines the load of ``paddleinfer bench`` and ``diagnose``: its options, its callers, its description."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from paddleinfer.cli.arrays import add_input, add_shapes
from paddleinfer.cli.progress import Advance
from paddleinfer.engine.engine import Engine
from paddleinfer.engine.futures import InferFuture
from paddleinfer.errors import PaddleInferError
from paddleinfer.options.parser import count, positive
from paddleinfer.traffic.at_rate import submit_at_rate
from paddleinfer.traffic.callers import Callers, call_from_threads
from paddleinfer.traffic.load_inputs import LoadInputs
from paddleinfer.traffic.tally import Tally

__all__ = ["add_load", "check_answered", "drive", "load_document", "load_text", "warm_up"]

_CALLERS = 8
_SECONDS = 5.0


def add_load(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a load."""
    group = parser.add_argument_group("the load")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument(
        "--callers", metavar="N", type=count, help=f"threads that wait for each answer; default: {_CALLERS}"
    )
    pace.add_argument(
        "--rate", metavar="R", type=positive, help="requests a second, whether answered or not (Poisson)"
    )
    group.add_argument(
        "--seconds",
        metavar="S",
        type=positive,
        default=_SECONDS,
        help=f"duration of the load; default: {_SECONDS:g}",
    )
    group.add_argument("--rows", metavar="N", type=count, help="rows of each request; default: 1")
    group.add_argument(
        "--deadline-ms", metavar="MS", type=positive, help="deadline of each request; default: none"
    )
    add_input(group, "requests take its rows in turn; default: random numbers")
    add_shapes(group)


def warm_up(engine: Engine, inputs: LoadInputs, options: argparse.Namespace) -> None:
    """Warms the engine up: the first runs make kernels and know no run times, and are not to be measured.

    Callers who wait never have more rows in a batch than all of them ask for, so larger ones are left out.
    """
    if not all(spec.shape and spec.shape[0] < 0 for spec in engine.inputs):
        return
    row = {name: array[:1] for name, array in inputs.of_request(0).items()}
    sizes, config = None, engine.effective_config()
    if options.rate is None and not config["allowed_batch_sizes"]["value"]:
        most = min((options.callers or _CALLERS) * inputs.rows, config["max_batch_size"]["value"])
        sizes = [*(1 << power for power in range((most - 1).bit_length())), most]
    engine.warmup(row, batch_sizes=sizes)


def drive(engine: Engine, inputs: LoadInputs, options: argparse.Namespace, advance: Advance) -> Tally:
    """Drives the load; after Ctrl-C the engine is closed at once."""
    timeout_s = options.deadline_ms / 1e3 if options.deadline_ms else None

    def ask(number: int) -> None:
        engine.infer(inputs.of_request(number), timeout=timeout_s)

    def submit(number: int) -> InferFuture:
        return engine.submit(inputs.of_request(number), timeout=timeout_s)

    def tick(seconds: float, answers: int) -> None:
        advance(seconds)

    try:
        if options.rate is not None:
            return submit_at_rate(options.rate, options.seconds, submit, tick=tick)
        callers = options.callers or _CALLERS
        return call_from_threads(Callers(callers, options.seconds, fewest=callers), ask, tick=tick)
    except KeyboardInterrupt:
        engine.close(drain=False)
        raise


def check_answered(tally: Tally) -> None:
    """Raises PaddleInferError if no request was answered."""
    if not tally.latencies_ms:
        raise PaddleInferError(
            f"none of {tally.sent} requests was answered ({tally.refused} refused, {tally.late} late); "
            "allow more time with --seconds or --deadline-ms, or ask for less"
        )


def load_document(options: argparse.Namespace) -> dict[str, Any]:
    """Describes the load, for JSON."""
    kind = (
        {"kind": "rate", "requests_per_s": options.rate}
        if options.rate is not None
        else {"kind": "callers", "callers": options.callers or _CALLERS}
    )
    return {**kind, "seconds": options.seconds, "deadline_ms": options.deadline_ms}


def load_text(load: Mapping[str, Any], rows: int) -> str:
    """Describes the load in a line."""
    if load["kind"] == "rate":
        asked = f"{load['requests_per_s']:,g} requests a second"
    else:
        asked = "1 caller" if load["callers"] == 1 else f"{load['callers']:,} callers"
    each = "1 row each" if rows == 1 else f"{rows} rows each"
    deadline = f", deadline {load['deadline_ms']:g} ms" if load["deadline_ms"] else ""
    return f"{asked}, {each}, {load['seconds']:g} s{deadline}"
