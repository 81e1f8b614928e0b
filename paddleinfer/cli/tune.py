"""``paddleinfer tune`` finds the options that serve a model best here, and writes them beside it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from paddleinfer.cli.arrays import add_input, read_inputs
from paddleinfer.cli.engine import add_engine_options, add_model, engine_config
from paddleinfer.cli.output import as_columns, print_document
from paddleinfer.cli.progress import progress
from paddleinfer.cli.tune_chart import check_picture, draw
from paddleinfer.models.reader import load_spec
from paddleinfer.options.parser import count, positive
from paddleinfer.sentences import listed
from paddleinfer.tuning.goal import GOALS
from paddleinfer.tuning.report import Figure, SettingResult, TuningReport
from paddleinfer.tuning.tune import DEFAULT_SECONDS, tune

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "find the options that serve a model best here, by measuring, and write them beside it"

_NO_FILE = 1
_INTERRUPTED = 130
_HEADS = ("setting", "times as good", "rows/s", "p50 ms", "p99 ms", "memory MB", "rounds", "")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    add_model(parser)
    goal = parser.add_argument_group("the goal")
    goal.add_argument(
        "--goal",
        choices=GOALS,
        default=GOALS[0],
        help="most rows a second; least median latency; or least memory that keeps 95 %% of the throughput",
    )
    goal.add_argument("--p99-ms", metavar="MS", type=positive, help="limit of the latency's 99th percentile")
    goal.add_argument("--max-memory", metavar="BYTES", type=count, help="limit of a process's memory")
    load = parser.add_argument_group("the load")
    pace = load.add_mutually_exclusive_group()
    pace.add_argument(
        "--callers", metavar="N", type=count, help="threads that wait for each answer; default: 8"
    )
    pace.add_argument(
        "--rate", metavar="R", type=positive, help="requests a second, whether answered or not (Poisson)"
    )
    pace.add_argument(
        "--recording", metavar="FILE", type=Path, help="requests that come as this trace has recorded them"
    )
    load.add_argument("--rows", metavar="N", type=count, default=1, help="rows of each request; default: 1")
    add_input(load, "requests take its rows in turn; default: made-up ones", "--inputs")
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=positive,
        default=DEFAULT_SECONDS,
        help=f"how long the search may take; default: {DEFAULT_SECONDS:g}",
    )
    parser.add_argument(
        "--out", metavar="FILE.toml", type=Path, help="default: paddleinfer.toml beside the model"
    )
    parser.add_argument("--png", metavar="FILE.png", type=Path, help="draw what was measured")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prints what was found, and returns the exit code."""
    config = engine_config(options)
    if options.png is not None:
        check_picture(options.png)
    inputs = None
    if options.input:
        inputs = read_inputs(options.input, load_spec(options.model, config.runtime.params).inputs)
    with progress("tuning", options.seconds) as advance:
        report = tune(
            options.model,
            inputs,
            config,
            goal=options.goal,
            p99_ms=options.p99_ms,
            memory_limit_bytes=options.max_memory,
            callers=options.callers,
            rate_per_s=options.rate,
            recording=options.recording,
            rows=options.rows,
            seconds=options.seconds,
            out=options.out,
            progress=advance,
        )
    if options.png is not None:
        draw(options.png, report)
    if options.json:
        print_document({**asdict(report), "png": options.png})
    else:
        _print(report)
    if report.interrupted:
        return _INTERRUPTED
    return 0 if report.file is not None else _NO_FILE


def _print(report: TuningReport) -> None:
    print(report.path)
    versions = ", ".join(f"{name} {version}" for name, version in report.machine["versions"].items())
    facts = [
        ("goal", report.goal),
        ("load", report.load),
        ("inputs", report.inputs),
        ("machine", f"{report.machine['processor']}, {report.machine['cores']} cores; {versions}"),
        ("took", f"{report.seconds:.0f} s" + (", cut short by Ctrl-C" if report.interrupted else "")),
    ]
    print(as_columns(facts))
    print()
    print(as_columns([_HEADS, *(_row(result, report.setting) for result in report.results)]))
    print()
    if report.interrupted and report.not_tried:
        print(f"not tried to the end: {listed(report.not_tried)}")
    elif report.not_tried:
        print(f"there was no time for: {listed(report.not_tried)}; --seconds gives more")
    print(conclusion(report))


def conclusion(report: TuningReport) -> str:
    """Says in a sentence or two what won."""
    if report.setting is None:
        return "no setting keeps the limits, so no file was written"
    if report.file is None:
        return "nothing was compared with the defaults, so no file was written"
    if report.setting == "defaults":
        found = "nothing is better than the defaults beyond the noise"
    else:
        found = f"{report.setting}: {report.gain:.2f} times as good as the defaults"
    cut = "; the search was cut short, and this is the best until then" if report.interrupted else ""
    where = "" if report.is_followed else f" with --tuning-file or tuning_file={report.file!r}"
    return f"{found}{cut}\nwritten to {report.file}, which engines of this model follow{where}"


def _row(result: SettingResult, chosen: str | None) -> tuple[str, ...]:
    mark = "*" if result.setting == chosen else " "
    if result.outcome != "measured":
        return (f"{mark} {result.setting}", result.outcome, "", "", "", "", "", result.reason)
    of_defaults = "" if result.of_defaults is None else f"{result.of_defaults:.2f}"
    memory = "" if result.memory_bytes is None else f"{result.memory_bytes / 1e6:,.0f}"
    figures = [_span(figure) for figure in (result.rows_per_s, result.p50_ms, result.p99_ms)]
    return (
        f"{mark} {result.setting}",
        of_defaults,
        *figures,
        memory,
        str(result.rounds),
        result.reason,
    )


def _span(figure: Figure | None) -> str:
    """Writes a median, and the least and the most of the rounds."""
    if figure is None:
        return ""
    return f"{_number(figure.median)} ({_number(figure.least)}-{_number(figure.most)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
