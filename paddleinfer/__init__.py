"""paddleinfer: a PaddlePaddle model as a self-batching function inside a Python process."""

from typing import TYPE_CHECKING

from paddleinfer import errors
from paddleinfer._version import __version__
from paddleinfer.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from paddleinfer.backends.paddle.export import export as export
    from paddleinfer.config import *  # noqa: F403
    from paddleinfer.engine.certificate import Agreement as Agreement
    from paddleinfer.engine.certificate import Certificate as Certificate
    from paddleinfer.engine.engine import Engine as Engine
    from paddleinfer.engine.futures import InferFuture as InferFuture
    from paddleinfer.engine.generation import ReloadReport as ReloadReport
    from paddleinfer.engine.verify import verify as verify
    from paddleinfer.engine.warmup import WarmupReport as WarmupReport
    from paddleinfer.errors import *  # noqa: F403
    from paddleinfer.explanation import InferInfo as InferInfo
    from paddleinfer.models.reader import *  # noqa: F403
    from paddleinfer.tuning.report import *  # noqa: F403
    from paddleinfer.tuning.tune import tune as tune

_HOMES = {
    "engine.engine": "Engine InferInfo ReloadReport WarmupReport",
    "engine.certificate": "Agreement Certificate",
    "engine.verify": "verify",
    "config": "BatchingOptions EngineConfig EngineOptions PadAxis RuntimeOptions",
    "errors": " ".join(errors.__all__),
    "backends.paddle.export": "export",
    "engine.futures": "InferFuture",
    "models.reader": "ModelSpec TensorSpec",
    "tuning.report": "Figure SettingResult TuningReport",
    "tuning.tune": "tune",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = ["__version__", *_HOME_OF]  # noqa: PLE0604 - names only
__getattr__, __dir__ = lazy_exports(__name__, _HOME_OF, "__version__")
