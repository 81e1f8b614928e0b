"""The option ``--trace``: the timeline of what a sub-command measures."""

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
        help="keep the timeline of that time, for ui.perfetto.dev; FILE.json.gz is smaller",
    )


class TraceFile:
    """Where the timeline goes, if anywhere.

    Raises
    ------
    ConfigError
        It could not be written there.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            check_writable("--trace", path)
        self._path = path
        self._trace: Trace | None = None

    @contextlib.contextmanager
    def recording(self, engine: Engine) -> Iterator[None]:
        """For the time that is measured."""
        if self._path is None:
            yield
            return
        with engine.trace() as self._trace:
            yield

    @contextlib.contextmanager
    def saved(self) -> Iterator[dict[str, object] | None]:
        """Writes it, for a block that prints what was measured: nothing of that is lost by a full disk.

        Gives path, requests and lost_requests for JSON; None where nobody asked, or it was not written.

        Raises
        ------
        ConfigError
            After the block: it could not be written.
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
        """What it holds; empty where nobody asked."""
        if self._trace is None:
            return ""
        return f"{self._path}, {kept_text(len(self._trace.requests), self._trace.lost_requests)}"
