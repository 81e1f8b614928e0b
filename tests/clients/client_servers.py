"""Servers for the clients' tests, each a process in the environment that has Paddle."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_S = 120.0


@dataclass(frozen=True)
class Addresses:
    """Where a server listens: "127.0.0.1:PORT" for each protocol."""

    http: str
    grpc: str


@contextlib.contextmanager
def started(*command: object) -> Iterator[Addresses]:
    """A server's addresses; afterwards the server has ended by itself, with exit code 0."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    try:
        yield _addresses(process)
        process.terminate()
        process.communicate(timeout=START_S)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def _addresses(process: subprocess.Popen[str]) -> Addresses:
    killer = threading.Timer(START_S, process.kill)
    killer.daemon = True  # a test that has ended waits for it no longer
    killer.start()
    assert process.stdout is not None
    grpc = ""
    for line in process.stdout:
        if "serves gRPC on " in line:
            grpc = line.split()[-1]
        if "serves on http://" in line:
            killer.cancel()
            return Addresses(line.rstrip().rpartition("/")[2], grpc)
    raise AssertionError("the server did not start; what it wrote to standard error says why")


def served(python: str, directories: list[Path], *flags: str) -> list[object]:
    """A command that serves these models by their directories' names."""
    named = [f"--model={directory.name}={directory}" for directory in directories]
    command = [python, "-m", "paddleinfer.shim", "--host=127.0.0.1", "--port=0", "--grpc-port=0"]
    return [*command, "--instances=1", *flags, *named]
