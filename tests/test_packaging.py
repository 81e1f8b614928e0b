"""The package as a whole: its lazy imports, its version, its stubs, what a wheel holds."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import paddleinfer
from paddleinfer import _ext, errors

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(paddleinfer.__file__).parent


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = {"paddle", "numpy", "starlette", "uvicorn", "pytest", "grpc", "opentelemetry", "paddleinfer._ext"}
    code = f"import sys, paddleinfer; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert len((PACKAGE / "__init__.py").read_text().splitlines()) <= 40


def test_every_public_name_resolves() -> None:
    for name in paddleinfer.__all__:
        assert getattr(paddleinfer, name) is not None
    assert callable(paddleinfer.export) and set(paddleinfer.__all__) <= set(dir(paddleinfer))
    with pytest.raises(AttributeError, match="no attribute 'Enginge'"):
        paddleinfer.Enginge  # noqa: B018


def test_every_error_is_public() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__), "paddleinfer/errors.py lists its errors in __all__"
    assert defined <= set(paddleinfer.__all__)


def test_the_version_is_the_newest_heading_of_the_changelog() -> None:
    headings = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == paddleinfer.__version__


def names_in_stub(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Name -> what is inside, for a class."""
    names: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names[node.name] = node.body if isinstance(node, ast.ClassDef) else []
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = []
    return names


def test_the_stub_names_what_the_compiled_core_has() -> None:
    stub = names_in_stub(ast.parse((PACKAGE / "_ext.pyi").read_text()).body)
    foreign = {
        name for name, value in vars(_ext).items() if not getattr(value, "__module__", "x").endswith("_ext")
    }
    for name in set(vars(_ext)) - foreign:
        assert name in stub or name.startswith("_"), f"paddleinfer/_ext.pyi lacks _ext.{name}"
    for name, inside in stub.items():
        value = getattr(_ext, name, None)
        assert value is not None or name == "Array", f"paddleinfer/_ext.pyi has {name}, and _ext has not"
        for member in names_in_stub(inside):
            assert hasattr(value, member) or member in (
                "exc_type",
                "exc_value",
                "exc_traceback",
                "err_msg",
                "object",
            )


def test_types_are_what_the_examples_say() -> None:
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "tests/typing_examples.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = (ROOT / "tests/typing_examples.py").read_text().splitlines()
    revealed = re.findall(r'(\d+): note: Revealed type is "(.*)"', done.stdout)
    expected = [
        (str(number), line.split("# ")[1]) for number, line in enumerate(lines, 1) if "reveal_type(" in line
    ]
    assert revealed == expected, done.stdout
    errors = dict(re.findall(r"(\d+): error: (.*)", done.stdout))
    wrong = {
        str(number): line.split("# error: ")[1] for number, line in enumerate(lines, 1) if "# error: " in line
    }
    assert wrong and errors.keys() == wrong.keys(), done.stdout
    assert all(errors[number].startswith(sentence) for number, sentence in wrong.items()), done.stdout


def test_a_wheel_holds_the_package_and_an_sdist_the_sources(tmp_path: Path) -> None:
    if PACKAGE.parent != ROOT or not (ROOT / "setup.py").exists():
        pytest.skip("runs from a checkout only")
    listed = ["git", "ls-files", "paddleinfer", "shim", "_ext"]
    tree = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    build = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(tmp_path / "build")]
    quick = {**os.environ, "PADDLEINFER_DEBUG": "1"}  # what is in the wheel does not depend on it
    done = subprocess.run(
        [*build, "bdist_wheel", "--dist-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, check=False, env=quick,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    held = {
        name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")
    }
    compiled = {name for name in held if name.endswith(".so")}
    assert len(compiled) == 1
    in_wheel = {re.sub("^shim/", "paddleinfer/shim/", name) for name in tree if not name.startswith("_ext/")}
    assert not held - compiled - in_wheel, "git add what is new, or keep it out of the wheel"
    assert not in_wheel - held, "the wheel lacks files: see packages and package_data in setup.py"
    source = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    done = subprocess.run(
        [*source, "sdist", "--dist-dir", str(tmp_path)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
    assert set(tree) <= packed and not {name for name in packed if name.startswith("tests/")}
    linked = re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / "README.md").read_text())
    assert linked and set(linked) <= packed


def test_nothing_that_is_committed_names_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    # But for where the server is in an image, and models are in KServe.
    places = re.compile(r"(?<![\w./])/(home|root|work|tmp|mnt|opt)/(?!(paddleinfer|models)\b)")
    for name in tracked.stdout.split():
        if (
            name.endswith((".png", ".json"))
            or name == "tests/test_packaging.py"
            or not (ROOT / name).exists()
        ):
            continue
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            assert not places.search(line), f"{name}:{number}: {line.strip()}"
