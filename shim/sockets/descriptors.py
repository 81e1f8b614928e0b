"""Keeps a server from running out of file descriptors, which would reset its clients."""

from __future__ import annotations

import logging
import resource
from typing import Final

from ..service.connection_limits import ConnectionLimits

__all__ = ["allow_descriptors"]

_log = logging.getLogger("paddleinfer.http")

# For files that are open already, models' files, the engine's own, and connections over gRPC.
_FURTHER: Final = 512
_LEAST_CONNECTIONS: Final = 16


def allow_descriptors(limits: ConnectionLimits) -> None:
    """Raises the process's soft limit for these connections; if that fails, it allows fewer of them."""
    wanted = _FURTHER + limits.most
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        fits = max(_LEAST_CONNECTIONS, limits.most - (wanted - most))
        _log.warning(
            "%d connections instead of %d are allowed because the limit on open files is %d (ulimit -n)",
            *(fits, limits.most, most),
        )
        limits.most = fits
