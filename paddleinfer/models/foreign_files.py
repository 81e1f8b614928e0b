"""Recognises files that people mistake for a model, and says how to get a model from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddleinfer.errors import ModelLoadError

__all__ = ["refuse_foreign"]

_WAYS_ON = {
    (".pdparams", ".pdopt", ".pdstates"): (
        "holds the state of a training, not a program; build the network in Paddle, give it the weights "
        "with set_state_dict, and export it with paddle.jit.save or paddleinfer.export"
    ),
    (".onnx",): (
        'is an ONNX model, which Paddle does not run; give the file itself with backend="onnxruntime" or '
        '"openvino", export the Paddle model that it came from with paddle.jit.save, or convert it with '
        "x2paddle"
    ),
    (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"): (
        "is an archive; unpack it, and give the directory inside that holds the program"
    ),
}


def refuse_foreign(paths: Sequence[Path]) -> None:
    """Raises for the first such file, and says what to do with it.

    Raises
    ------
    ModelLoadError
        There is such a file.
    """
    for endings, sentence in _WAYS_ON.items():
        found = [path for ending in endings for path in sorted(paths) if path.name.lower().endswith(ending)]
        if found:
            raise ModelLoadError(f"{found[0]} {sentence}")
