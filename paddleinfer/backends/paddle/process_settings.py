"""Applies settings that act on the whole process and not on one engine, and always reports them."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from paddleinfer.backends.processors import is_amd
from paddleinfer.config import RuntimeOptions
from paddleinfer.errors import ConfigError
from paddleinfer.models.reader import ModelSpec
from paddleinfer.resolved_options import ResolvedOptions, Source

__all__ = ["apply_malloc_tuning", "arenas", "check_mkl", "deletion", "prepare_mkl"]

_MKL_VARIABLE = "MKL_DEBUG_CPU_TYPE"
_MKL_AVX2 = "5"
_mkl_is_set = False  # True once an engine has let MKL take the path, which MKL keeps
# With this size the helper thread is woken so rarely that it costs next to nothing, and little memory waits.
_DELETION_LOT_BYTES = 4 << 20
_DELETION_LOT_GB = _DELETION_LOT_BYTES / (1 << 30)

# mallopt(3), <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_TRIM_NEVER = 2**31 - 1
# 1 GiB where glibc allows it; newer versions (2.3x) allow half a heap at most.
_MMAP_THRESHOLDS = (1 << 30, 32 << 20)


class Deletion(NamedTuple):
    """How many gigabytes of tensors wait until a helper thread frees them in a run; below 0: none is."""

    gb: float
    plain_gb: float
    """Of predictors without oneDNN beside those with it."""


def deletion(spec: ModelSpec, options: RuntimeOptions, resolved: ResolvedOptions, *, known: bool) -> Deletion:
    """Decides how Paddle's helper threads free tensors during runs.

    Paddle reads a flag of the process for it, which is put back afterwards; `known`: where that lies.
    """
    asked = options.eager_deletion
    gb = plain_gb = {True: 0.0, False: -1.0, "auto": _DELETION_LOT_GB}[asked]
    # What stays from other shapes changes oneDNN's results (seen with Paddle 3.3.1). Other predictors of the
    # process may read the flag meanwhile, so none stays where nobody has asked for it.
    refused = asked is False and resolved.onednn and not spec.format.is_legacy
    if refused:
        gb = _DELETION_LOT_GB
    notes = []
    if gb == _DELETION_LOT_GB:
        notes.append(f"in lots of {_DELETION_LOT_BYTES >> 20} MiB")
    if refused:
        notes.append("with oneDNN Paddle errs where tensors stay")
    notes.append(
        "the process's flag is so only while this engine's predictors are made and first run"
        if known
        else "this Paddle's flag is not found, and stays as the process has it"
    )
    source: Source = "auto" if asked == "auto" else "option"
    resolved.decide("eager_deletion", gb >= 0, source, "; ".join(notes))
    return Deletion(gb, plain_gb)


def apply_malloc_tuning(options: RuntimeOptions, resolved: ResolvedOptions) -> None:
    """Keeps freed memory in the process, for good: glibc cannot report the earlier setting."""
    if not options.malloc_tuning:
        return
    from paddleinfer import _ext

    count = arenas()
    taken = next((size for size in _MMAP_THRESHOLDS if _ext.mallopt(_M_MMAP_THRESHOLD, size)), None)
    done = (
        taken is not None and _ext.mallopt(_M_TRIM_THRESHOLD, _TRIM_NEVER) and _ext.mallopt(_M_ARENA_MAX, 1)
    )
    if taken is None or not done:
        raise ConfigError("malloc_tuning=True: this C library does not take the setting; leave it off")
    note = (
        f"blocks up to {taken >> 20} MiB are kept, and threads that begin from now on get no arena of their "
        "own; in force for the whole process until it ends, and not taken back by close()"
    )
    if count is not None and count > 1:
        note += (
            f"; {count - 1} arenas besides the main one were there before the load: an instance may get one "
            "of them, which still gives memory back (make the engine before other threads begin)"
        )
    resolved.note("malloc_tuning", note)


def arenas() -> int | None:
    """Returns the number of malloc's arenas; None if it cannot be read."""
    libc = ctypes.CDLL(None)
    if not all(hasattr(libc, name) for name in ("malloc_info", "open_memstream")):
        return None
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    libc.open_memstream.restype = libc.free.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    if not stream:
        return None
    failed = libc.malloc_info(0, stream)
    libc.fclose(stream)
    count = (text.value or b"").count(b"<heap nr=")
    libc.free(text)
    return None if failed else count


def prepare_mkl(options: RuntimeOptions, resolved: ResolvedOptions) -> bool:
    """Lets MKL take its AVX2 path on AMD, before Paddle is imported; tells if check_mkl() must follow."""
    wanted = options.mkl_amd
    source: Source = "auto" if wanted == "auto" else "option"
    if _MKL_VARIABLE in os.environ:
        note = f"{_MKL_VARIABLE}={os.environ[_MKL_VARIABLE]} stands in the environment"
        if wanted is False:
            raise ConfigError(f"mkl_amd=False, but {note}; take it out before Python starts")
        resolved.decide("mkl_amd", os.environ[_MKL_VARIABLE] == _MKL_AVX2, "environment", note)
        return False
    if wanted is False:
        resolved.decide("mkl_amd", False, "option")
        return False
    note = "undocumented by MKL; products were checked at start; in force for the whole process"
    if _mkl_is_set and options.onednn is False:
        resolved.decide("mkl_amd", True, source, note)
        return False
    if "paddle" in sys.modules:
        reason = "paddle was imported before the engine was made"
    elif not is_amd():
        reason = "the processor is not AMD's"
    elif options.onednn is not False:
        reason = "it acts on engines with onednn=False only"
    else:
        os.environ[_MKL_VARIABLE] = _MKL_AVX2
        resolved.decide("mkl_amd", True, source, note)
        return True
    if wanted is True:
        raise ConfigError(f"mkl_amd=True has no effect here: {reason}")
    resolved.decide("mkl_amd", False, "auto", reason)
    return False


def check_mkl(library_path: str) -> None:
    """Compares a product on MKL's chosen path with NumPy's, then removes the variable.

    MKL reads the variable at its first call, which this is.

    Raises
    ------
    ConfigError
        The products differ by more than 1e-5 of the largest element.
    """
    import numpy as np

    try:
        mkl = ctypes.CDLL(str(Path(library_path).parent.parent / "libs" / "libmklml_intel.so"))
        left, right = _check_factors(np)
        product = np.zeros((left.shape[0], right.shape[1]), np.float32)
        row_major, no_transpose = 101, 111
        pointer = ctypes.POINTER(ctypes.c_float)
        mkl.cblas_sgemm(
            row_major,
            no_transpose,
            no_transpose,
            *(left.shape[0], right.shape[1], left.shape[1]),
            ctypes.c_float(1.0),
            left.ctypes.data_as(pointer),
            left.shape[1],
            right.ctypes.data_as(pointer),
            right.shape[1],
            ctypes.c_float(0.0),
            product.ctypes.data_as(pointer),
            product.shape[1],
        )
    except (OSError, AttributeError) as error:
        raise ConfigError(
            f"mkl_amd: MKL could not be called for its check ({error}); pass mkl_amd=False"
        ) from error
    finally:
        os.environ.pop(_MKL_VARIABLE, None)
    expected = left.astype(np.float64) @ right.astype(np.float64)
    if not np.allclose(product, expected, rtol=0, atol=1e-5 * np.abs(expected).max()):
        raise ConfigError(
            "mkl_amd: MKL's AVX2 path computes wrong products here; pass mkl_amd=False and restart"
        )
    global _mkl_is_set  # noqa: PLW0603 - as process-wide as the setting
    _mkl_is_set = True


def _check_factors(np: Any) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return (
        random.standard_normal((64, 128)).astype(np.float32),
        random.standard_normal((128, 96)).astype(np.float32),
    )
