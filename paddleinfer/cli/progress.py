"""Shows a progress bar on stderr if that is a terminal, with rich or without; stdout is for results only."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator

__all__ = ["Advance", "progress"]

Advance = Callable[[float], None]
"""A function that is called with how much of the total is done."""


@contextlib.contextmanager
def progress(description: str, total: float) -> Iterator[Advance]:
    """Shows a bar during the block, unless stderr is not a terminal or cannot go back in its line."""
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield lambda done: None
    elif importlib.util.find_spec("rich") is None:
        try:
            yield lambda done: _show(f"\r{description} {min(done / total, 1):4.0%}")
        finally:
            _show("\r" + " " * (len(description) + 5) + "\r")
    else:
        console = importlib.import_module("rich.console").Console(stderr=True)
        bar = importlib.import_module("rich.progress").Progress(console=console, transient=True)
        with bar:
            task = bar.add_task(description, total=total)
            yield lambda done: bar.update(task, completed=min(done, total))


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
