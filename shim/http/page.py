"""Serves the page at ``/``: one document that fetches nothing from elsewhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from importlib import resources
from typing import Final

from starlette.responses import HTMLResponse

from paddleinfer.stages import STAGE_COLOURS

__all__ = ["page"]

# The last script starts the page; those before it only define.
_SCRIPTS: Final = ("form.js", "live.js", "diagnosis.js", "timeline.js", "trace.js", "page.js")


@functools.cache
def _page() -> tuple[str, dict[str, str]]:
    style = _text("page.css")
    stages = f"const STAGES = {json.dumps(STAGE_COLOURS)};"
    script = "\n".join(['"use strict";', stages, *map(_text, _SCRIPTS)])
    html = _text("page.html")
    for element, text in (("style", style), ("script", script)):
        html = html.replace(f"<{element}></{element}>", f"<{element}>\n{text}</{element}>")
    policy = [
        "default-src 'none'",
        f"script-src {_hash_of(script)}",
        f"style-src {_hash_of(style)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "; ".join(policy),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return html, headers


def _text(name: str) -> str:
    return (resources.files(__package__) / "web" / name).read_text(encoding="utf-8")


def _hash_of(text: str) -> str:
    """Returns the hash that lets a browser run the page's element with this text, and no other."""
    digest = base64.b64encode(hashlib.sha256(f"\n{text}".encode()).digest()).decode()
    return f"'sha256-{digest}'"


def page() -> HTMLResponse:
    """Returns HTML with its style and script, which are the only ones that may run in it."""
    html, headers = _page()
    return HTMLResponse(html, headers=headers)
