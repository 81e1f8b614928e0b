"""The load of ``paddleinfer bench`` and ``diagnose``: its options, and how it is told."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from paddleinfer.cli.arrays import add_input, add_shapes
from paddleinfer.cli.load import Requests, Tally, drive_callers, drive_rate
from paddleinfer.cli.load_inputs import LoadInputs
from paddleinfer.cli.progress import Advance
from paddleinfer.engine.engine import Engine
from paddleinfer.options.parser import count, positive

__all__ = ["add_load", "drive", "load_document", "load_text"]

_CALLERS = 8
_SECONDS = 5.0


def add_load(parser: argparse.ArgumentParser) -> None:
    """The options of a load."""
    group = parser.add_argument_group("the load")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument(
        "--callers", metavar="N", type=count, help=f"threads that wait for each answer; default: {_CALLERS}"
    )
    pace.add_argument(
        "--rate", metavar="R", type=positive, help="requests a second, whether answered or not (Poisson)"
    )
    group.add_argument(
        "--seconds", metavar="S", type=positive, default=_SECONDS, help=f"default: {_SECONDS:g}"
    )
    group.add_argument("--rows", metavar="N", type=count, help="rows of each request; default: 1")
    group.add_argument("--deadline-ms", metavar="MS", type=positive, help="of each request; default: none")
    add_input(group, "whose rows the requests take in turn; default: random numbers")
    add_shapes(group)


def drive(engine: Engine, inputs: LoadInputs, options: argparse.Namespace, advance: Advance) -> Tally:
    """Has the load come; after Ctrl-C the engine is closed at once."""
    timeout_s = options.deadline_ms / 1e3 if options.deadline_ms else None
    requests = Requests(engine, inputs, options.seconds, timeout_s)
    try:
        if options.rate is not None:
            return drive_rate(requests, options.rate, advance)
        return drive_callers(requests, options.callers or _CALLERS, advance)
    except KeyboardInterrupt:
        engine.close(drain=False)
        raise


def load_document(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, for JSON."""
    kind = (
        {"kind": "rate", "requests_per_s": options.rate}
        if options.rate is not None
        else {"kind": "callers", "callers": options.callers or _CALLERS}
    )
    return {**kind, "seconds": options.seconds, "deadline_ms": options.deadline_ms}


def load_text(load: Mapping[str, Any], rows: int) -> str:
    """The same in a line."""
    if load["kind"] == "rate":
        asked = f"{load['requests_per_s']:,g} requests a second"
    else:
        asked = "1 caller" if load["callers"] == 1 else f"{load['callers']:,} callers"
    each = "1 row each" if rows == 1 else f"{rows} rows each"
    deadline = f", deadline {load['deadline_ms']:g} ms" if load["deadline_ms"] else ""
    return f"{asked}, {each}, {load['seconds']:g} s{deadline}"
