"""``paddleinfer diagnose``: where the time of an engine's requests goes under a load, and what would help."""

from __future__ import annotations

import argparse
from pathlib import Path

from paddleinfer.command_arrays import add_shapes, random_inputs
from paddleinfer.command_engine import add_engine_options, add_model, engine_config, open_engine
from paddleinfer.command_load import Requests, drive_callers, warm_up
from paddleinfer.command_output import print_document
from paddleinfer.command_progress import progress
from paddleinfer.errors import ConfigError
from paddleinfer.model import load_spec
from paddleinfer.option_values import count, positive

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "where the time of an engine's requests goes under a load, and what would help"

_CALLERS = 8


def add_options(parser: argparse.ArgumentParser) -> None:
    """The sub-command's options."""
    add_model(parser)
    parser.add_argument(
        "--callers",
        metavar="N",
        type=count,
        default=_CALLERS,
        help=f"threads that wait for each answer; default: {_CALLERS}",
    )
    parser.add_argument("--seconds", metavar="S", type=positive, default=3.0, help="default: 3")
    parser.add_argument("--rows", metavar="N", type=count, help="rows of each request; default: 1")
    add_shapes(parser)
    parser.add_argument("--trace", metavar="FILE.json", type=Path, help="keep the timeline, for Perfetto")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the stages and the verdict; gives the exit code."""
    config = engine_config(options)
    inputs = random_inputs(load_spec(options.model).inputs, options.shape, options.rows)
    if not inputs:
        raise ConfigError(f"{options.model} has no inputs, so there is nothing to load it with")
    if options.trace is not None and not options.trace.absolute().parent.is_dir():
        raise ConfigError(f"--trace {options.trace}: there is no directory {options.trace.absolute().parent}")
    with open_engine(options.model, config) as engine:
        try:
            warm_up(engine, inputs)
            with progress("recording", options.seconds) as advance, engine.trace() as trace:
                drive_callers(Requests(engine, inputs, options.seconds, None), options.callers, advance)
        except KeyboardInterrupt:
            engine.close(drain=False)
            raise
        diagnosis = engine.diagnose()
    if options.trace is not None:
        trace.save(options.trace)
    if options.json:
        print_document({"path": str(options.model), "callers": options.callers, **diagnosis.as_dict()})
    else:
        print(diagnosis)
    return 0
