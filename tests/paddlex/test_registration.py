"""The engine is registered where PaddleX's registry is a known one, and else refused in a sentence."""

from __future__ import annotations

import importlib
import logging

import pytest
from paddlex_double import MODELS, Binding, LocalModelPredictor, PaddleXDouble, RunnerEngine

from paddleinfer.errors import PaddleInferError


def imported() -> None:
    importlib.import_module("paddleinfer.paddlex")


def refused(double: PaddleXDouble, version: str = "3.7.2") -> str:
    with double.installed(version), pytest.raises(PaddleInferError) as error:
        imported()
    assert all("paddleinfer" not in engines for engines in double.registry.values())
    return str(error.value)


def test_every_model_that_paddle_static_runs_is_bound_but_those_with_a_runner_of_their_own() -> None:
    double = PaddleXDouble()
    with double.installed():
        imported()
        bound = [name for name, engines in double.registry.items() if "paddleinfer" in engines]
        assert bound == ["PP-OCRv5_mobile_rec", "PP-LCNet_x1_0", "UVDoc"]
        assert double.registry["UVDoc"]["paddleinfer"].predictor is LocalModelPredictor
        assert "paddleinfer" in RunnerEngine.all


def test_models_that_come_later_are_bound_by_a_second_registration() -> None:
    double = PaddleXDouble()
    with double.installed():
        package = importlib.import_module("paddleinfer.paddlex")
        double.registry["new_rec"] = {"paddle_static": Binding(LocalModelPredictor)}
        package.register()
        assert "paddleinfer" in double.registry["new_rec"]


def test_names_of_engines_that_paddlex_has_kept_are_asked_anew() -> None:
    double = PaddleXDouble()
    with double.installed():
        names = double.modules[MODELS]["_engine_config_bucket_key_allowlist"]
        assert "paddleinfer" not in names()
        imported()
        assert "paddleinfer" in names()


def test_without_paddlex_the_sentence_says_what_installs_it() -> None:
    with PaddleXDouble().installed(""), pytest.raises(ImportError) as error:
        imported()
    assert str(error.value) == (
        "paddleinfer.paddlex needs PaddleX, which is not installed: pip install 'paddleinfer[paddlex]'"
    )


def test_an_older_version_is_refused_and_the_known_ones_are_named() -> None:
    assert refused(PaddleXDouble(), "3.4.3") == (
        "PaddleX '3.4.3' has no registry of engines; the known versions are 3.5, 3.6, 3.7"
    )


def test_a_newer_version_is_tried_and_the_log_names_the_known_ones(caplog: pytest.LogCaptureFixture) -> None:
    double = PaddleXDouble()
    with double.installed("3.8.0"), caplog.at_level(logging.WARNING, "paddleinfer"):
        imported()
    assert caplog.messages == [
        "PaddleX 3.8.0 was not tried with paddleinfer.paddlex; the known versions are 3.5, 3.6, 3.7"
    ]
    assert "paddleinfer" in double.registry["UVDoc"]


@pytest.mark.parametrize(
    ("module", "name"),
    [(f"{MODELS}.engines", "RunnerEngine"), (f"{MODELS}.bindings", "register_predictor_binding_map")],
)
def test_a_registry_without_a_part_is_refused_and_the_part_is_named(module: str, name: str) -> None:
    double = PaddleXDouble()
    del double.modules[module][name]
    assert refused(double, "3.8.1").startswith(
        f"PaddleX '3.8.1' looks different from the known versions (3.5, 3.6, 3.7): it has no {module}.{name}"
    )


@pytest.mark.parametrize("content", [None, {}, {"UVDoc": {"flexible": Binding(LocalModelPredictor)}}])
def test_a_registry_of_models_that_is_kept_otherwise_is_refused(content: object) -> None:
    double = PaddleXDouble()
    double.modules[f"{MODELS}.bindings"]["default_registry"]._registry = content
    assert "no model in it is bound to paddle_static" in refused(double)
