"""Which servers were started here: Paddle Serving's ``ProcessInfo.json``, by which ``stop`` finds them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from paddleinfer.whole_files import write_whole

__all__ = ["forget", "remember", "remembered", "stop"]

_NAME: Final = "ProcessInfo.json"
_START_TIME: Final = 19
"""Of the fields of /proc/PID/stat after the command's name."""


def remember(port: int) -> None:
    """This process serves; a folder that nothing can be written to stays as it is."""
    own = {"pid": os.getpid(), "port": port, "start_time": _start_time(os.getpid())}
    with contextlib.suppress(OSError):
        _write([*(one for one in _read() if _is_running(one)), own])


def forget() -> None:
    """This process serves no more."""
    with contextlib.suppress(OSError):
        _write([one for one in _read() if one.get("pid") != os.getpid() and _is_running(one)])


@contextlib.contextmanager
def remembered(port: int) -> Iterator[None]:
    """Around the time that this process serves."""
    remember(port)
    try:
        yield
    finally:
        forget()


def stop(number: signal.Signals) -> list[tuple[int, int]]:
    """Sends a signal to the servers that were started here; gives the pid and port of each.

    Raises
    ------
    OSError
        One belongs to somebody else.
    """
    running = [one for one in _read() if _is_running(one)]
    for one in running:
        os.kill(one["pid"], number)
    return [(one["pid"], one["port"]) for one in running]


def _path() -> Path:
    return Path(os.environ.get("SERVING_HOME") or ".") / _NAME


def _read() -> list[dict[str, Any]]:
    try:
        read = json.loads(_path().read_bytes())
    except (OSError, ValueError):
        return []
    return [one for one in read if isinstance(one, dict)] if isinstance(read, list) else []


def _write(servers: list[dict[str, Any]]) -> None:
    if servers:
        write_whole(_path(), json.dumps(servers).encode())
    else:
        _path().unlink(missing_ok=True)


def _is_running(server: dict[str, Any]) -> bool:
    """Whether it is the process that was noted, and not a later one of its number."""
    pid, port = server.get("pid"), server.get("port")
    if type(pid) is not int or pid <= 0 or type(port) is not int:
        return False
    return server.get("start_time") is not None and server["start_time"] == _start_time(pid)


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return int(stat.rpartition(")")[2].split()[_START_TIME])
    except (OSError, ValueError, IndexError):
        return None
