"""The server's page at ``/``: one file, nothing fetched from elsewhere."""

from __future__ import annotations

import functools
from importlib import resources

__all__ = ["page"]


@functools.cache
def page() -> str:
    """HTML with its style and script."""
    return resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
