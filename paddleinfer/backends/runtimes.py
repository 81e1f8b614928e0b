"""Tells which backends can run here, and in which versions, without importing any of them."""

from __future__ import annotations

from paddleinfer.backends.onnx.conversion import installed_tools
from paddleinfer.backends.onnx.installed import InstalledOnnxRuntime
from paddleinfer.backends.paddle.installed import installed_package
from paddleinfer.errors import ConfigError

__all__ = ["installed_runtimes"]


def installed_runtimes() -> dict[str, tuple[str, str]]:
    """Returns the backends that can run a Paddle model here: backend -> its package and its version."""
    found: dict[str, tuple[str, str]] = {}
    paddle = installed_package()
    if paddle is not None:
        found["paddle"] = paddle
    try:
        installed_tools()
        found["onnxruntime"] = ("onnxruntime", InstalledOnnxRuntime.find().version)
    except ConfigError:  # it, or what converts models for it, is missing or too old
        return found
    return found
