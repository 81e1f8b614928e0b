"""A command line's parser, and what a text on it may stand for."""

from __future__ import annotations

import argparse
import contextlib
import math
from typing import NoReturn

__all__ = ["OneSentenceParser", "count", "positive"]


class OneSentenceParser(argparse.ArgumentParser):
    """One sentence for what is wrong, without the usage."""

    def error(self, message: str) -> NoReturn:
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
