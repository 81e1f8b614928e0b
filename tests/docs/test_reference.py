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

from paddleinfer import Engine, InferInfo, _ext
from paddleinfer.cli.main import COMMANDS
from paddleinfer.config import option_names
from paddleinfer.metrics import exposition
from paddleinfer.options.flags import engine_flags, flags_of
from paddleinfer.shim import create_app
from paddleinfer.shim.options import ServerOptions

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs"
MODULES = ("", ".metrics", ".otel", ".serve", ".serving", ".shim", ".simulation", ".testing", ".tracing")


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


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.from_callable(lambda feeds: feeds["x"], {"x": ("float32", (-1, 1))}, ["y"]) as opened:
        yield opened


@pytest.mark.parametrize("module", [f"paddleinfer{name}" for name in MODULES])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    shown = {
        name
        for page in (PAGES / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    }
    names = {f"{module}.{name}" for name in importlib.import_module(module).__all__ if name[0] != "_"}
    assert names <= shown


def test_every_option_is_in_the_reference_and_no_other() -> None:
    assert set(first_cells((PAGES / "options.md").read_text())) == set(option_names())


def test_every_key_of_the_statistics_is_in_the_reference_and_no_other(engine: Engine) -> None:
    assert sorted(first_cells((PAGES / "reference/stats.md").read_text())) == sorted(engine.stats())


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
    assert sorted(reasons) == sorted(_ext.DISPATCH_REASONS)


def test_every_metric_is_in_the_reference(engine: Engine) -> None:
    scraped = re.findall(r"^# TYPE (\S+)", exposition({"model": engine}).decode(), re.MULTILINE)
    assert scraped and set(scraped) <= set(first_cells(expanded("reference/metrics.md")))


def test_every_sub_command_is_in_the_reference_with_its_options() -> None:
    text = expanded("reference/command-options.md")
    for name in COMMANDS:
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
    assert pages == set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))
