"""What a predictor of PaddleX's calls instead of Paddle's own one: a lease on a shared engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
from paddlex.inference.models.runners.inference_runner import InferenceRunner

from paddleinfer.engine.engine import Engine
from paddleinfer.engine.sharing import EngineLease
from paddleinfer.errors import EngineClosed, InvalidInput
from paddleinfer.paddlex.line_widths import run_at_own_widths

__all__ = ["EngineRunner"]


class EngineRunner(InferenceRunner):
    """Runs a model for one predictor; any number of threads may call it.

    Parameters
    ----------
    lease
        The right to the model's engine; it is given back by ``close``, or with this object.
    own_widths
        Run the lines of a recognizer at their own widths.
    """

    def __init__(self, lease: EngineLease, own_widths: bool) -> None:
        super().__init__()
        self._lease = lease
        self._own_widths = own_widths

    @property
    def engine(self) -> Engine:
        """The engine behind it, which other pipelines may use at the same time.

        Raises
        ------
        EngineClosed
            The pipeline is closed.
        """
        with _saying_that_the_pipeline_is_closed():
            return self._lease.engine

    def __call__(self, x: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Runs a batch.

        Parameters
        ----------
        x
            One array for each input, in the order of the inputs' sorted names.

        Returns
        -------
        list
            The outputs in the model's order, each an array of its own.

        Raises
        ------
        InvalidInput
            The arrays do not fit the model.
        EngineClosed
            The pipeline is closed.
        ModelError
            The model failed.
        """
        engine = self.engine
        names = sorted(spec.name for spec in engine.inputs)
        if len(x) != len(names):
            raise InvalidInput(
                f"the model takes {len(names)} inputs ({', '.join(names)}), and was given {len(x)}"
            )
        if self._own_widths:
            return [run_at_own_widths(engine, x[0])]
        return list(engine.infer(dict(zip(names, x, strict=True))).values())

    def again(self) -> EngineRunner:
        """Returns another runner on the same engine, for a copy of the pipeline."""
        with _saying_that_the_pipeline_is_closed():
            return EngineRunner(self._lease.another(), self._own_widths)

    def close(self) -> None:
        """Gives the engine back, which ends with its last user."""
        self._lease.close()


@contextlib.contextmanager
def _saying_that_the_pipeline_is_closed() -> Iterator[None]:
    try:
        yield
    except EngineClosed:
        raise EngineClosed("the pipeline is closed, and its models with it; make another one") from None
