"""SIGTERM and Ctrl-C at every step of a server's start: the documented exit code, and nothing of Paddle's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from http_processes import ELSEWHERE, START_S
from zoo import Zoo

# Steps of a start that are tried with each signal; PADDLEINFER_SIGNAL_RUNS=40 is the long form.
RUNS = int(os.environ.get("PADDLEINFER_SIGNAL_RUNS", "2"))

# It sends itself the signal as it imports the module of this number, from whatever thread that is.
SCRIPT = """
import importlib.abc, os, sys

class Send(importlib.abc.MetaPathFinder):
    left = int(sys.argv.pop(1))

    def find_spec(self, name, path, target=None):
        Send.left -= 1
        if Send.left == 0:
            os.kill(os.getpid(), number)

number = int(sys.argv.pop(1))
from paddleinfer.shim.entry import main
sys.meta_path.insert(0, Send())
sys.exit(main())
"""
MODULES = 1500
"""Of a start, about: NumPy's and the server's first, then those of Paddle and of its load."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [1 + run * MODULES // RUNS for run in range(RUNS)])
def test_a_signal_ends_a_server_as_documented_at_every_step_of_its_start(
    zoo: Zoo, step: int, number: signal.Signals
) -> None:
    model = zoo.directory("mlp", zoo.formats[0])
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT,
            str(step),
            str(int(number)),
            model,
            "--host",
            "127.0.0.1",
            "--port",
            "0",
        ],
        capture_output=True,
        text=True,
        timeout=START_S,
        cwd=ELSEWHERE,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(f"paddleinfer-http: received {number.name}; (draining|exiting)", said)
    assert not any(sign in said for sign in ("SignalInfo", "FatalError", "Traceback")), said
