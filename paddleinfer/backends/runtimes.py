"""Tells which backends can run here, and in which versions, without importing any of them."""

from __future__ import annotations

from paddleinfer.backends.onnx.conversion import installed_tools
from paddleinfer.backends.onnx.installed import InstalledOnnxRuntime, InstalledOpenVino
from paddleinfer.backends.paddle.installed import installed_package
from paddleinfer.errors import ConfigError

__all__ = ["installed_runtimes"]


def installed_runtimes() -> dict[str, tuple[str, str]]:
    """Returns the backends that can run a Paddle model here: backend -> its package and its version."""
    found: dict[str, tuple[str, str]] = {}
    paddle = installed_package()
    if paddle is not None:
        found["paddle"] = paddle
    for backend, package in (("onnxruntime", InstalledOnnxRuntime), ("openvino", InstalledOpenVino)):
        try:
            installed_tools()
            found[backend] = (backend, package.find().version)
        except ConfigError:  # it, or what converts models for it, is missing or too old
            continue
    return found
