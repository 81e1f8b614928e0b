"""Ray Serve: one replica that batches, behind its HAProxy, set up for throughput (see http_variants)."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

import numpy as np
import orjson
import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.http.apps.behind import MAX_ROWS, WAIT_MS, Rows, load, port


class Model:
    """``{"x": row}`` -> ``{"y": row}``."""

    def __init__(self, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self._run = load()

    @serve.batch(max_batch_size=MAX_ROWS, batch_wait_timeout_s=WAIT_MS / 1e3)
    async def together(self, rows: list[Rows]) -> list[Rows]:
        """A batch."""
        return list(self._run(np.stack(rows)))

    async def __call__(self, request: Request) -> Response:
        """One request."""
        row = np.array(orjson.loads(await request.body())["x"], np.float32)
        body = orjson.dumps({"y": await self.together(row)}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(body, media_type="application/json")


if __name__ == "__main__":
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
    ray.init(num_cpus=2, logging_level=logging.WARNING, **options)
    serve.start(http_options={"host": "127.0.0.1", "port": port()})
    kept = {name: value for name, value in os.environ.items() if name.startswith("BENCH_")}
    quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
    deployment = serve.deployment(num_replicas=1, max_ongoing_requests=256, logging_config=quiet)(Model)
    serve.run(deployment.bind(kept), route_prefix="/predict")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()
