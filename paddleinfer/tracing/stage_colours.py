"""The colour of each stage, in a picture and on a server's page.

No two of them look alike, not to colour-blind eyes either, and dark text can be read on each, on a page
that is light or dark.
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
