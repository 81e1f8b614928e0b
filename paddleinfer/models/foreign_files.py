"""Files that people take for a model that can be run: what they are, and the way on from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddleinfer.errors import ModelLoadError

__all__ = ["refuse_foreign"]

_WAYS_ON = {
    (".pdparams", ".pdopt", ".pdstates"): (
        "holds the state of a training, and no program; build the network in Paddle, give it the weights "
        "with set_state_dict, and export it with paddle.jit.save or paddleinfer.export"
    ),
    (".onnx",): (
        "is an ONNX model, which Paddle does not run; export the Paddle model that it came from with "
        "paddle.jit.save, or convert it with x2paddle"
    ),
    (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"): (
        "is an archive; unpack it, and give the directory inside that holds the program"
    ),
}


def refuse_foreign(paths: Sequence[Path]) -> None:
    """Says of the first of such files what to do with it.

    Raises
    ------
    ModelLoadError
        There is one.
    """
    for endings, sentence in _WAYS_ON.items():
        found = [path for ending in endings for path in sorted(paths) if path.name.lower().endswith(ending)]
        if found:
            raise ModelLoadError(f"{found[0]} {sentence}")
