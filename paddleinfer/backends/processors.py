"""Tells what this process may use of the machine: cores and memory, and what the processor can do."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = [
    "cpu_flags",
    "free_memory_bytes",
    "is_amd",
    "processor_name",
    "resident_memory_bytes",
    "usable_cores",
]

_CGROUP2 = Path("/sys/fs/cgroup")
_CGROUP1 = Path("/sys/fs/cgroup/cpu")
_CGROUP1_MEMORY = Path("/sys/fs/cgroup/memory")


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def cgroup_cores(root2: Path = _CGROUP2, root1: Path = _CGROUP1) -> float | None:
    """Returns the cores that the control group's quota allows; None without a quota."""
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
    """Returns the cores this process may run on: its affinity, limited by the control group's quota."""
    cores = len(os.sched_getaffinity(0))
    quota = cgroup_cores()
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def free_memory_bytes() -> int | None:
    """Returns memory that is free or can be freed, limited by the control group; None if unknown."""
    free: int | None = None
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    left = _cgroup_memory_left_bytes()
    if left is not None:
        free = left if free is None else min(free, left)
    return free


def resident_memory_bytes() -> int:
    """Returns the resident memory of this process."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_memory_left_bytes() -> int | None:
    """Returns the control group's limit less what it uses and cannot give back; None without a limit."""
    for limit_path, used_path, stat_path, cache in (
        (_CGROUP2 / "memory.max", _CGROUP2 / "memory.current", _CGROUP2 / "memory.stat", "inactive_file"),
        (
            _CGROUP1_MEMORY / "memory.limit_in_bytes",
            _CGROUP1_MEMORY / "memory.usage_in_bytes",
            _CGROUP1_MEMORY / "memory.stat",
            "total_inactive_file",
        ),
    ):
        limit, used = _first_line(limit_path), _first_line(used_path)
        if limit is None or limit == "max" or used is None:
            continue
        lines = stat_path.read_text().splitlines() if stat_path.exists() else []
        cached = next((int(line.split()[1]) for line in lines if line.split()[0] == cache), 0)
        return max(0, int(limit) - int(used) + cached)
    return None


def is_amd() -> bool:
    """Tells whether the processor is AMD's."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def processor_name(path: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the processor's name, in its own words; empty if unknown."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    name = next((line for line in lines if line.startswith("model name")), "")
    return name.partition(":")[2].strip()


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Returns the processor's flags, in the kernel's words: "avx2", "avx512f"…; empty if unknown."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split()) for line in lines if line.startswith("flags")), frozenset())
