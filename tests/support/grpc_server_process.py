"""A server that doubles rows of three numbers, over HTTP and gRPC, for tests that look at its process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine_helpers import PATIENCE_S, engine_of

from paddleinfer.shim.server import serve
from paddleinfer.shim.server_options import ServerOptions

LIMIT_BYTES = 16 << 20
# What it may take on in a test and keep: buffers of its connections, and what allocators hold.
ALLOWED_BYTES = 10 * LIMIT_BYTES
NAMES = "serves gRPC on "


@dataclass(frozen=True)
class ServerProcess:
    """Where it listens for gRPC on 127.0.0.1, and the number of its process."""

    port: int
    pid: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def memory_bytes(self) -> int:
        """What it has in memory now."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024


@contextlib.contextmanager
def server_process() -> Iterator[ServerProcess]:
    """Afterwards it has ended by itself, with exit code 0."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
    )
    killer = threading.Timer(PATIENCE_S, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if NAMES in line), None)
        assert line is not None, "the server did not start; what it wrote to standard error says why"
        killer.cancel()
        yield ServerProcess(int(line.rstrip().rpartition(":")[2]), process.pid)
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def main() -> int:
    options = ServerOptions(host="127.0.0.1", port=0, grpc_port=0, max_body_bytes=LIMIT_BYTES)
    with engine_of(batchable=True) as engine:
        return serve({"m": engine}, options, options.service_options())


if __name__ == "__main__":
    sys.exit(main())
