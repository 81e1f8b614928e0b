"""The reference has every public name, option, key, reason, metric, command, flag and route there is."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddleinfer import Engine, InferInfo, _ext, errors
from paddleinfer.cli.main import COMMANDS
from paddleinfer.config import option_names
from paddleinfer.metrics import exposition
from paddleinfer.options.flags import engine_flags, flags_of
from paddleinfer.shim import create_app
from paddleinfer.shim.options import ServerOptions

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs"
MODULES = (
    *(
        "",
        ".inference",
        ".metrics",
        ".ocr",
        ".otel",
        ".rapidocr",
        ".ray",
        ".serve",
        ".serving",
        ".shim",
        ".simulation",
    ),
    *(".testing", ".tracing"),
)


def expanded(page: str) -> str:
    """The page as mkdocs gets it, with the tables that the code writes."""
    spec = importlib.util.spec_from_file_location("tables", PAGES / "hooks/tables.py")
    assert spec is not None and spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text: str = tables.expanded((PAGES / page).read_text())
    return text


def first_cells(text: str) -> list[str]:
    """What stands in backticks in the first cells of a page's tables."""
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(.*?)`", cell)]


def section(page: str, heading: str) -> str:
    """What stands under a heading of the second level."""
    return (PAGES / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def assert_told(told: set[str], there: set[str], where: str) -> None:
    assert not there - told, f"{where} does not tell of {', '.join(sorted(there - told))}"
    assert not told - there, f"{where} tells of {', '.join(sorted(told - there))}, which there is not"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.from_callable(lambda feeds: feeds["x"], {"x": ("float32", (-1, 1))}, ["y"]) as opened:
        yield opened


@pytest.mark.parametrize("module", [f"paddleinfer{name}" for name in MODULES])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    shown = {
        name
        for page in (PAGES / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", expanded(f"reference/{page.name}"), re.MULTILINE)
    }
    names = {f"{module}.{name}" for name in importlib.import_module(module).__all__ if name[0] != "_"}
    assert names <= shown, f"put ::: {' and ::: '.join(sorted(names - shown))} into a page of docs/reference/"


def test_every_option_is_in_the_reference_and_no_other() -> None:
    assert_told(set(first_cells((PAGES / "options.md").read_text())), set(option_names()), "docs/options.md")


def test_every_key_of_the_statistics_is_in_the_reference_and_no_other(engine: Engine) -> None:
    keys = first_cells((PAGES / "reference/stats.md").read_text())
    assert_told(set(keys), set(engine.stats()), "docs/reference/stats.md")
    assert len(keys) == len(set(keys))


def test_every_field_of_an_infer_info_has_a_text_that_the_reference_shows() -> None:
    (described,) = ast.parse(inspect.getsource(InferInfo)).body
    assert isinstance(described, ast.ClassDef)
    with_text = {
        ast.unparse(field.target)
        for field, text in zip(described.body, described.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    assert {field.name for field in dataclasses.fields(InferInfo)} <= with_text
    assert "::: paddleinfer.InferInfo\n" in (PAGES / "reference/infer-info.md").read_text()


def test_every_dispatch_reason_is_in_the_reference_and_no_other() -> None:
    reasons = first_cells((PAGES / "reference/infer-info.md").read_text())
    assert_told(set(reasons), set(_ext.DISPATCH_REASONS), "docs/reference/infer-info.md")
    assert len(reasons) == len(set(reasons))


def test_every_metric_is_in_the_reference(engine: Engine) -> None:
    scraped = re.findall(r"^# TYPE (\S+)", exposition({"model": engine}).decode(), re.MULTILINE)
    assert scraped and set(scraped) <= set(first_cells(expanded("reference/metrics.md")))
    told = {name.partition("{")[0] for name in first_cells(section("server.md", "Metrics"))}
    assert_told(told, set(scraped), "the table under Metrics in docs/server.md")


def test_every_error_is_in_the_guide_and_no_other() -> None:
    told = set(first_cells(section("guide.md", "Errors")))
    there = {name for name in errors.__all__ if name != "PaddleInferError"}
    assert_told(told, there, "the table under Errors in docs/guide.md")


def test_every_fixture_of_the_plugin_is_explained() -> None:
    plugin = ast.parse((ROOT / "paddleinfer/pytest_plugin.py").read_text())
    fixtures = [
        node.name
        for node in plugin.body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(decorator).startswith("pytest.fixture") for decorator in node.decorator_list)
    ]
    assert fixtures
    text = (PAGES / "testing.md").read_text().partition("\n## ")[2]  # after the first examples
    untold = [name for name in fixtures if f"`{name}(" not in text]
    assert not untold, f"docs/testing.md does not say what {', '.join(untold)} gives"


def test_every_sub_command_is_in_the_reference_with_its_options() -> None:
    text = expanded("reference/command-options.md")
    page = (PAGES / "command.md").read_text()
    for name in COMMANDS:
        assert f"\n## {name}\n" in page, f"docs/command.md has no section on {name}"
        assert f"usage: paddleinfer {name}" in text and f"\n## {name}\n" in text
    for flag in (flag for flags in engine_flags().values() for flag in flags):
        assert f"--{flag.spelled.replace('_', '-')}" in text


def test_every_flag_and_route_of_the_server_is_in_the_reference(engine: Engine) -> None:
    names = first_cells(expanded("reference/server.md"))
    assert {f"--{flag.spelled.replace('_', '-')}" for flag in flags_of(ServerOptions)} <= set(names)
    routes = {
        f"{method} {route.path}"
        for route in create_app({"model": engine}).routes
        for method in route.methods - {"HEAD"}
    }
    assert routes <= set(names)


def test_a_table_that_nobody_writes_is_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hooks").symlink_to(PAGES / "hooks")
    (tmp_path / "page.md").write_text("<!-- table: nothing -->\n")
    monkeypatch.setitem(globals(), "PAGES", tmp_path)
    with pytest.raises(KeyError, match="nothing"):
        expanded("page.md")


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    pages = {str(page.relative_to(PAGES)) for page in PAGES.rglob("*.md")}
    assert_told(set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)), pages, "nav in mkdocs.yml")
