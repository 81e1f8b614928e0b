"""Makes PaddleX and PaddleOCR know the engine "paddleinfer"."""

from __future__ import annotations

import importlib.util
import threading
from collections import defaultdict
from typing import Any, Final

from paddleinfer.errors import PaddleInferError
from paddleinfer.paddlex.model_options import ENGINE_NAME
from paddleinfer.paddlex.versions import KNOWN_VERSIONS, check_version, part
from paddleinfer.sentences import listed

__all__ = ["register"]

_COPIED_FROM: Final = "paddle_static"
_MODELS: Final = "paddlex.inference.models"
_lock = threading.Lock()


def register() -> None:
    """Registers the engine for every model that PaddleX runs on ``paddle_static``.

    Importing ``paddleinfer.paddlex`` calls it. Calling it again registers models that were added since.

    Raises
    ------
    ImportError
        PaddleX is not installed.
    PaddleInferError
        Its registry of engines is not one of the known versions'; nothing is registered then.
    """
    check_version()
    with _lock:
        bindings = part(f"{_MODELS}.bindings", "default_registry")
        bind = part(f"{_MODELS}.bindings", "register_predictor_binding_map")
        registry: Any = getattr(bindings, "_registry", None)
        part(f"{_MODELS}.engines", "RunnerEngine")
        part(f"{_MODELS}.runners.inference_runner", "InferenceRunner")
        part(f"{_MODELS}.utils.model_paths", "get_model_paths")
        # The predictors' modules register their bindings when they are imported.
        part(_MODELS, "create_predictor")
        known = isinstance(registry, dict) and any(_COPIED_FROM in engines for engines in registry.values())
        if not known:
            raise PaddleInferError(
                "PaddleX's registry of models looks different from that of the known versions "
                f"({listed(KNOWN_VERSIONS)}): no model in it is bound to {_COPIED_FROM}"
            )
        import paddleinfer.paddlex.runner_engine  # noqa: F401 - the class registers itself

        names: dict[Any, list[str]] = defaultdict(list)
        for model_name, engines in registry.items():
            copied = engines.get(_COPIED_FROM)
            # A model with a runner of its own needs more than its outputs.
            if copied is not None and copied.runner_binding is None and ENGINE_NAME not in engines:
                names[copied.predictor].append(model_name)
        for predictor, model_names in names.items():
            bind(predictor, {ENGINE_NAME: model_names})
        _forget_engine_names()
        _tell_paddleocr()


def _forget_engine_names() -> None:
    """PaddleX caches the names of its engines with the first model that is made."""
    part(_MODELS, "_engine_config_bucket_key_allowlist").cache_clear()


def _tell_paddleocr() -> None:
    """PaddleOCR checks the name against a list of its own."""
    if importlib.util.find_spec("paddleocr") is None:
        return
    names = part("paddleocr._common_args", "SUPPORTED_INFERENCE_ENGINE_LIST")
    if ENGINE_NAME not in names:
        names.append(ENGINE_NAME)
