"""Gets a model's answers from Paddle, in another process, so that this one need not import it."""

from __future__ import annotations

import os
import pickle
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.backends.onnx.conversion import Load
from paddleinfer.child_process import NotStarted, ended, python_code, read_order, run_python
from paddleinfer.models.reader import ModelSpec
from paddleinfer.sentences import shortened

__all__ = ["NoAnswers", "answers_of_paddle", "run"]

Array = npt.NDArray[Any]
Answers = dict[str, Array]

_LONGEST_S = 600.0
_CHILD = python_code("paddleinfer.engine.paddle_answers")


class NoAnswers(Exception):
    """Paddle gave none; the sentence says why."""


def answers_of_paddle(
    spec: ModelSpec,
    params: str | None,
    cases: Sequence[Sequence[Array]],
    load: Load,
    *,
    child: str = _CHILD,
    longest_s: float = _LONGEST_S,
) -> list[Answers]:
    """Runs a model on Paddle with its defaults, and returns the outputs of each case.

    Parameters
    ----------
    spec, params
        The model, and the option ``params`` that it was read with.
    cases
        For each, the inputs in the model's order.
    load
        The load that this belongs to; its end ends the process.
    child
        The command that the child runs.
    longest_s
        Seconds that it may take.

    Raises
    ------
    NoAnswers
        Paddle cannot run it, or its process ended.
    EngineClosed
        The load was ended meanwhile.
    """
    names = [tensor.name for tensor in spec.inputs]
    inputs = [dict(zip(names, case, strict=True)) for case in cases]
    with tempfile.TemporaryFile() as answers:
        order = (os.fspath(spec.path), params, inputs, answers.fileno())
        try:
            code, _ = run_python(
                child, order, load.ended_by, longest_s=longest_s, kept_open=(answers.fileno(),)
            )
        except NotStarted as error:
            raise NoAnswers(f"no process can be started for it ({error})") from error
        except subprocess.TimeoutExpired:
            raise NoAnswers(f"Paddle did not answer within {longest_s:g} s") from None
        answers.seek(0)
        try:
            kind, found = pickle.load(answers)
        except (EOFError, pickle.UnpicklingError):
            raise NoAnswers(f"the process that asked Paddle ended {ended(code)}") from None
    if kind != "answers":
        raise NoAnswers(found)
    return list(found)


def run() -> None:
    """Runs in the child: reads the order from standard input, and writes the answers to the file."""
    path, params, inputs, answers = read_order()
    with os.fdopen(answers, "wb") as file:
        pickle.dump(_asked(path, params, inputs), file)
    os._exit(0)  # how Paddle's process exits does not matter


def _asked(path: str, params: str | None, inputs: Sequence[Answers]) -> tuple[str, Any]:
    from paddleinfer.engine.engine import Engine

    try:
        with Engine(
            path,
            params=params,
            instances=1,
            batchable=False,
            check=False,
            trace_requests=0,
            tuning_file=None,
        ) as engine:
            return "answers", [{k: np.array(v) for k, v in engine.infer(one).items()} for one in inputs]
    except Exception as error:
        return "failure", shortened(f"Paddle cannot run it: {error}")
