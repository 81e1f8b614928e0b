"""What this process may use of the machine: cores, memory, and whose processor it is."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["free_memory_bytes", "is_amd", "usable_cores"]

_CGROUP2 = Path("/sys/fs/cgroup")
_CGROUP1 = Path("/sys/fs/cgroup/cpu")


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def cgroup_cores(root2: Path = _CGROUP2, root1: Path = _CGROUP1) -> float | None:
    """Cores the control group's quota is worth; None without a quota."""
    line = _first_line(root2 / "cpu.max")
    if line is not None:
        quota, _, period = line.partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    quota_us = _first_line(root1 / "cpu.cfs_quota_us")
    period_us = _first_line(root1 / "cpu.cfs_period_us")
    if quota_us is None or period_us is None or int(quota_us) <= 0:
        return None
    return int(quota_us) / int(period_us)


def usable_cores() -> int:
    """Cores this process may run on: its affinity, cut by the control group's quota."""
    cores = len(os.sched_getaffinity(0))
    quota = cgroup_cores()
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def free_memory_bytes() -> int | None:
    """Memory that is free or can be freed, cut by the control group's limit; None when unknown."""
    free: int | None = None
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit = _first_line(_CGROUP2 / "memory.max")
    used = _first_line(_CGROUP2 / "memory.current")
    if limit is not None and limit != "max" and used is not None:
        left = max(0, int(limit) - int(used))
        free = left if free is None else min(free, left)
    return free


def is_amd() -> bool:
    """Whether the processor is AMD's."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
