"""The look-alike takes the place of paddle.inference, and gives it back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.inference import Config, create_predictor, install, uninstall


@pytest.fixture(autouse=True)
def paddles() -> Iterator[Any]:
    paddle: Any = import_paddle()
    own = paddle.inference
    yield own
    sys.modules["paddle.inference"] = paddle.inference = own  # whatever a test has put there
    uninstall_after(own)


def uninstall_after(own: ModuleType) -> None:
    from paddleinfer.inference import installation

    installation._state.look_alike = installation._state.paddles = None
    installation.process_options.put_in_force({})


def imported() -> Any:
    """What code gets that imports paddle.inference now."""
    return importlib.import_module("paddle.inference")


def test_code_that_imports_paddles_module_gets_the_look_alike_until_it_is_taken_back(paddles: Any) -> None:
    paddle: Any = import_paddle()
    assert imported() is paddles
    install()
    assert imported() is paddle.inference is not paddles
    names: dict[str, Any] = {}
    exec("from paddle.inference import Config, create_predictor\nimport paddle.inference as inference", names)
    assert names["Config"] is Config and names["create_predictor"] is create_predictor
    assert names["inference"] is imported()
    exec("from paddle.inference import *", names)
    assert names["Predictor"] is paddleinfer.inference.Predictor
    assert set(dir(paddles)) <= set(dir(imported()))
    uninstall()
    assert imported() is paddle.inference is paddles


def test_both_may_be_called_again(paddles: Any) -> None:
    uninstall()
    install()
    look_alike = imported()
    install()
    assert imported() is look_alike
    uninstall()
    uninstall()
    assert imported() is paddles


def test_what_the_package_has_no_name_for_is_paddles_own(paddles: Any) -> None:
    install()
    assert imported().wrapper is paddles.wrapper
    copy_tensor = importlib.import_module("paddle.inference.contrib.utils").copy_tensor
    assert callable(copy_tensor)
    with pytest.raises(AttributeError, match="no_such_name"):
        imported().no_such_name  # noqa: B018


def test_the_options_hold_for_predictors_that_are_made_meanwhile(zoo: Zoo) -> None:
    directory = str(zoo.directory("mlp", zoo.formats[0]))

    def instances(**options: Any) -> tuple[int, int]:
        config = imported().Config(directory) if options.pop("imports", True) else Config(directory)
        config.set_cpu_math_library_num_threads(2)
        config.set_engine_options(**options)
        with create_predictor(config) as predictor:
            (y,) = predictor.run([np.ones((1, 16), "float32")]) or ()
            assert y.shape == (1, 4)
            report = predictor.engine.effective_config()
            return report["instances"]["value"], report["cpu_threads"]["value"]

    install(instances=2, cpu_threads=1)
    assert instances() == (2, 1)
    assert instances(instances=1) == (1, 1)
    install(instances=3)
    assert instances() == (3, 2)
    uninstall()
    assert instances(imports=False, instances=1) == (1, 2)


def test_an_unknown_option_is_refused_and_nothing_is_installed(paddles: Any) -> None:
    with pytest.raises(paddleinfer.ConfigError, match="there is no option 'instance'"):
        install(instance=2)  # type: ignore[call-arg]
    assert imported() is paddles


def test_a_module_that_was_put_there_since_is_left_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    monkeypatch.setitem(sys.modules, "paddle.inference", ModuleType("another"))
    for change in (install, uninstall):
        with pytest.raises(
            paddleinfer.ConfigError,
            match=r"paddle\.inference in sys\.modules was replaced by <module 'another'> since",
        ):
            change()
    monkeypatch.undo()
    monkeypatch.setattr(import_paddle(), "inference", ModuleType("third"))
    with pytest.raises(paddleinfer.ConfigError, match="in paddle was replaced by <module 'third'>"):
        uninstall()


def test_importing_the_package_imports_no_paddle() -> None:
    import subprocess

    code = "import sys, paddleinfer.inference as i; i.DataType, i.install; print('paddle' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == "False"
