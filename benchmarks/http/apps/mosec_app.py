"""mosec: batching in its Rust server, the model in worker processes, JSON by orjson."""

from __future__ import annotations

import os
import sys
from typing import Any

import mosec
import numpy as np
import orjson

from benchmarks.http.apps.behind import MAX_ROWS, WAIT_MS, Rows, load, port


class Model(mosec.Worker):
    """``{"x": row}`` -> ``{"y": row}``."""

    def __init__(self) -> None:
        super().__init__()
        self._run = load()

    def deserialize(self, data: bytes) -> Rows:
        """One row."""
        return np.array(orjson.loads(data)["x"], np.float32)

    def forward(self, data: list[Rows]) -> list[Rows]:
        """A batch."""
        return list(self._run(np.stack(data)))

    def serialize(self, data: Rows) -> bytes:
        """One answer."""
        return orjson.dumps({"y": data}, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(port()), "--log-level", "warning"]
    options: dict[str, Any] = {"max_batch_size": MAX_ROWS, "max_wait_time": WAIT_MS}
    server = mosec.Server()
    server.append_worker(Model, num=int(os.environ["BENCH_PROCESSES"]), **options)
    server.run()
