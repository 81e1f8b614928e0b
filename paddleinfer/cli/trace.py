"""Implements ``--trace``, which keeps the timeline of what a sub-command measures."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError
from paddleinfer.options.parser import check_writable
from paddleinfer.tracing.files import kept_text
from paddleinfer.tracing.trace import Trace

__all__ = ["TraceFile", "add_trace"]


def add_trace(parser: argparse.ArgumentParser) -> None:
    """The option."""
    parser.add_argument(
        "--trace",
        metavar="FILE",
        type=Path,
        help="write the timeline of the load there, for ui.perfetto.dev; FILE.json.gz is smaller",
    )


class TraceFile:
    """The file for the timeline, if there is one.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            check_writable("--trace", path)
        self._path = path
        self._trace: Trace | None = None

    @contextlib.contextmanager
    def recording(self, engine: Engine) -> Iterator[None]:
        """Records during the block."""
        if self._path is None:
            yield
            return
        with engine.trace() as self._trace:
            yield

    @contextlib.contextmanager
    def saved(self) -> Iterator[dict[str, object] | None]:
        """Writes the timeline for a block that prints the figures, which a full disk must not lose.

        It yields path, requests and lost_requests for JSON; None if there is no file or it was not written.

        Raises
        ------
        ConfigError
            The file could not be written. It is raised after the block.
        """
        if self._path is None or self._trace is None:
            yield None
            return
        try:
            self._trace.save(self._path)
        except OSError as error:
            yield None
            raise ConfigError(
                f"--trace could not be written to {self._path} ({error.strerror or error})"
            ) from None
        yield {
            "path": str(self._path),
            "requests": len(self._trace.requests),
            "lost_requests": self._trace.lost_requests,
        }

    def __str__(self) -> str:
        """Describes what the file holds; empty without a file."""
        if self._trace is None:
            return ""
        return f"{self._path}, {kept_text(len(self._trace.requests), self._trace.lost_requests)}"
