"""Functions of a service that another process finds by their names."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from paddleinfer import InvalidInput
from paddleinfer.serve import Request


def preprocess(request: Request) -> Any:
    """Of a number, what is to go wrong, or a file to wait for."""
    if request.value == "die":
        os._exit(3)
    if request.value == "refuse":
        raise InvalidInput("a number is needed")
    if request.value == "fail":
        raise KeyError("secret")
    if isinstance(request.value, Path):
        while not request.value.exists():
            time.sleep(0.01)
        return {"x": np.ones((1, 3), "float32")}
    return {"x": np.full((1, 3), request.value, "float32")}


def postprocess(results: Any, request: Request) -> Any:
    """With the process that did it."""
    return {"answer": float(results["y"][0, 0]), "pid": os.getpid()}
