"""What stands behind each of these servers: one Paddle model, with the settings of an Engine's predictor.

The benchmark names it in the environment, which reaches the worker processes that some servers start, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.baselines import Bare

Rows = np.ndarray[Any, Any]

MAX_ROWS = 32
# The "small wait" for further requests, of those servers that have such an option.
WAIT_MS = 1


def load() -> Callable[[Rows], Rows]:
    """Rows -> results, for one thread at a time."""
    bare = Bare(Path(os.environ["BENCH_MODEL"]), as_engine=True)

    def run(rows: Rows) -> Rows:
        (results,) = bare({"x": rows}).values()
        return results

    run(np.zeros((1, int(os.environ["BENCH_WIDTH"])), np.float32))
    return run


def port() -> int:
    """Where to listen, on 127.0.0.1."""
    return int(os.environ["BENCH_PORT"])
