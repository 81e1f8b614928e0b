"""Servers as processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import httpx2 as httpx
from engine_helpers import PATIENCE_S, rows
from http_helpers import INFER, json_tensor

START_S = PATIENCE_S
# Not where ./paddleinfer would hide an installed one.
ELSEWHERE = "/"
REQUEST = {"inputs": [json_tensor("x", rows())]}


class Server:
    """The process and where it serves."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        self.process = process
        self.lines = lines
        self.url = lines[-1].rsplit(" ", 1)[-1]

    def post(self, **options: Any) -> httpx.Response:
        return httpx.post(self.url + INFER, json=REQUEST, timeout=PATIENCE_S, **options)

    def status(self, path: str) -> int:
        return httpx.get(self.url + path, timeout=PATIENCE_S).status_code

    def end(self) -> tuple[int, str]:
        """Exit code, and what it wrote to standard error."""
        _, errors = self.process.communicate(timeout=START_S)
        return self.process.returncode, errors


@contextlib.contextmanager
def started(
    *command: str | Path, environment: dict[str, str] | None = None, folder: str | Path = ELSEWHERE
) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=folder,
    )
    try:
        yield Server(process, list(_until_serving(process)))
    finally:
        process.kill()
        process.communicate()


def _until_serving(process: subprocess.Popen[str]) -> Iterator[str]:
    killer = threading.Timer(START_S, process.kill)
    killer.daemon = True  # a test that has ended waits for it no longer
    killer.start()
    stream: IO[str] | None = process.stdout
    assert stream is not None
    for line in stream:
        yield line.rstrip()
        if "serves on" in line:
            killer.cancel()
            return
    raise AssertionError(f"it did not start: {process.communicate()[1]}")


@contextlib.contextmanager
def waiting_server(
    directory: Path, environment: dict[str, str] | None = None, **options: float | str
) -> Iterator[Server]:
    script = Path(__file__).with_name("http_server_process.py")
    arguments = [
        f"{name}={value if isinstance(value, float | int) else str(value)!r}"
        for name, value in options.items()
    ]
    with started(script, directory, *arguments, environment=environment) as server:
        yield server


@contextlib.contextmanager
def asking(server: Server, count: int) -> Iterator[list[Any]]:
    """So many requests under way, each in a thread; their ends gather in the list."""
    ends: list[Any] = []

    def ask() -> None:
        try:
            ends.append(server.post())
        except httpx.HTTPError as error:
            ends.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield ends
    for thread in threads:
        thread.join(PATIENCE_S)


def under_way(server: Server) -> str:
    text = httpx.get(server.url + "/metrics", timeout=PATIENCE_S).text
    return next(line for line in text.splitlines() if line.startswith("paddleinfer_rows_total{"))
