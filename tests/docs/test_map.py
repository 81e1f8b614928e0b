"""The map and the glossary: every file and function that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = "_ext|benchmarks|deploy|docs|paddleinfer|shim|tests"


def named(page: str) -> list[tuple[str, str]]:
    """Paths in backticks, each with the function or class after its colon, or nothing."""
    text = (ROOT / page).read_text()
    return re.findall(rf"`((?:{FOLDERS})/[\w./-]*)(?::(\w+))?`", text)


def defines(path: Path, name: str) -> bool:
    """Whether the file has a function or a class of this name."""
    text = path.read_text()
    if path.suffix == ".py":
        return re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", text, re.MULTILINE) is not None
    if path.suffix in (".pyx", ".pxi"):
        return re.search(rf"^\s*(?:def|cdef|cpdef)\b.*\b{name}\(", text, re.MULTILINE) is not None
    # A definition is indented by no more than a class's members, and is no statement.
    definition = rf"^(?: {{2}})?(?!return)[\w:<>,*&\[\] ]+ {name}\(.*[{{}},]$"
    return re.search(definition, text, re.MULTILINE) is not None


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/glossary.md", "CONTRIBUTING.md"])
def test_every_file_and_function_that_a_page_names_exists(page: str) -> None:
    places = [(path, name) for path, name in named(page) if "NAME" not in path]
    assert places
    missing = [path for path, _ in places if not (ROOT / path).exists()]
    missing += [
        f"{path}:{name}"
        for path, name in places
        if name and (ROOT / path).is_file() and not defines(ROOT / path, name)
    ]
    assert not missing


@pytest.mark.parametrize(
    ("file", "name", "there"),
    [
        ("paddleinfer/lazy_exports.py", "lazy_exports", True),
        ("paddleinfer/__init__.py", "import_module", False),  # it is called there
        ("_ext/scheduling/scheduler.h", "admit", True),
        ("_ext/scheduling/scheduler.h", "max", False),
    ],
)
def test_a_function_is_found_where_it_is_defined_only(file: str, name: str, there: bool) -> None:
    assert defines(ROOT / file, name) is there


def test_the_ten_changes_of_a_newcomer_are_in_the_map() -> None:
    text = (ROOT / "docs/architecture.md").read_text().partition("## To change X")[2]
    changes = re.findall(r"^\| (?!to change|---)(.*?) \|", text, re.MULTILINE)
    wanted = ("batch sizing", "option", "route", "backend", "metric", "stage", "sub-command", "fixture")
    assert len(changes) == 10
    for word in (*wanted, "benchmark", "error"):
        assert any(word in change for change in changes), word


def test_every_thread_that_has_a_name_is_in_the_map() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    sources = [path.read_text() for name in ("paddleinfer", "shim") for path in (ROOT / name).rglob("*.py")]
    named_threads = {
        name
        for source in sources
        for name in re.findall(r'(?:ThreadPoolExecutor\(\d+, |\bname=)"(paddleinfer-[\w-]+)"', source)
    }
    assert {"paddleinfer-completions", "paddleinfer-long"} <= named_threads
    assert {name for name in named_threads if f"`{name}`" not in text} == set()
