"""paddleinfer: a PaddlePaddle model as a self-batching function inside a Python process."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from paddleinfer._version import __version__

if TYPE_CHECKING:
    from paddleinfer.config import *  # noqa: F403
    from paddleinfer.engine import Engine as Engine
    from paddleinfer.errors import *  # noqa: F403
    from paddleinfer.explanation import InferInfo as InferInfo
    from paddleinfer.exporting import export as export
    from paddleinfer.futures import InferFuture as InferFuture
    from paddleinfer.generation import ReloadReport as ReloadReport
    from paddleinfer.model import *  # noqa: F403
    from paddleinfer.warmup import WarmupReport as WarmupReport

_ERRORS = "Cancelled ConfigError DeadlineExceeded EngineClosed InvalidInput ModelError ModelLoadError"
_HOMES = {
    "engine": "Engine InferInfo ReloadReport WarmupReport",
    "config": "BatchingOptions EngineConfig PadAxis RuntimeOptions",
    "errors": f"{_ERRORS} PaddleInferError QueueFull",
    "exporting": "export",
    "futures": "InferFuture",
    "model": "ModelSpec TensorSpec",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = ["__version__", *_HOME_OF]  # noqa: PLE0604 - names only


def __getattr__(name: str) -> Any:  # PEP 562: a public name is imported when it is first asked for
    if name not in _HOME_OF:
        raise AttributeError(f"module 'paddleinfer' has no attribute {name!r}")
    return getattr(import_module(f"paddleinfer.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
