"""Writes and reads files of traces, as JSON or as gzip of JSON."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddleinfer.whole_files import write_whole

__all__ = ["kept_text", "read_text", "write_trace"]

_GZIP = b"\x1f\x8b"


def write_trace(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Writes JSON without spaces, or gzip if the path ends in ".gz", which ui.perfetto.dev opens as well.

    An earlier file of that name stays until the new one is whole, and if that cannot be written.
    """
    data = json.dumps(document, separators=(",", ":")).encode()
    if os.fspath(path).endswith(".gz"):
        data = gzip.compress(data, compresslevel=6)
    write_whole(path, data)


def read_text(path: Path) -> str:
    """Reads the text of a trace or a log. Raises OSError, and ValueError for damaged gzip."""
    data = path.read_bytes()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is gzip that is truncated or damaged ({error})") from None
    # A log may have bytes that are not UTF-8 next to lines that matter.
    return data.decode("utf-8-sig", errors="replace")


def kept_text(kept: int, lost: int) -> str:
    """Says how many requests a trace holds, and of how many."""
    return f"the last {kept:,} of {kept + lost:,} requests" if lost else f"all {kept:,} requests"
