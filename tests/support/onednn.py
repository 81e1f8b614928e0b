"""oneDNN's own cache of primitives, as the library that Paddle has loaded tells of it."""

from __future__ import annotations

import ctypes
from pathlib import Path


def onednn_library() -> ctypes.CDLL:
    """The library that Paddle has loaded into this process."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return ctypes.CDLL(next(line.split()[-1] for line in maps if "libdnnl.so" in line))


def capacity() -> int:
    """How many primitives it keeps at most."""
    found = ctypes.c_int()
    assert onednn_library().dnnl_get_primitive_cache_capacity(ctypes.byref(found)) == 0
    return found.value


def kept() -> int:
    """How many it keeps now."""
    found = ctypes.c_int()
    assert onednn_library()._ZN4dnnl4impl24get_primitive_cache_sizeEPi(ctypes.byref(found)) == 0
    return found.value
