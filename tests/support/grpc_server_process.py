"""A server that doubles rows of three numbers, over HTTP and gRPC, for tests that look at its process."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine_helpers import PATIENCE_S, engine_of

from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.server import serve

LIMIT_BYTES = 16 << 20
# What it may take on in a test and keep: buffers of its connections, and what allocators hold.
ALLOWED_BYTES = 10 * LIMIT_BYTES
NAMES = "serves gRPC on "
NAMES_HTTP = "serves on "


@dataclass(frozen=True)
class ServerProcess:
    """Where it listens for gRPC on 127.0.0.1, the number of its process, and where it serves HTTP."""

    port: int
    pid: int
    url: str

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def memory_bytes(self) -> int:
        """What it has in memory now."""
        return self._bytes_of("VmRSS")

    def peak_bytes(self) -> int:
        """The most that it has had in memory since forget_peak()."""
        return self._bytes_of("VmHWM")

    def forget_peak(self) -> None:
        """What it has now is the most."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _bytes_of(self, name: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith(f"{name}:")]
        return int(line.split()[1]) * 1024


@contextlib.contextmanager
def server_process(descriptors: int | None = None) -> Iterator[ServerProcess]:
    """Afterwards it has ended by itself, with exit code 0. It may have a limit of descriptors."""
    arguments = [] if descriptors is None else [str(descriptors)]
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    killer = threading.Timer(PATIENCE_S, process.kill)
    killer.daemon = True  # a test that has ended waits for it no longer
    killer.start()
    try:
        assert process.stdout is not None
        named = [
            next((line for line in process.stdout if name in line), None) for name in (NAMES, NAMES_HTTP)
        ]
        assert named[0] and named[1], "the server did not start; what it wrote to standard error says why"
        killer.cancel()
        port, url = (line.split()[-1] for line in named if line)
        yield ServerProcess(int(port.rpartition(":")[2]), process.pid, url)
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def main() -> int:
    if len(sys.argv) > 1:
        limit = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    limits = {"max_body_bytes": LIMIT_BYTES, "max_grpc_message_bytes": LIMIT_BYTES}
    options = ServerOptions(host="127.0.0.1", port=0, grpc_port=0, **limits)
    with engine_of(batchable=True) as engine:
        return serve({"m": engine}, options, options.service_options())


if __name__ == "__main__":
    sys.exit(main())
