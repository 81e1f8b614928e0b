"""Formats the server's output: nothing from a client or a model acts upon a terminal, and no write fails."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable

from paddleinfer.sentences import printable

__all__ = ["escape_logs", "say", "tell"]


class _Escaping(logging.Formatter):
    """Escapes another formatter's lines."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, self._inner.format(record).split("\n")))


def escape_logs(loggers: Iterable[logging.Logger]) -> None:
    """Escapes all that the present handlers of these loggers write, except the ends of lines."""
    for logger in loggers:
        for handler in logger.handlers:
            if not isinstance(handler.formatter, _Escaping):
                handler.setFormatter(_Escaping(handler.formatter or logging.Formatter()))


def say(line: str) -> None:
    """Prints to standard error. If that is a full disk or a closed pipe, the server goes on without it."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _go_on_without(sys.stderr.fileno())


def tell(line: str) -> None:
    """Prints to standard output in the same manner."""
    try:
        print(line, flush=True)
    except OSError:
        _go_on_without(sys.stdout.fileno())


def _go_on_without(descriptor: int) -> None:
    """Drops what the stream still holds, which would fail again at exit and change the exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
