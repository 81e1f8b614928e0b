"""A file that a client sends."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Upload"]


@dataclass(frozen=True)
class Upload:
    """A file of a form."""

    body: bytes
    """Its content."""
    filename: str = ""
    """As the client calls it: to be shown, not to be opened."""
    media_type: str = "application/octet-stream"
    """What the client says that it is."""
