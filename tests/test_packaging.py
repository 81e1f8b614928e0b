"""The package as a whole: its layers, its lazy imports, its version, its stubs, what a wheel holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import paddleinfer
import paddleinfer.shim
from paddleinfer import _ext

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(paddleinfer.__file__).parent
SHIM = Path(paddleinfer.shim.__file__).parent

# Each layer imports from those before it and from its own; a new module has to be placed here.
LAYERS = {
    "errors": ("_version", "errors"),
    "config": ("config", "settings", "flags", "option_values", "interrupts"),
    "timeline": (
        "trace_events",
        "chrome_trace",
        "lanes",
        "stage_colours",
        "trace_document",
        "trace_file",
        "paddle_profile",
        "timeline_summary",
        "timeline_drawing",
    ),
    "model": (
        "model_spec",
        "wire",
        "model_io",
        "model_pir",
        "model_program",
        "model_params",
        "model_discovery",
        "model_version",
        "serving_conf",
        "model",
        "model_replacement",
    ),
    "_ext": ("_ext",),
    "runtime": (
        "processors",
        "paddle_errors",
        "installed_paddle",
        "process_settings",
        "paddle_config",
        "python_driver",
        "runtime",
        "exporting",
    ),
    "engine": (
        "callables",
        "conversion",
        "explanation",
        "padding",
        "futures",
        "lifecycle",
        "streams",
        "warmup",
        "timeline",
        "trace",
        "usual_runs",
        "observed_load",
        "advice",
        "diagnosis",
        "generation",
        "accounts",
        "engine_base",
        "engine",
    ),
    "otel": ("otel_spans", "otel"),
    "metrics": ("metrics",),
    "simulation": ("arrival_processes", "run_times", "simulation_report", "simulation"),
    "demo": ("demo_load", "demo_pictures", "demo"),
    "command": (
        "command_arrays",
        "command_engine",
        "command_output",
        "command_progress",
        "command_load",
        "command_load_inputs",
        "command_load_options",
        "command_trace",
        "command_bench_chart",
        "command_inspect",
        "command_run",
        "command_bench",
        "command_diagnose",
        "command_timeline",
        "command_simulate",
        "command_demo",
        "command",
        "__main__",
    ),
    "pytest_plugin": (
        "fake_predictor",
        "virtual_requests",
        "virtual_runs",
        "virtual_engine",
        "batch_assertions",
        "engine_opener",
        "exported_models",
        "testing",
        "pytest_plugin",
    ),
}
MAY_IMPORT_PADDLE = {"runtime", "demo"}

# Of the server, in ``shim/``; the package never imports it.
SHIM_LAYERS = (
    ("datatypes", "errors", "body", "latencies", "grpc_messages", "grpc_status"),
    ("request_checks", "infer_request", "infer_response", "stage_log", "models", "request_spans"),
    ("binary_costs", "inference", "describe", "service", "watch", "load_request", "looking"),
    ("repository", "grpc_calls", "grpc_tensors", "grpc_infer", "grpc_health", "grpc_reflection"),
    ("grpc_service",),
    ("openapi", "page", "direct", "app"),
    ("telemetry", "server_options", "settings_file", "listener", "http_protocol", "grpc_server", "server"),
    ("cli", "__main__"),
)
KNOW_UVICORN = {"http_protocol", "server"}


def layer_numbers() -> dict[str, int]:
    return {module: number for number, modules in enumerate(LAYERS.values()) for module in modules}


def imported_modules(tree: ast.AST) -> set[str]:
    """Modules of paddleinfer that the code imports, wherever in the file, but for type checking only."""
    names: set[str] = set()
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(ast.walk(node))
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "paddleinfer":
            inside = (node.module or "").split(".")[1:]
            names.update(inside[:1] or [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            names.update(part[1] for part in parts if part[0] == "paddleinfer" and len(part) > 1)
    return names


def test_every_module_has_a_layer_and_imports_from_earlier_ones_only() -> None:
    numbers = layer_numbers()
    for path in sorted(PACKAGE.glob("*.py")):
        if path.stem == "__init__":
            continue
        assert path.stem in numbers, f"place {path.name} in LAYERS"
        for name in imported_modules(ast.parse(path.read_text())):
            assert numbers[name] <= numbers[path.stem], f"{path.name} must not import {name}"


def relative_modules(tree: ast.AST) -> set[str]:
    """Siblings that the code imports."""
    return {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
    }


def test_every_module_of_the_server_has_a_layer_and_imports_from_earlier_ones_only() -> None:
    numbers = {module: number for number, modules in enumerate(SHIM_LAYERS) for module in modules}
    for path in sorted(SHIM.glob("*.py")):
        if path.stem == "__init__":
            continue
        assert path.stem in numbers, f"place {path.name} in SHIM_LAYERS"
        tree = ast.parse(path.read_text())
        for name in relative_modules(tree):
            assert numbers[name] <= numbers[path.stem], f"{path.name} must not import {name}"
        assert "shim" not in imported_modules(tree), f"{path.name} imports its siblings relatively"
        imported = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
        }
        assert ("uvicorn" in {name.split(".")[0] for name in imported}) == (path.stem in KNOW_UVICORN), (
            path.name
        )


def test_the_package_never_imports_the_server() -> None:
    for path in PACKAGE.glob("*.py"):
        assert "shim" not in imported_modules(ast.parse(path.read_text())), path.name


def test_the_core_imports_errors_only() -> None:
    imported = re.findall(
        r"^\s*(?:from|c?import) paddleinfer\S*", (ROOT / "_ext/_ext.pyx").read_text(), re.MULTILINE
    )
    assert [line.strip() for line in imported] == ["from paddleinfer.errors"]


def test_paddle_is_imported_inside_functions_of_two_layers_only() -> None:
    numbers = layer_numbers()
    allowed = {number for number, layer in enumerate(LAYERS) if layer in MAY_IMPORT_PADDLE}
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text())
        at_top = {id(node) for node in tree.body}
        for node in ast.walk(tree):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            if any(module.split(".")[0] == "paddle" for module in modules):
                assert id(node) not in at_top, f"{path.name} imports paddle at its top"
                assert numbers[path.stem] in allowed, f"{path.name} must not import paddle"


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
    from paddleinfer import errors

    assert set(errors.__all__) <= set(paddleinfer.__all__)


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
        assert name in stub or name.startswith("_"), f"_ext.{name} is missing in the stub"
    for name, inside in stub.items():
        value = getattr(_ext, name, None)
        assert value is not None or name == "Array", f"the stub invents {name}"
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
    revealed = re.findall(r'(\d+): note: Revealed type is "(.*)"', done.stdout)
    expected = [
        (str(number), line.split("# ")[1])
        for number, line in enumerate((ROOT / "tests/typing_examples.py").read_text().splitlines(), 1)
        if "reveal_type(" in line
    ]
    assert revealed == expected, done.stdout
    assert "error:" not in done.stdout, done.stdout


def test_a_wheel_holds_the_package_and_an_sdist_the_sources(tmp_path: Path) -> None:
    if PACKAGE.parent != ROOT or not (ROOT / "setup.py").exists():
        pytest.skip("runs from a checkout only")
    listed = ["git", "ls-files", "paddleinfer", "shim", "_ext"]
    tree = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    build = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(tmp_path / "build")]
    done = subprocess.run(
        [*build, "bdist_wheel", "--dist-dir", str(tmp_path)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    held = {
        name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")
    }
    compiled = {name for name in held if name.endswith(".so")}
    assert len(compiled) == 1
    in_wheel = {re.sub("^shim/", "paddleinfer/shim/", name) for name in tree if not name.startswith("_ext/")}
    assert held - compiled == in_wheel
    source = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    done = subprocess.run(
        [*source, "sdist", "--dist-dir", str(tmp_path)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
    assert set(tree) <= packed and not {name for name in packed if name.startswith("tests/")}


def test_nothing_that_is_committed_names_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    places = re.compile(r"(?<![\w./])/(home|root|work|tmp|mnt|opt)/")
    for name in tracked.stdout.split():
        if (
            name.endswith((".png", ".json"))
            or name == "tests/test_packaging.py"
            or not (ROOT / name).exists()
        ):
            continue
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            assert not places.search(line), f"{name}:{number}: {line.strip()}"
