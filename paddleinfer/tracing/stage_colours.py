"""Defines the colour of each stage, for pictures and for a server's page.

No two of them look alike, even to colour-blind eyes, and dark text is readable on each of them, on a light or
a dark page.
"""

from __future__ import annotations

from typing import Final

__all__ = ["STAGE_COLOURS"]

STAGE_COLOURS: Final = {
    "http request": "#83877f",
    "receive": "#f7db6c",
    "decode": "#1393b1",
    "infer": "#c4ab23",
    "encode": "#fbaa82",
    "send": "#b4e5ec",
    "service request": "#bd75d0",
    "wait": "#bc6a51",
    "preprocess": "#a264d8",
    "handle": "#ef31ab",
    "postprocess": "#cc2cff",
    "request": "#a0a2b5",
    "submit": "#3ad4fe",
    "queue": "#e2c63d",
    "hold": "#dd733b",
    "gather": "#00baed",
    "run": "#68a871",
    "scatter": "#3e9ff2",
    "deliver": "#7df4af",
    "batch": "#abc3be",
}
"""Stage -> colour, in the order in which a request goes through them."""
