"""Writes what a search found as the tuning file that engines follow."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from paddleinfer.config import PadAxis
from paddleinfer.errors import ConfigError
from paddleinfer.options.tuning_file import TUNABLE
from paddleinfer.sentences import printable
from paddleinfer.tuning.report import SettingResult, TuningReport
from paddleinfer.whole_files import write_whole

__all__ = ["check_writer", "write_tuning_file"]

_HEAD = """\
# Written by paddleinfer tune. Engine and paddleinfer-http follow [options] where nothing else is given; see
# docs/tuning.md. Delete this file, or give tuning_file=None, to have the defaults.
"""


def check_writer() -> None:
    """Raises ConfigError if the package that writes TOML is not installed."""
    if importlib.util.find_spec("tomli_w") is None:
        raise ConfigError(
            'a tuning file is written with tomli-w; install it with pip install "paddleinfer[tune]"'
        )


def write_tuning_file(path: Path, report: TuningReport, program: str, date: str) -> None:
    """Writes the file whole, or leaves the old one.

    Parameters
    ----------
    path
        The file.
    report
        What was found.
    program
        The name of the model's program file.
    date
        When it was found.

    Raises
    ------
    OSError
        It cannot be written.
    """
    document = {
        "options": _options(report.options),
        "measured": {
            "program": program,
            "date": date,
            "goal": report.goal,
            "load": report.load,
            "inputs": report.inputs,
            "setting": report.setting or "",
            "times_as_good_as_defaults": round(report.gain, 3),
            "interrupted": report.interrupted,
            "seconds": round(report.seconds, 1),
            **report.machine,
            "settings": [_line(result) for result in report.results],
        },
    }
    text: str = importlib.import_module("tomli_w").dumps(document)
    write_whole(path, (_HEAD + "\n" + text).encode(errors="backslashreplace"))


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(options[name]) for name in TUNABLE if name in options}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, PadAxis):
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _plain(part) for name, part in given.items() if part not in (None, (), {})}
    return dict(value) if isinstance(value, Mapping) else value


def _line(result: SettingResult) -> dict[str, Any]:
    line: dict[str, Any] = {"setting": result.setting, "outcome": result.outcome, "rounds": result.rounds}
    if result.reason:
        line["reason"] = printable(result.reason)
    if result.of_defaults is not None:
        line["times_as_good_as_defaults"] = round(result.of_defaults, 3)
    for name in ("rows_per_s", "p50_ms", "p99_ms"):
        figure = getattr(result, name)
        if figure is not None:
            line[name] = {part: round(value, 4) for part, value in asdict(figure).items()}
    if result.memory_bytes is not None:
        line["memory_bytes"] = result.memory_bytes
    return line
