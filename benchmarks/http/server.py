"""Runs a server in a process of its own: starts it, waits until it answers, and ends it with its children."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping

import grpc
import psutil

from benchmarks import harness
from benchmarks.http.envs import Unavailable
from benchmarks.http.load import Array, Ask, GrpcAsk, Load, answer_to, grpc_answer_to, grpc_load, load
from benchmarks.http.variants import Ports, Start
from benchmarks.models import MODELS, directory

_START_S = 90.0
_END_S = 10.0


class Server:
    """A running server.

    Raises
    ------
    Unavailable
        It cannot be installed or does not answer; the sentence says why.
    """

    def __init__(
        self, model: str, start: Start, probe: Ask | GrpcAsk, environment: Mapping[str, str] | None = None
    ) -> None:
        ports = Ports(_free_port(), _free_port())
        path = directory(model)
        self.url = f"http://127.0.0.1:{ports.http}"
        self.grpc_port = ports.grpc
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            start.command(ports, path),
            cwd=harness.REPOSITORY,
            env={
                **harness.quiet_environment(),
                **start.environment,
                **(environment or {}),
                "BENCH_MODEL": str(path),
                "BENCH_WIDTH": str(MODELS[model].fed[0]),
                "BENCH_PORT": str(ports.http),
                "BENCH_GRPC_PORT": str(ports.grpc),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self._root = psutil.Process(self._process.pid)
        try:
            self._wait(probe)
        except BaseException:
            self.close()
            raise

    def _wait(self, probe: Ask | GrpcAsk) -> None:
        deadline = time.monotonic() + _START_S
        last = "it never listened"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise Unavailable(f"its process ended with {self._process.returncode}: {self._said()}")
            try:
                self._answer(probe)
                return
            except (OSError, grpc.RpcError) as error:
                last = str(error)
            time.sleep(0.1)
        raise Unavailable(f"no answer in {_START_S:g} s ({last}): {self._said()}")

    def _said(self) -> str:
        self._output.seek(0)
        lines = [line.strip() for line in self._output.read().splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it said nothing"

    def check(self, ask: Ask | GrpcAsk, expected: Array) -> None:
        """Raises Unavailable unless the answer is the model's."""
        try:
            result = self._answer(ask)
        except (OSError, grpc.RpcError) as error:
            raise Unavailable(f"{error}: {self._said()}") from None
        if not harness.equal(result, expected):
            raise Unavailable("its answer is not the model's")

    def _answer(self, ask: Ask | GrpcAsk) -> Array:
        if isinstance(ask, Ask):
            return ask.read(*answer_to(self.url, ask))
        return ask.read(grpc_answer_to(self.grpc_port, ask))

    def load(self, ask: Ask | GrpcAsk, connections: int, seconds: int) -> Load:
        """One load."""
        if isinstance(ask, Ask):
            return load(self.url, ask, self._root, connections, seconds)
        return grpc_load(self.grpc_port, ask, self._root, connections, seconds)

    def close(self) -> None:
        """Asks it to end, and kills the rest of it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = [self._root, *self._root.children(recursive=True)]
            self._root.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            for process in psutil.wait_procs(processes[1:], timeout=1.0)[1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._root.kill()
        self._process.wait()
        self._output.close()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
