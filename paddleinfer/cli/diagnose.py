"""``paddleinfer diagnose`` shows where an engine's requests spend their time, and what would help."""

from __future__ import annotations

import argparse
from dataclasses import replace

from paddleinfer.cli.engine import add_engine_options, add_model, engine_config, open_engine
from paddleinfer.cli.load import add_load, check_answered, drive, load_document, warm_up
from paddleinfer.cli.load_inputs import inputs_of
from paddleinfer.cli.output import print_document
from paddleinfer.cli.progress import progress
from paddleinfer.cli.trace import TraceFile, add_trace
from paddleinfer.diagnosis.diagnosis import MANY, Diagnosis
from paddleinfer.models.reader import load_spec
from paddleinfer.traffic.tally import Tally

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "show where an engine's requests spend their time under a load, and what would help"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    add_model(parser)
    add_load(parser)
    add_trace(parser)
    add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the stages and the verdict, and returns the exit code."""
    config = engine_config(options)
    inputs = inputs_of(options, load_spec(options.model, config.runtime.params).inputs)
    trace = TraceFile(options.trace)
    with open_engine(options.model, config) as engine:
        try:
            warm_up(engine, inputs, options)
        except KeyboardInterrupt:
            engine.close(drain=False)
            raise
        with progress("recording", options.seconds) as advance, trace.recording(engine):
            tally = drive(engine, inputs, options, advance)
        diagnosis = _with_refused(engine.diagnose(), tally)
    with trace.saved() as saved:
        if options.json:
            load = load_document(options)
            print_document({"path": str(options.model), "load": load, **diagnosis.as_dict(), "trace": saved})
        else:
            print(diagnosis)
            if saved is not None:
                print(f"\ntrace in {trace}")
    check_answered(tally)
    return 0


def _with_refused(diagnosis: Diagnosis, tally: Tally) -> Diagnosis:
    """Adds the refused requests, which the engine does not record."""
    if tally.refused == 0 or tally.refused < MANY * tally.sent:
        return diagnosis
    refused = f"the queue refused {tally.refused} of {tally.sent} requests sent"
    return replace(diagnosis, evidence=f"{diagnosis.evidence}; {refused}")
