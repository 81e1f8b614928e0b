"""Checks an engine whose requests have ended, and a process whose engines have ended."""

from __future__ import annotations

import contextlib
from pathlib import Path

import paddleinfer

ENDS = ("results", "errors", "cancelled", "expired", "shed", "closed")


def assert_all_ended(engine: paddleinfer.Engine) -> None:
    stats = engine.stats()
    assert stats["requests"] == sum(stats[end] for end in ENDS), stats
    assert stats["queued_requests"] == stats["queued_rows"] == stats["queued_bytes"] == 0


def instance_threads() -> int:
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # the thread has just left
            names.append(path.read_text())
    return sum(name.startswith("paddleinfer-") for name in names)
