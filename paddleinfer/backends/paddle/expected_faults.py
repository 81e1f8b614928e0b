"""Predicts from files, without importing Paddle, which of its known faults a model would meet."""

from __future__ import annotations

import platform

from paddleinfer.backends.paddle.faults import FaultContext, Workaround, workarounds_for
from paddleinfer.backends.paddle.installed import installed_package, numbers_of
from paddleinfer.backends.processors import cpu_flags
from paddleinfer.config import RuntimeOptions
from paddleinfer.models.files import read_whole, refusing_damage
from paddleinfer.models.spec import ModelFormat, ModelSpec

__all__ = ["expected_faults"]


def expected_faults(spec: ModelSpec, options: RuntimeOptions) -> tuple[str, list[Workaround]]:
    """Returns the installed Paddle ("" for none), and what an engine would do about each expected fault."""
    package = installed_package()
    on_paddle = options.backend == "paddle" and spec.format is not ModelFormat.ONNX
    if package is None or spec.program_path is None or not on_paddle:
        return "", []
    name, version = package
    context = FaultContext(
        version=numbers_of(version),
        onednn=_uses_onednn(options),
        ir_optim=options.ir_optim,
        legacy=spec.format.is_legacy,
        processor=cpu_flags(),
        program=read_whole(spec.program_path),
    )
    with refusing_damage(spec.program_path):
        return f"{name} {version}", workarounds_for(context)


def _uses_onednn(options: RuntimeOptions) -> bool:
    """Guesses from the wheels: on x86 oneDNN is built in and on by default."""
    possible = options.devices[0] == "cpu" and platform.machine() == "x86_64"
    return possible and (options.onednn is not False or options.precision == "bfloat16")
