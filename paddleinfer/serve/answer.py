"""What a service answers, where its value alone would not say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer"]


@dataclass(frozen=True)
class Answer:
    """An answer that says how it is to be sent, where its value alone would not.

    Without it the server sends bytes as they are, text as text, and everything else as JSON.
    """

    value: Any
    """What is answered: bytes, text, or what JSON can say, NumPy's arrays and numbers included."""
    media_type: str | None = None
    """None: by the value."""
    status: int = 200
    """Of HTTP."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further ones, of HTTP."""
