"""Programs from outside Python that some tests drive; ``make system-tools`` installs them."""

from __future__ import annotations

import shutil

import pytest


def need(program: str, package: str) -> str:
    """The program's path; without it the test is skipped, which fails under CI."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not there; it comes with Debian's package {package} (make system-tools)")
    return path
