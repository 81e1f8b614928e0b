"""A server whose output cannot be written still serves, and ends when it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_helpers import PATIENCE_S, eventually
from zoo import Zoo


@contextlib.contextmanager
def unwritable(kind: str) -> Iterator[int]:
    if kind == "a full disk":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("kind", ["a full disk", "a closed pipe"])
def test_a_server_whose_output_cannot_be_written_serves_and_ends_at_a_signal(
    kind: str, zoo: Zoo, tmp_path: Path
) -> None:
    uds = tmp_path / "s"
    trace = tmp_path / "trace.json"
    command = [
        sys.executable,
        "-m",
        "paddleinfer.shim",
        str(zoo.directory("mlp", zoo.formats[0])),
        "--uds",
        str(uds),
    ]
    with unwritable(kind) as output:
        process = subprocess.Popen(
            [*command, "--trace", str(trace), "--access-log"], stdout=output, stderr=output, cwd=tmp_path
        )
        try:
            assert eventually(uds.exists)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.wait()
    assert not uds.exists()
    assert trace.exists()
