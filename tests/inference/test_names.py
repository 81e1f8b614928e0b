"""Every public name of the installed paddle.inference is here, too, and every call of Config is told of."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import paddleinfer.inference as ours
from paddleinfer import ConfigError
from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.inference.config_calls import ANSWERS, IN_FORCE, NOTED, REFUSED

# Paddle's module for its own Python parts.
NOT_OF_USERS = {"wrapper", "contrib"}


@pytest.fixture
def paddles() -> Any:
    return InstalledPaddle.find().inference


def public(place: Any) -> set[str]:
    return {name for name in dir(place) if not name.startswith("_")}


def test_every_name_of_the_module_is_here(paddles: Any) -> None:
    missing = {*public(paddles), *paddles.__all__} - set(ours.__all__) - NOT_OF_USERS
    assert not missing, f"paddleinfer.inference has nothing for {', '.join(sorted(missing))}"
    assert all(getattr(ours, name) is not None for name in ours.__all__)


@pytest.mark.parametrize("name", ["Config", "Predictor", "PredictorPool", "Tensor"])
def test_every_method_of_a_class_is_here(paddles: Any, name: str) -> None:
    missing = public(getattr(paddles, name)) - public(getattr(ours, name))
    assert not missing, f"{name} has nothing for {', '.join(sorted(missing))}"


@pytest.mark.parametrize("name", ["DataType", "PlaceType", "PrecisionType"])
def test_the_enumerations_have_the_same_numbers(paddles: Any, name: str) -> None:
    numbers = {member: int(value) for member, value in getattr(paddles, name).__members__.items()}
    mine = {member: int(value) for member, value in getattr(ours, name).__members__.items()}
    assert numbers.items() <= mine.items()
    assert not set(mine) - set(numbers) - {"BFLOAT16"}, "BFLOAT16 is not in Paddle 2.6"


def test_every_call_of_a_config_is_in_one_table(paddles: Any) -> None:
    tables = [set(table) for table in (IN_FORCE, NOTED, REFUSED, ANSWERS)]
    told = set().union(*tables)
    assert sum(map(len, tables)) == len(told)
    answers = {
        name for name in public(ours.Config) if name not in told and name.endswith(("_enabled", "_mode"))
    }
    answers |= {"model_dir", "prog_file", "params_file", "model_from_memory", "use_gpu", "gpu_device_id"}
    answers |= {"memory_pool_init_size_mb", "cpu_math_library_num_threads", "ir_optim", "glog_info_disabled"}
    members = {"Precision", *ours.PrecisionType.__members__}
    calls = {name.replace("mkldnn", "onednn") for name in public(paddles.Config)}
    assert not calls - told - answers - members
    assert told <= public(ours.Config)


@pytest.mark.parametrize("call", REFUSED)
def test_what_is_refused_says_so_in_a_sentence_unless_it_is_switched_off(call: str) -> None:
    config = ours.Config()
    method = getattr(config, call)
    with pytest.raises(ConfigError, match=f"^{call} is not offered: "):
        method(True)
    with pytest.raises(ConfigError, match=f"^{call} is not offered: "):
        method()
    method(False)
    assert config.notes == []


@pytest.mark.parametrize("call", NOTED)
def test_what_has_no_effect_is_noted_once(call: str) -> None:
    config = ours.Config()
    for _ in range(2):
        getattr(config, call)(3)
    (note,) = config.notes
    assert note == f"{call} has no effect: {NOTED[call]}"


def test_calls_have_the_names_of_before_and_after_paddle_3_3() -> None:
    config = ours.Config()
    config.set_mkldnn_op({"conv2d"})
    assert config.notes == [
        "set_mkldnn_op has no effect: oneDNN runs every operator that it has a kernel for"
    ]
    with pytest.raises(ConfigError, match=r"^enable_mkldnn_int8 is not offered: calibration"):
        config.enable_mkldnn_int8({"conv2d"})
    assert config.mkldnn_int8_enabled() is False and config.onednn_int8_enabled() is False


def test_questions_that_nothing_changes_are_answered() -> None:
    config = ours.Config()
    assert {name: getattr(config, name)() for name in ANSWERS} == dict(ANSWERS)


def test_functions_beside_predictors_answer_as_paddles_do(paddles: Any) -> None:
    assert ours.get_version() == paddles.get_version()
    assert ours.get_trt_compile_version() == tuple(paddles.get_trt_compile_version())
    assert ours.get_trt_runtime_version() == tuple(paddles.get_trt_runtime_version())
    assert ours._get_phi_kernel_name("matmul_v2") == paddles._get_phi_kernel_name("matmul_v2")
    for name, kind in paddles.DataType.__members__.items():
        mine = ours.get_num_bytes_of_data_type(ours.DataType[name])
        assert paddles.get_num_bytes_of_data_type(kind) in (mine, -1), "Paddle does not know every one"
    with pytest.raises(ValueError, match=r"must be a DataType such as DataType\.FLOAT32, not 'float32'"):
        ours.get_num_bytes_of_data_type("float32")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["XpuConfig", "InternalUtils"])
def test_classes_of_other_devices_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is not offered: "):
        getattr(ours, name)()


def test_the_module_that_is_imported_is_the_package() -> None:
    assert sys.modules["paddleinfer.inference"] is ours
    with pytest.raises(AttributeError, match="has no attribute 'Confg'"):
        ours.Confg  # noqa: B018
