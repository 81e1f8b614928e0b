"""The command ``paddleinfer`` inspects models, runs and measures them, and shows where time goes."""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence

from paddleinfer._version import __version__
from paddleinfer.cli.output import keep_stdout_clean
from paddleinfer.engine.lifecycle import defer_sigint, end_at_once_by_sigint
from paddleinfer.errors import ConfigError, InvalidInput, ModelLoadError, PaddleInferError
from paddleinfer.options.parser import OneSentenceParser
from paddleinfer.sentences import shown

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    "inspect",
    "run",
    "bench",
    "verify",
    "tune",
    "diagnose",
    "timeline",
    "simulate",
    "convert",
    "cache",
    "demo",
)
"""The sub-commands. Each is a module ``paddleinfer.cli.NAME`` with

- ``SUMMARY``, one line for the help;
- ``add_options(parser)``; every sub-command has ``--json`` already, as ``options.json``;
- ``run(options)``, which returns the exit code, and raises PaddleInferError or OSError if something is wrong.
"""

_FAILED = 1
_WRONG = 2
_INTERRUPTED = 130

_EPILOG = """\
exit codes: 0 done; 1 the model or the engine failed; 2 an option, a file or an input is wrong; 130 Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out one sub-command, and returns the exit code of the process."""
    name = "paddleinfer"
    try:
        if arguments is None:
            keep_stdout_clean()
        if isinstance(sys.stdout, io.TextIOWrapper):  # stdout may be unable to encode a file's name
            sys.stdout.reconfigure(errors="backslashreplace")
        options = _parsed(sys.argv[1:] if arguments is None else arguments)
        name = f"paddleinfer {options.command}"
        code = int(options.run(options))
        if sys.stdout is not None:  # it is None if somebody has closed it
            sys.stdout.flush()
    except SystemExit as end:  # argparse has already printed its message
        code = int(end.code or 0)
    except (ConfigError, InvalidInput, ModelLoadError) as error:
        code = _say(name, error, _WRONG)
    except PaddleInferError as error:
        code = _say(name, error, _FAILED)
    except KeyboardInterrupt:
        code = _say(name, "interrupted", _INTERRUPTED)
    except BrokenPipeError:  # the reader has gone, as head does
        code = _FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _say(name, f"{where}{error.strerror or error}", _WRONG)
    if arguments is None:
        _drop_what_cannot_be_written()
        end_at_once_by_sigint()
    return code


def _drop_what_cannot_be_written() -> None:
    """Keeps Python's own flush at exit from failing on it again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(name: str, what: object, code: int) -> int:
    print(f"{name}: {what}", file=sys.stderr)
    return code


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = OneSentenceParser(
        prog="paddleinfer",
        description="Inspect PaddlePaddle models, run and measure them.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"paddleinfer {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    parsers = {}
    with defer_sigint():  # NumPy claims to be broken if its import is interrupted
        modules = {name: importlib.import_module(f"paddleinfer.cli.{name}") for name in COMMANDS}
    for name, module in modules.items():
        parsers[name] = sub = commands.add_parser(
            name, help=module.SUMMARY, description=module.SUMMARY, allow_abbrev=False
        )
        module.add_options(sub)
        sub.add_argument(
            "--json", action="store_true", help="print one JSON document on stdout, and nothing else"
        )
        sub.set_defaults(run=module.run)
    first = arguments[0] if arguments else ""
    if first and not first.startswith("-") and first not in parsers:
        close = difflib.get_close_matches(first, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the commands are {', '.join(COMMANDS)}"
        parser.error(f"there is no command {shown(first)}; {hint}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parsers.get(options.command, parser).refuse(unknown[0])
    if options.command is None:
        parser.error(f"give a command: {', '.join(COMMANDS)}; paddleinfer --help describes them")
    return options
