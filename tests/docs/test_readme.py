"""The README: its example runs, its links lead somewhere, its picture shows the present figures."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.paddle3
def test_the_first_example_runs_as_it_stands(tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fetch_name_0") == 5 and (tmp_path / "model_dir").is_dir()


@pytest.fixture(scope="module")
def picture() -> Any:
    """The script that draws the README's picture."""
    spec = importlib.util.spec_from_file_location("readme_picture", ROOT / "benchmarks/readme_picture.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # where dataclasses look their types up
    spec.loader.exec_module(script)
    return script


def test_the_picture_shows_the_figures_as_the_page_has_them(picture: Any) -> None:
    now = [picture.bars(panel, picture.FIGURES.read_text()) for panel in picture.PANELS]
    assert picture.drawn() == now, "draw it again: python -m benchmarks.readme_picture"


def test_a_figure_that_is_not_in_the_page_is_missed(picture: Any) -> None:
    text = picture.FIGURES.read_text().replace("| Ray Serve |", "| Ray |")
    with pytest.raises(LookupError, match="has no row for 'Ray Serve'"):
        picture.bars(picture.PANELS[1], text)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_to_files_and_headings_that_exist(page: str) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", (ROOT / page).read_text()):
        path, _, anchor = target.partition("#")
        assert (ROOT / path).is_file(), f"{page} links to {target}"
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text() if anchor else "", re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, f"{page} links to {target}"
