"""BentoML with functions around the model, adaptive batching, one worker; otherwise as bentoml_app."""

from typing import Any

import bentoml
import numpy as np

from benchmarks.http.apps.behind import MAX_ROWS, load
from benchmarks.http.apps.functions import answer_of, row_of


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Labels:
    """``{"documents": [{"x": row}]}`` -> ``[{"label": number, "scores": row}]``."""

    def __init__(self) -> None:
        self._run = load()

    @bentoml.api(batchable=True, max_batch_size=MAX_ROWS)
    def predict(self, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A batch."""
        return list(map(answer_of, self._run(np.concatenate(list(map(row_of, documents))))))
