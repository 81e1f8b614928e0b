"""Checks, with the wheel in an empty environment, that the engine works without Paddle."""

import numpy as np

import paddleinfer

with paddleinfer.Engine.from_callable(
    lambda feeds: {"y": feeds["x"] * 2}, inputs={"x": ("float32", (-1, 4))}, outputs=["y"]
) as engine:
    y = engine.infer({"x": np.ones((3, 4), np.float32)})["y"]
    assert y.shape == (3, 4) and (y == 2).all(), y
try:
    paddleinfer.Engine(__file__)
except paddleinfer.ModelLoadError as error:
    print(f"paddleinfer {paddleinfer.__version__} works; a file that is not a model: {error}")
else:
    raise SystemExit("a Python file was taken for a model")
