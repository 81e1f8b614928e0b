"""The engine takes its place under packages that are made as RapidOCR's, and gives it back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

from paddleinfer import ConfigError, rapidocr
from paddleinfer.backends.paddle.installed import import_paddle

SESSION = """
from paddle import inference

class PaddleInferSession:
    def __init__(self, directory):
        config = inference.Config(directory)
        config.disable_gpu()
        self.predictor = inference.create_predictor(config)
"""
PLACES = {"rapidocr": "inference_engine/paddle/main.py", "rapidocr_paddle": "utils/infer_engine.py"}
X = np.ones((1, 16), "float32")


class Packages:
    """Packages of RapidOCR's names that a test puts on the path."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, package: str, version: str, code: str = SESSION) -> None:
        file = self._root / package / PLACES[package]
        file.parent.mkdir(parents=True)
        for folder in [file.parent, *file.parent.parents]:
            if folder == self._root:
                break
            (folder / "__init__.py").touch()
        file.write_text(code)
        metadata = self._root / f"{package}-{version}.dist-info/METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        importlib.invalidate_caches()

    def module(self, package: str) -> Any:
        return importlib.import_module(f"{package}/{PLACES[package]}"[:-3].replace("/", "."))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """None of the packages, whatever is installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] in PLACES]:
        monkeypatch.delitem(sys.modules, name)
    find_spec = importlib.util.find_spec
    local = str(tmp_path)

    def found_here(name: str, package: str | None = None) -> Any:
        spec = find_spec(name, package)
        foreign = spec is not None and name in PLACES and not str(spec.origin).startswith(local)
        return None if foreign else spec

    monkeypatch.setattr(importlib.util, "find_spec", found_here)
    monkeypatch.syspath_prepend(local)
    yield Packages(tmp_path)
    rapidocr._installed.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in PLACES]:
        del sys.modules[name]


def test_sessions_run_on_shared_engines_until_it_is_taken_back(packages: Packages, zoo: Zoo) -> None:
    packages.put("rapidocr", "3.10.0")
    packages.put("rapidocr_paddle", "1.4.5")
    directory = str(zoo.directory("mlp", zoo.formats[0]))
    assert rapidocr.install(instances=1) == ("rapidocr 3.10.0", "rapidocr_paddle 1.4.5")
    made = [
        packages.module(name).PaddleInferSession(directory).predictor for name in PLACES for _ in range(2)
    ]
    assert len({id(predictor.engine) for predictor in made}) == 1
    assert made[0].engine.effective_config()["instances"]["value"] == 1
    rapidocr.install(instances=2)
    other = packages.module("rapidocr").PaddleInferSession(directory).predictor
    assert other.engine.effective_config()["instances"]["value"] == 2
    rapidocr.uninstall()
    for name in PLACES:
        assert packages.module(name).inference is import_paddle().inference
    assert made[0].run([X])[0].shape == (1, 4)
    for predictor in (*made, other):
        predictor.close()


def test_both_may_be_called_again(packages: Packages) -> None:
    packages.put("rapidocr", "3.0.0")
    rapidocr.uninstall()
    for _ in range(2):
        assert rapidocr.install() == ("rapidocr 3.0.0",)
    for _ in range(2):
        rapidocr.uninstall()
    assert packages.module("rapidocr").inference is import_paddle().inference


def test_without_a_package_the_sentence_says_how_to_get_one(packages: Packages) -> None:
    with pytest.raises(
        ConfigError, match="neither rapidocr nor rapidocr_paddle is installed; install one with pip install"
    ):
        rapidocr.install()


@pytest.mark.parametrize(
    ("package", "version", "code", "says"),
    [
        ("rapidocr", "4.0.0", SESSION, "rapidocr 4.0.0 is not known; rapidocr 3 and rapidocr_paddle 1.4 are"),
        ("rapidocr_paddle", "1.3.25", SESSION, "rapidocr_paddle 1.3.25 is not known"),
        (
            *("rapidocr", "3.11.0", "class Session: ..."),
            "rapidocr.inference_engine.paddle.main has no PaddleInferSession and no inference",
        ),
        ("rapidocr", "3.11.0", "import nowhere_to_be_found", "cannot be imported: No module named"),
    ],
)
def test_what_is_not_known_is_refused_in_a_sentence(
    packages: Packages, package: str, version: str, code: str, says: str
) -> None:
    packages.put(package, version, code)
    with pytest.raises(ConfigError, match=says):
        rapidocr.install()
    assert not rapidocr._installed


def test_a_wrong_option_is_refused_before_anything_is_changed(packages: Packages) -> None:
    packages.put("rapidocr", "3.10.0")
    with pytest.raises(ConfigError, match="there is no option 'instance'"):
        rapidocr.install(instance=1)  # type: ignore[call-arg]
    assert packages.module("rapidocr").inference is import_paddle().inference


def test_what_was_put_there_since_is_left_and_named(packages: Packages) -> None:
    packages.put("rapidocr", "3.10.0")
    rapidocr.install()
    packages.module("rapidocr").inference = None
    for change in (rapidocr.install, rapidocr.uninstall):
        with pytest.raises(
            ConfigError, match=r"inference in rapidocr\.inference_engine\.paddle\.main was rep"
        ):
            change()
