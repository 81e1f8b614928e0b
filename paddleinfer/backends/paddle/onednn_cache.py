"""Sets the bound on oneDNN's kernel caches, and reports what a model's kernels need and save."""

from __future__ import annotations

import logging

from paddleinfer import _ext
from paddleinfer.config import RuntimeOptions
from paddleinfer.resolved_options import ResolvedOptions

__all__ = ["prepare"]

_log = logging.getLogger(__name__)

_MB = 1e6


def prepare(
    options: RuntimeOptions, library: _ext.PaddleLibrary, resolved: ResolvedOptions, *, by_renewal: bool
) -> _ext.OneDnnKernels:
    """Makes the bound that the instances follow, and the two lines of the report.

    `by_renewal`: the cache is emptied by making predictors again.
    """
    kernels = _ext.OneDnnKernels(options.max_onednn_shapes, options.max_onednn_cache_bytes, by_renewal)
    notes = ("", "")
    if not resolved.onednn:
        notes = ("without effect: oneDNN is off",) * 2
    elif not library.empties_onednn_cache:
        note = "oneDNN's kernel cache cannot be emptied here: each new input shape adds memory for good"
        _log.warning(note)
        notes = (note, note)
    shapes = (
        notes[0]
        or "input shapes after which an instance empties its part of oneDNN's kernel cache at the latest"
    )
    resolved.note("max_onednn_shapes", shapes)
    resolved.note("max_onednn_cache_bytes", notes[1] or (lambda: _measured(kernels.figures())))
    return kernels


def _measured(figures: dict[str, int]) -> str:
    """Returns sentences on what the instances have measured so far."""
    parts = ["for what further input shapes add, over all instances and engines of the process"]
    if figures["emptied"] > 1:
        parts.append(
            f"measured: the first shape takes {figures['first_bytes'] / _MB:.1f} MB in an instance and a "
            f"further one {figures['shape_bytes'] / _MB:.1f} MB (by malloc's count before and after each of "
            f"{figures['emptied']} emptyings); past {figures['shape_limit']} shapes a part is emptied"
        )
    if figures["repeated"] > 0:
        new_ms, repeat_ms = (figures[name] / figures["repeated"] / 1e6 for name in ("new_ns", "repeat_ns"))
        parts.append(
            f"measured: a repeated shape's run takes {repeat_ms:.2f} ms of processor time, "
            f"a new shape's {new_ms:.2f} ms (means of {figures['repeated']} shapes)"
        )
    else:
        parts.append("what it is worth is not known: no shape has come twice")
    return "; ".join(parts)
