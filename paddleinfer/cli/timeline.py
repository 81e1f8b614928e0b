"""``paddleinfer timeline`` turns traces and PROFILE lines into a valid Chrome trace, a table or a picture."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from paddleinfer.errors import ConfigError, InvalidInput, PaddleInferError
from paddleinfer.tracing import drawing, summary
from paddleinfer.tracing.document import sound
from paddleinfer.tracing.events import spans
from paddleinfer.tracing.files import read_text, write_trace
from paddleinfer.tracing.paddle_profile import is_profile_line, to_chrome

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "turn a Chrome trace or Paddle Serving's PROFILE lines into a valid trace, a table or a picture"
_RIGHT = "it must hold a Chrome trace in JSON or PROFILE lines of Paddle Serving"
_MOST_SAID = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument(
        "input", metavar="IN", type=Path, help="a Chrome trace in JSON, or a log with PROFILE lines"
    )
    parser.add_argument(
        "output",
        metavar="OUT",
        type=Path,
        nargs="?",
        help="write a valid Chrome trace there, for ui.perfetto.dev",
    )
    parser.add_argument("--summary", action="store_true", help="print where the time went, by stage")
    parser.add_argument("--png", metavar="FILE", type=Path, help="draw the timeline, which needs matplotlib")


def run(options: argparse.Namespace) -> int:
    """Converts, and returns the exit code."""
    try:
        return _run(options)
    except ValueError as error:
        if isinstance(error, PaddleInferError):
            raise
        raise InvalidInput(str(error)) from error


def _run(arguments: argparse.Namespace) -> int:
    source: Path = arguments.input
    output: Path | None = arguments.output
    if output is None and not (arguments.summary or arguments.json or arguments.png):
        raise ConfigError("nothing to do: name a file OUT, or give --summary, --json or --png FILE")
    if arguments.summary and arguments.json:
        raise ConfigError("--summary and --json both print: give one of them")
    for target in (output, arguments.png):
        if target is not None and target.exists() and source.exists() and target.samefile(source):
            raise ConfigError(f"{target} would be written over itself: name another file")
    if output is not None and output == arguments.png:
        raise ConfigError(f"OUT and --png must be two files, not {output} both")
    document, left_out = _document(source)
    for sentence in left_out[:_MOST_SAID]:
        print(f"{source}: {sentence}", file=sys.stderr)
    if len(left_out) > _MOST_SAID:
        print(f"{source}: and {len(left_out) - _MOST_SAID} more of that kind", file=sys.stderr)
    target = arguments.png
    try:
        # The picture comes first: if matplotlib is missing, no file is written.
        if arguments.png is not None:
            drawing.draw(document, arguments.png)
        if output is not None:
            target = output
            write_trace(output, document)
    except OSError as error:
        raise ValueError(f"cannot write {target}: {error.strerror or error}") from error
    if arguments.summary or arguments.json:
        rows = summary.summarise(spans(document))
        print((summary.as_json if arguments.json else summary.table)(rows), end="")
    return 0


def _document(source: Path) -> tuple[dict[str, Any], list[str]]:
    """Returns a valid trace, and a sentence for each thing that it leaves out."""
    if source.is_dir():
        raise ValueError(f"{source} must be a file, not a directory: {_RIGHT}")
    try:
        text = read_text(source)
    except OSError as error:
        raise ValueError(f"cannot read {source}: {error.strerror or error}; {_RIGHT}") from error
    begin = text.lstrip()[:1]
    if not begin:
        raise ValueError(f"{source} is empty: {_RIGHT}")
    try:
        lines = text.splitlines()
        # A log may also begin with a bracket.
        if any(is_profile_line(line) for line in lines):
            document = to_chrome(lines)
            return document, document["otherData"]["left_out"]
        if begin in "[{":
            return sound(_json(text))
    except (ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{source}: {reason}") from error
    raise ValueError(f"{source} has no PROFILE line and is not JSON: {_RIGHT}")


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        # The format allows an array without its end, for programs that die while they write.
        if text.lstrip().startswith("["):
            try:
                return json.loads(text.rstrip().removesuffix(",") + "]", parse_constant=_no_number)
            except json.JSONDecodeError:
                pass
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"it is not JSON at {where} ({error.msg}); {_RIGHT}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON; {_RIGHT}")
