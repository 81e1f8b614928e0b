"""The benchmarks start parts of themselves as processes, and all of these parts exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
STARTING = ("child", "Helper", "__init__")
WRITTEN = r"python -m benchmarks\.([\w.]*\w)"


def started(path: Path) -> set[str]:
    """The modules below ``benchmarks`` that a file starts."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", None))
        if called in STARTING and isinstance(node.args[0].value, str):
            names.add(node.args[0].value)
    return names


def assert_runs(module: str, where: Path) -> None:
    path = BENCHMARKS / f"{module.replace('.', '/')}.py"
    assert path.exists(), f"{where.relative_to(ROOT)} starts benchmarks.{module}, which is not there"
    assert 'if __name__ == "__main__":' in path.read_text(), f"benchmarks.{module} does nothing when started"


def test_every_module_that_a_benchmark_starts_is_there() -> None:
    found = {path: started(path) for path in BENCHMARKS.rglob("*.py")}
    assert set().union(*found.values()) >= {"callers.report", "http.stages", "overload.variants"}
    for path, modules in found.items():
        for module in modules:
            assert_runs(module, path)


def test_every_command_line_that_is_written_down_starts_a_module() -> None:
    texts = [
        ROOT / "Makefile",
        *BENCHMARKS.rglob("*.py"),
        *BENCHMARKS.rglob("*.md"),
        *ROOT.glob("docs/**/*.md"),
    ]
    found = [(path, module) for path in texts for module in re.findall(WRITTEN, path.read_text())]
    assert found
    for path, module in found:
        assert_runs(module, path)


def test_every_benchmark_is_in_their_readme() -> None:
    text = (BENCHMARKS / "README.md").read_text()
    for path in BENCHMARKS.glob("bench_*.py"):
        assert f"python -m benchmarks.{path.stem}" in text, f"benchmarks/README.md lacks {path.stem}"
