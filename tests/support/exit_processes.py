"""Processes of their own that end, fork, or are interrupted."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap

import pytest
from engine_helpers import PATIENCE_S, SOON_S

EXIT_SECONDS = SOON_S
START_SECONDS = PATIENCE_S

PRELUDE = """
import asyncio, gc, os, signal, sys, threading, time
import numpy as np
import paddleinfer
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start background jobs that ignore it
X = np.ones((1, 3), "float32")
started = threading.Event()
def double(feeds):
    started.set()
    return {"y": feeds["x"] * 2}
def hang(feeds):
    started.set()
    threading.Event().wait()
def make(fn=double, **options):
    return paddleinfer.Engine.from_callable(fn, {"x": ("float32", (-1, 3))}, ["y"], **options)
def keep_calling(engine, feeds=None):
    def loop():
        while True:
            engine.infer([X] if feeds is None else feeds)
    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
def leave():
    print("leaving", flush=True)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    script = PRELUDE + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Until the process prints the word; what it printed before is Paddle's."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    _, stderr = process.communicate(timeout=START_SECONDS)
    pytest.fail(f"it ended with {process.returncode} before {word!r}:\n{stderr}")


def finish(process: subprocess.Popen[str], seconds: float = EXIT_SECONDS) -> tuple[str, str]:
    for _ in range(int(seconds)):  # where the whole machine stands still, only one of them passes
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)
    process.kill()
    try:
        said: object = process.communicate(timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        said = "and a child of it lives on"
    pytest.fail(f"it had not ended after {seconds} s: {said}")
