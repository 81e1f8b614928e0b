"""PaddleX's own command on engines: ``python -m paddleinfer.paddlex --serve --pipeline OCR.yaml``.

It takes what ``paddlex`` takes. Without ``--engine`` the engine is paddleinfer, and a server answers requests
side by side instead of one after the other.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

from paddleinfer.paddlex.model_options import ENGINE_NAME
from paddleinfer.paddlex.shared import shared
from paddleinfer.paddlex.versions import part

__all__ = ["main"]

_COMMAND: Final = "paddlex.paddlex_cli"
_SERIAL: Final = "SERVING_SERIAL_PIPELINE_CALLS"


def main() -> None:
    """Runs the command."""
    arguments = sys.argv[1:]
    if not any(argument.partition("=")[0] == "--engine" for argument in arguments):
        sys.argv += ["--engine", ENGINE_NAME]
    if "--serve" in arguments:
        _serve_side_by_side()
    part(_COMMAND, "main")()


def _serve_side_by_side() -> None:
    """Has PaddleX's server call one pipeline from several threads, which `shared` makes right."""
    create = part(_COMMAND, "create_pipeline")

    def create_shared(*arguments: Any, **options: Any) -> Any:
        return shared(create(*arguments, **options))

    command: Any = importlib.import_module(_COMMAND)
    command.create_pipeline = create_shared
    part("paddlex.utils.flags", _SERIAL)
    if f"PADDLE_PDX_{_SERIAL}" not in os.environ:
        flags: Any = importlib.import_module("paddlex.utils.flags")
        setattr(flags, _SERIAL, False)


if __name__ == "__main__":
    main()
