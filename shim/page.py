"""The server's page at ``/``: one file, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import resources

from starlette.responses import HTMLResponse

__all__ = ["page"]


@functools.cache
def _page() -> tuple[str, dict[str, str]]:
    html = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    policy = [
        "default-src 'none'",
        f"script-src {_hash_of('script', html)}",
        f"style-src {_hash_of('style', html)}",
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


def _hash_of(element: str, html: str) -> str:
    """What lets a browser run this element of the page and no other."""
    (text,) = re.findall(f"<{element}>(.*?)</{element}>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def page() -> HTMLResponse:
    """HTML with its style and script, which are the only ones that may run in it."""
    html, headers = _page()
    return HTMLResponse(html, headers=headers)
