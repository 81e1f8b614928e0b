"""A command line's parser, and what a text on it may stand for."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import math
from pathlib import Path
from typing import Any, NoReturn

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["OneSentenceParser", "check_writable", "count", "positive"]


class OneSentenceParser(argparse.ArgumentParser):
    """One sentence for what is wrong, without the usage."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; the first text that is not understood is refused."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.refuse(unknown[0])
        return options

    def refuse(self, text: str) -> NoReturn:
        """Ends the process because of a text that is not understood."""
        if not text.startswith("-"):
            self.error(f"{shown(text)} is one argument too many; {self.prog} --help lists what it takes")
        # The dashes that all begin with make none alike.
        known = {
            spelled.lstrip("-"): spelled for action in self._actions for spelled in action.option_strings
        }
        close = difflib.get_close_matches(text.partition("=")[0].lstrip("-"), known, n=1)
        hint = f"did you mean {known[close[0]]}?" if close else f"{self.prog} --help lists the options"
        self.error(f"there is no option {text}; {hint}")

    def error(self, message: str) -> NoReturn:
        """Ends the process with this sentence and exit code 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def positive(text: str) -> float:
    """A finite number above 0, as argparse wants it."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")


def count(text: str) -> int:
    """An integer of at least 1, as argparse wants it."""
    with contextlib.suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {text}")


def check_writable(option: str, path: Path) -> None:
    """Before the work whose result goes there, so that it is not for nothing.

    Raises
    ------
    ConfigError
        There cannot be a file of this name, or not one that may be written.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"{option} must be a file, and {path} is a directory")
        is_new = not path.exists()
        if not is_new and not path.is_file():  # to open a pipe would be to use it
            return
        real = path.resolve()  # a link stays, whatever it points to
        with real.open("ab"):
            pass
        if is_new:
            real.unlink()
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{option} cannot be written to {path} ({getattr(error, 'strerror', None) or error}); "
            "name a file in a directory that exists"
        ) from None
