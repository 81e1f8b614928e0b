"""No text makes a regular expression of ours slow: each takes linear time, judged from its automaton."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from pattern_ambiguity import pumped

import paddleinfer
import paddleinfer.shim

FOLDERS = [Path(module.__file__).parent for module in (paddleinfer, paddleinfer.shim)]
# Whatever is not named here looks for the pattern everywhere.
ANCHORED = {"fullmatch": "fullmatch", "match": "match", "compile": "compile"}


def patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes], str]]:
    """(where, pattern, method) of every one that is written in our code."""
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            yield from patterns_of(path)


def patterns_of(path: Path) -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes], str]]:
    tree = ast.parse(path.read_text())
    methods: dict[str, set[str]] = defaultdict(set)
    names: dict[ast.expr, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            methods[node.value.id].add(ANCHORED.get(node.attr, "search"))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.value] = node.targets[0].id
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            names[node.value] = node.target.id
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re"):
            continue
        pattern = eval(compile(ast.Expression(re_compiled(node)), str(path), "eval"), {"re": re})
        where = f"{path.name}:{node.lineno}"
        method = ANCHORED.get(node.func.attr, "search")
        of_name = methods[names[node]] if node in names else set()
        for one in sorted(of_name) if method == "compile" else [method]:
            yield where, pattern, one
        assert method != "compile" or of_name, f"{where}: a pattern needs a name, and a use in its file"


def re_compiled(call: ast.Call) -> ast.Call:
    """The same pattern with its flags, of a call of any function of re."""
    flags = [word for word in call.keywords if word.arg == "flags"]
    takes_flags = call.func.attr == "compile" if isinstance(call.func, ast.Attribute) else False
    further = call.args[1:] if takes_flags else []
    compiled = ast.parse("re.compile()", mode="eval").body
    assert isinstance(compiled, ast.Call)
    compiled.args, compiled.keywords = [call.args[0], *further], flags
    return ast.fix_missing_locations(compiled)


FOUND = list(patterns())


@pytest.mark.parametrize(
    ("pattern", "method"), [it[1:] for it in FOUND], ids=[f"{where}-{method}" for where, _, method in FOUND]
)
def test_no_text_makes_a_pattern_slow(pattern: re.Pattern[str], method: str) -> None:
    assert pumped(pattern, method) is None


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"([0-9]+\.?[0-9]*|\.[0-9]+)x", "fullmatch"),
        (r"(a|aa)+b", "match"),
        (r"a+b", "search"),
        (r"\s*\(at", "search"),
        (rb"(?s)x.*y.*z", "match"),
    ],
)
def test_a_pattern_that_backtracks_is_found(pattern: str | bytes, method: str) -> None:
    assert pumped(re.compile(pattern), method)


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"[0-9]+(\.[0-9]*)?", "fullmatch"),
        (r"a+b", "match"),
        (r"a+", "search"),
        (r"(?m)^[ \t]*\(at", "search"),
    ],
)
def test_a_pattern_that_does_not_is_not(pattern: str, method: str) -> None:
    assert pumped(re.compile(pattern), method) is None
