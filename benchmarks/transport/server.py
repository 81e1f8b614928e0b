"""Runs paddleinfer-http in a process of its own, on TCP or on Unix sockets.

`benchmarks.http.server.Server` is for servers that wrk loads over TCP, and needs psutil for their children.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from benchmarks import harness

_READY = "paddleinfer-http serves on "
_GRPC = "paddleinfer-http serves gRPC on "
_END_S = 10.0


@dataclass(frozen=True)
class Where:
    """A server's addresses, as it prints them: a URL, and an address for gRPC."""

    http: str
    grpc: str


@contextlib.contextmanager
def served(
    models: Mapping[str, Path], where: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[Where]:
    """Runs a server with its defaults, and yields its addresses once it serves."""
    flags = [part for name, path in models.items() for part in ("--model", f"{name}={path}")]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "paddleinfer.shim", *flags, *where],
            cwd=harness.REPOSITORY,
            env={**harness.quiet_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            grpc = ""
            for line in cast("IO[str]", process.stdout):
                if line.startswith(_GRPC):
                    grpc = line.removeprefix(_GRPC).strip()
                if line.startswith(_READY):
                    yield Where(line.removeprefix(_READY).strip(), grpc)
                    break
            else:
                errors.seek(0)
                raise SystemExit(f"paddleinfer-http did not start:\n{errors.read()[-4000:]}")
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_END_S)
            process.kill()
            process.wait()
