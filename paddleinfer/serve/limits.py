"""How much a service takes on at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from paddleinfer.config import check_timeout
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["ServiceLimits"]

_SECONDS = ("timeout_s",)


@dataclass(frozen=True)
class ServiceLimits:
    """Limits of one service.

    Raises
    ------
    ConfigError
        A limit is out of range; the sentence says what would be right.
    """

    running: int = len(os.sched_getaffinity(0)) + 4
    """Functions that run at once; what waits for an engine meanwhile does not count. By default 4 more than
    there are usable cores."""
    threads: int = 64
    """Threads of the pool: as many requests from event loops may be in plain functions, or wait for their
    engines, at once."""
    processes: int = 0
    """Processes that run ``preprocess`` and ``postprocess``, which are functions of modules then; as many of
    them run at once, in the place of `running`. 0: they run in threads."""
    max_requests: int = 1024
    """Requests that run and wait at once; further ones get QueueFull."""
    max_parts: int = 100
    """Fields and files of a form."""
    max_json_items: int = 1 << 18
    """Commas, colons and opening brackets of a JSON body: each may stand for a value, which takes more memory
    than its text."""
    max_image_bytes: int = 16 << 20
    """Bytes of a picture that is decoded."""
    max_image_pixels: int = 25_000_000
    """Pixels of a picture that is decoded, which take 3 bytes each in RGB."""
    timeout_s: float | None = None
    """Seconds that a request has where its caller gives none; None: any time."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _SECONDS:
                check_timeout(field.name, value)
                continue
            least = 0 if field.name == "processes" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{field.name} must be an integer from {least} up, not {shown(value)}")
