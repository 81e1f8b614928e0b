"""BentoML: adaptive batching, one worker; its log of requests and its metrics are off.

It decides itself how long to wait. ``max_latency_ms`` is no wait but a limit: what it expects to take longer
gets 503, so it stays at its default.
"""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType

from benchmarks.http.apps.behind import MAX_ROWS, load


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Model:
    """``{"x": [row]}`` -> ``[row]``."""

    def __init__(self) -> None:
        self._run = load()

    @bentoml.api(batchable=True, max_batch_size=MAX_ROWS)
    def predict(self, x: Annotated[np.ndarray, DType("float32")]) -> np.ndarray:
        """A batch."""
        return self._run(x)
