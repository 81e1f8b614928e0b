"""Every name that the documentation imports exists."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def imports_of(page: Path) -> list[ast.ImportFrom]:
    """Those of paddleinfer in the page's Python."""
    blocks = re.findall(r"^( *)```python[^\n]*\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.strip() for _, block in blocks for line in block.splitlines()]
    found = [
        ast.parse(line).body[0] for line in lines if re.match(r"from paddleinfer\S* import [^(]+$", line)
    ]
    return [node for node in found if isinstance(node, ast.ImportFrom)]


@pytest.mark.parametrize("page", [page for page in PAGES if imports_of(page)], ids=lambda page: page.name)
def test_every_import_of_a_page_works(page: Path) -> None:
    for node in imports_of(page):
        module = importlib.import_module(node.module or "")
        for alias in node.names:
            assert hasattr(module, alias.name), f"{page.name}: {ast.unparse(node)}"
