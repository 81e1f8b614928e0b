"""Functions of a service in processes of their own, for work that would keep the interpreter to itself."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from time import monotonic
from typing import Any

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["FunctionProcesses", "check_functions"]


def check_functions(**given: Callable[..., Any] | None) -> None:
    """ConfigError for a function that another process could not find by its name."""
    for what, function in given.items():
        if function is None:
            continue
        try:
            pickle.dumps(function)
        except Exception:
            raise ConfigError(
                f"{what} must be a function of a module to run in processes, not {shown(function)}"
            ) from None


class FunctionProcesses:
    """So many processes, started when they are first needed; one that a function ends is replaced."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._executor: ProcessPoolExecutor | None = None

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], timeout_s: float | None) -> Any:
        """What the function gives.

        Raises
        ------
        TimeoutError
            It took longer; the process goes on with it.
        BrokenProcessPool
            It ended its process.
        Exception
            What it raised.
        """
        executor = self._running()
        try:
            return executor.submit(function, *args).result(timeout_s)
        except BrokenProcessPool:
            with self._lock:
                if self._executor is executor:
                    self._executor = None
            executor.shutdown(wait=False)
            raise

    def _running(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._executor is None:
                # Neither a fork of a process with threads, nor a whole interpreter's start for each.
                context = multiprocessing.get_context("forkserver")
                self._executor = ProcessPoolExecutor(self._count, context, _ignore_interrupts)
            return self._executor

    def close(self, timeout_s: float | None) -> None:
        """Ends them, after what they are at; past this time at once, or the interpreter's end would wait."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is None:
            return
        # There is no public way to them before Python 3.14.
        processes = list(executor._processes.values())
        executor.shutdown(wait=False, cancel_futures=True)
        end_s = None if timeout_s is None else monotonic() + timeout_s
        for process in processes:
            process.join(None if end_s is None else max(0.0, end_s - monotonic()))
            if process.is_alive():
                process.terminate()


def _ignore_interrupts() -> None:
    """Ctrl-C goes to all processes of a terminal, and this one's end is its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
