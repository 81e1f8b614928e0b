"""The layers: each folder imports only from those before it, in Python and in C++."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import paddleinfer
import paddleinfer.shim

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(paddleinfer.__file__).parent
SHIM = Path(paddleinfer.shim.__file__).parent

# Folders and modules, in the order that they stand in. Those of one line do not import each other.
LAYERS = (
    ("_version", "lazy_exports", "sentences", "stages", "weighted_turns"),
    ("explanation",),
    ("errors",),
    ("config", "whole_files", "child_process"),
    ("options", "models"),
    ("_ext", "resolved_options"),
    ("tracing", "backends", "virtual_clock", "traffic"),
    ("diagnosis",),
    ("engine",),
    ("metrics", "otel", "serve", "simulation", "demo", "testing", "inference", "tuning"),
    ("ocr", "paddlex", "rapidocr", "ray", "serving"),
    ("cli", "pytest_plugin"),
    ("__main__",),
)
MAY_IMPORT_PADDLE = ("backends/paddle/", "demo/")

# Of the server, in ``shim/``; of the package only these import it.
IMPORT_THE_SERVER = {"serving/http_server.py", "ray/http.py", "ray/grpc.py"}
SHIM_LAYERS = (
    ("protocol",),
    ("service",),
    ("options", "settings_file"),
    ("sockets",),
    ("http", "grpc"),
    ("server",),
    ("cli",),
    ("entry",),
    ("__main__",),
)
KNOW_UVICORN = {"http/connection.py", "server.py"}

# Folders of _ext/. The scheduler knows requests alone: engine, simulation and tests drive the same one.
CORE_LAYERS = (
    "requests",
    "scheduling",
    "simulation",
    "running",
    "paddle",
    "onnxruntime",
    "openvino",
    "binding",
)


def numbers_of(layers: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {name: number for number, layer in enumerate(layers) for name in layer}


def sources(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Name below the root, and the code."""
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text())


def imports_of(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The dotted names that the code imports, wherever in the file, but for type checking only.

    ``package`` is where relative imports begin.
    """
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(inner for part in node.body for inner in ast.walk(part))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = base + tuple((node.module or "").split(".")) if node.module else base
            for alias in node.names:
                yield (*module, alias.name)


def layer_of(name: str) -> str:
    """The folder or module below the root that a file belongs to."""
    return name.split("/", maxsplit=1)[0].removesuffix(".py")


@pytest.mark.parametrize(
    ("root", "package", "layers"),
    [(PACKAGE, "paddleinfer", LAYERS), (SHIM, "shim", SHIM_LAYERS)],
    ids=["package", "server"],
)
def test_every_folder_has_a_layer_and_imports_from_earlier_ones_only(
    root: Path, package: str, layers: tuple[tuple[str, ...], ...]
) -> None:
    numbers = numbers_of(layers)
    for name, tree in sources(root):
        if name == "__init__.py":  # the public names, imported when they are first asked for
            continue
        own = layer_of(name)
        assert own in numbers, (
            f"{name} is in no layer: give {own} one in this file, and a place in docs/architecture.md"
        )
        for imported in imports_of(tree, (package, *name.split("/")[:-1])):
            if imported[0] != package or len(imported) < 2 or imported[1] not in numbers:
                continue
            other = imported[1]
            assert other == own or numbers[other] < numbers[own], (
                f"{name} must not import {'.'.join(imported)}: {other} is in no layer before that of {own}"
            )


def test_of_paddle_servings_classes_the_server_imports_the_formats_alone() -> None:
    for name, tree in sources(SHIM):
        for imported in imports_of(tree, ("shim", *name.split("/")[:-1])):
            if imported[:2] == ("paddleinfer", "serving"):
                assert imported[2] == "formats", f"{name} must not import {'.'.join(imported)}"
    for name, tree in sources(PACKAGE / "serving/formats"):
        for imported in imports_of(tree, ("paddleinfer", "serving", "formats")):
            beside = imported[:2] == ("paddleinfer", "serving") and imported[2] != "formats"
            assert not beside, f"{name} must not import {'.'.join(imported)}"


def test_of_the_package_three_modules_alone_import_the_server() -> None:
    for name, tree in sources(PACKAGE):
        imports = any(
            imported[:2] == ("paddleinfer", "shim") for imported in imports_of(tree, ("paddleinfer",))
        )
        assert imports == (name in IMPORT_THE_SERVER), name


def test_the_server_imports_itself_relatively_and_uvicorn_in_two_places() -> None:
    for name, tree in sources(SHIM):
        imported = list(imports_of(tree, ("shim", *name.split("/")[:-1])))
        assert all(names[:2] != ("paddleinfer", "shim") for names in imported), name
        assert (name in KNOW_UVICORN) == any(names[0] == "uvicorn" for names in imported), name


def test_paddle_is_imported_inside_functions_of_two_folders_only() -> None:
    for name, tree in sources(PACKAGE):
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                at_top = imports_of(ast.Module([node], []), ("paddleinfer",))
                assert all(names[0] != "paddle" for names in at_top), f"{name} imports paddle at its top"
        if any(names[0] == "paddle" for names in imports_of(tree, ("paddleinfer",))):
            assert name.startswith(MAY_IMPORT_PADDLE), f"{name} must not import paddle"


def test_every_folder_says_what_lives_there_and_what_it_may_import() -> None:
    for root in (PACKAGE, SHIM):
        for folder in sorted(path for path in root.iterdir() if (path / "__init__.py").exists()):
            text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
            assert "May import:" in text, f"{folder}/__init__.py says what lives there, and 'May import: ...'"


def test_the_core_imports_errors_and_sentences_only() -> None:
    text = (ROOT / "_ext/binding/_ext.pyx").read_text()
    imported = re.findall(r"^\s*(?:from|c?import) paddleinfer\S*", text, re.MULTILINE)
    assert [line.strip() for line in imported] == ["from paddleinfer.errors", "from paddleinfer.sentences"]


def test_headers_of_the_core_include_from_earlier_folders_only() -> None:
    for path in sorted((ROOT / "_ext").rglob("*.h")):
        own = CORE_LAYERS.index(path.parent.name)
        for folder in re.findall(r'#include "(\w+)/', path.read_text()):
            assert CORE_LAYERS.index(folder) <= own, f"{path.name} must not include from {folder}/"


def test_the_scheduler_does_not_see_how_threads_sleep() -> None:
    core = ROOT / "_ext"
    reached = set((core / "scheduling").glob("*.h"))
    todo = list(reached)
    while todo:
        for name in re.findall(r'#include "(\w+/\w+\.h)"', todo.pop().read_text()):
            if core / name not in reached:
                reached.add(core / name)
                todo.append(core / name)
    assert core / "requests/request.h" in reached
    assert core / "requests/parker.h" not in reached, "a header of the scheduler includes the futex"


def modules_below(root: Path) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, also for type checking only."""
    trees = {name.removesuffix(".py").replace("/", "."): tree for name, tree in sources(root)}
    imported: dict[str, set[str]] = {}
    for name, tree in trees.items():
        names = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        dotted = {
            f"{node.module}.{alias.name}".removeprefix("paddleinfer.")
            for node in names
            for alias in node.names
        }
        dotted |= {str(node.module).removeprefix("paddleinfer.") for node in names}
        imported[name] = {other for other in dotted if other in trees and other != name}
    return imported


# Modules of one folder that may know each other, for a reason.
KNOW_EACH_OTHER = (
    {"engine.calls", "engine.observers"},  # observed calls are the calls, observed
    {"engine.engine", "engine.load_trial"},  # a trial opens an engine in another process
    {"engine.futures", "engine.greenlets"},  # a future wakes its greenlet's hub, which settles futures
)


def test_no_two_modules_of_a_folder_import_each_other() -> None:
    imported = modules_below(PACKAGE)
    circles = {
        frozenset((name, other))
        for name, others in imported.items()
        for other in others
        if name in imported[other]
    }
    assert circles == {frozenset(pair) for pair in KNOW_EACH_OTHER}
