"""What the server says: nothing from a client or a model acts upon a terminal, and nothing fails."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable

from paddleinfer.sentences import printable

__all__ = ["escape_logs", "say", "tell"]


class _Escaping(logging.Formatter):
    """Another formatter's lines."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, self._inner.format(record).split("\n")))


def escape_logs(loggers: Iterable[logging.Logger]) -> None:
    """Has all that the present handlers of these loggers write escaped, but for the ends of lines."""
    for logger in loggers:
        for handler in logger.handlers:
            if not isinstance(handler.formatter, _Escaping):
                handler.setFormatter(_Escaping(handler.formatter or logging.Formatter()))


def say(line: str) -> None:
    """On standard error. On a full disk or a closed pipe the server goes on, and ends, without it."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _go_on_without(sys.stderr.fileno())


def tell(line: str) -> None:
    """The same on standard output."""
    try:
        print(line, flush=True)
    except OSError:
        _go_on_without(sys.stdout.fileno())


def _go_on_without(descriptor: int) -> None:
    """What the stream still holds would fail again when the process ends, and change its exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
