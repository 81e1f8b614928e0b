"""CI runs the checks by the same commands that run them here."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def recipe(target: str) -> str:
    """The commands of a target of the Makefile."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_workflow_runs_what_continuous_integration_runs() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    commands = re.findall(r"run: (.*?)(?:  #.*)?$", workflow, re.MULTILINE)
    assert ".ci/run" in commands and os.access(ROOT / ".ci/run", os.X_OK)
    targets = [command.removeprefix("make ") for command in commands if command.startswith("make ")]
    assert targets and all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in targets)


def test_the_hooks_before_a_commit_are_the_tools_of_make_lint() -> None:
    entries = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    tools = {re.findall(r"\.venv/bin/([\w-]+)", entry)[-1] for entry in entries}
    assert tools == {"ruff", "clang-format", "cython-lint", "mypy"}
    assert all(tool in recipe("lint") for tool in tools)


def test_the_site_is_built_strictly_and_by_continuous_integration() -> None:
    assert "mkdocs build --strict" in recipe("docs")
    assert re.search(r"^ci-more:(?:.*\\\n)*.*\bdocs\b", MAKEFILE, re.MULTILINE)


def test_the_changelog_names_what_each_entry_is_about_under_its_readers() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    version = text.partition("\n## [")[2].partition("\n## [")[0]
    headings = re.findall(r"^### (.*)$", version, re.MULTILINE)
    assert headings and all(heading.startswith("For ") for heading in headings)
    entries = re.findall(r"^- (.*)$", version, re.MULTILINE)
    assert entries and all(entry.startswith("**") for entry in entries)
