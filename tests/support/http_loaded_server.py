"""A server of known capacity, for tests under load: run as a process. At its end it prints its counts.

A run takes 50 ms however few its rows, and has 8 rows at most: 160 requests of one row a second. A client on
a busy machine, too, can send twice as many.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from paddleinfer import Engine
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.server import serve

RUN_S = 0.050
ROWS = 8
CAPACITY_PER_S = ROWS / RUN_S


def double(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    time.sleep(RUN_S)
    return {"y": inputs["x"] * 2}


def main() -> int:
    options = ServerOptions(host="127.0.0.1", port=0)
    specs = {"x": ("float32", (-1, 3))}
    with Engine.from_callable(double, specs, ["y"], batchable=True, max_batch_size=ROWS) as engine:
        code = serve({"m": engine}, options, options.service_options())
        print(json.dumps({name: count for name, count in engine.stats().items() if isinstance(count, int)}))
    return code


if __name__ == "__main__":
    sys.exit(main())
