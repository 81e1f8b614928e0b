"""Paddle Serving's LocalPredictor: its arguments and returns, from any number of threads."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import run_threads
from serving_models import HOUSE, make_fit_a_line, price_of
from zoo import Zoo

from paddleinfer.errors import ConfigError, EngineClosed, InvalidInput, ModelError, ModelLoadError
from paddleinfer.serving import LocalPredictor
from paddleinfer.tracing.paddle_profile import read


@pytest.fixture(scope="module")
def predictor(fit_a_line: Path) -> Iterator[LocalPredictor]:
    with LocalPredictor() as predictor:
        predictor.load_model_config(fit_a_line)
        yield predictor


def test_the_documented_snippet_gets_the_documented_answer(fit_a_line: Path) -> None:
    predictor = LocalPredictor()
    predictor.load_model_config(str(fit_a_line))
    new_data = np.zeros((1, 13)).astype("float32")
    new_data[0] = HOUSE
    fetch_map = predictor.predict(feed={"x": new_data}, fetch=["price"], batch=True)
    assert list(fetch_map) == ["price"]
    assert fetch_map["price"].dtype == np.float32
    np.testing.assert_allclose(fetch_map["price"], price_of(fit_a_line, new_data), rtol=1e-5)
    predictor.close()


def test_its_signatures_are_paddle_servings() -> None:
    load = inspect.signature(LocalPredictor.load_model_config).parameters
    assert " ".join(list(load)[1:]) == (
        "model_path use_gpu gpu_id use_profile thread_num mem_optim ir_optim use_trt use_lite use_xpu "
        "precision use_mkldnn mkldnn_cache_capacity mkldnn_op_list mkldnn_bf16_op_list use_feed_fetch_ops "
        "use_ascend_cl min_subgraph_size dynamic_shape_info use_calib"
    )
    defaults = {name: p.default for name, p in load.items()}
    assert defaults["mem_optim"] is True and defaults["ir_optim"] is False
    assert (defaults["precision"], defaults["min_subgraph_size"]) == ("fp32", 3)
    predict = inspect.signature(LocalPredictor.predict).parameters
    assert {name: p.default for name, p in list(predict.items())[1:]} == {
        "feed": None,
        "fetch": None,
        "batch": False,
        "log_id": 0,
    }


@pytest.mark.parametrize(
    ("feed", "batch"),
    [
        ({"x": np.array(HOUSE, "float32")}, False),
        ({"x": HOUSE}, False),
        ({"x": [HOUSE]}, False),
        ({"x": HOUSE}, True),
        ({"x": [HOUSE]}, True),
        ({"x": np.array([HOUSE], "float64")}, True),
        ([{"x": HOUSE}], False),
    ],
)
def test_a_row_may_come_in_each_form(
    predictor: LocalPredictor,
    fit_a_line: Path,
    feed: Any,
    batch: bool,
) -> None:
    price = predictor.predict(feed, ["price"], batch)["price"]
    assert price.shape == (1, 1)
    np.testing.assert_allclose(price, price_of(fit_a_line, np.array([HOUSE])), rtol=1e-5)


def test_rows_of_several_dicts_follow_one_another(predictor: LocalPredictor, fit_a_line: Path) -> None:
    houses = np.random.default_rng(1).standard_normal((3, 13)).astype("float32")
    expected = price_of(fit_a_line, houses)
    one_each = predictor.predict([{"x": house} for house in houses], "price")
    two_and_one = predictor.predict([{"x": houses[:2]}, {"x": houses[2:]}], "price", batch=True)
    np.testing.assert_allclose(one_each["price"], expected, rtol=1e-5)
    np.testing.assert_allclose(two_and_one["price"], expected, rtol=1e-5)


def test_integers_become_floats_and_the_callers_dict_stays_as_it_was(predictor: LocalPredictor) -> None:
    given = np.arange(13)
    feed = {"x": given}
    as_integers = predictor.predict(feed, "price")["price"]
    assert feed == {"x": given} and feed["x"] is given
    assert given.dtype.kind == "i" and given.shape == (13,)
    np.testing.assert_array_equal(as_integers, predictor.predict({"x": given.astype("f4")}, "price")["price"])


@pytest.mark.parametrize("fetch", [None, [], "price", ["price"], ("price",)])
def test_what_is_fetched_comes_under_the_name_that_asked_for_it(
    predictor: LocalPredictor, fetch: Any
) -> None:
    assert list(predictor.predict({"x": HOUSE}, fetch)) == ["price"]


def test_the_models_own_names_work_beside_the_aliases(predictor: LocalPredictor) -> None:
    own = predictor.engine.outputs[0].name
    assert own != "price"
    assert list(predictor.predict({"x": HOUSE}, [own])) == [own]


@pytest.mark.parametrize(
    ("feed", "fetch", "batch", "words"),
    [
        (None, ["price"], False, ["feed must be a dict", "None"]),
        ([], ["price"], False, ["feed must be a dict"]),
        (np.zeros((1, 13)), ["price"], True, ["feed must be a dict"]),
        ({"y": HOUSE}, ["price"], False, ["no input 'y'", "takes x"]),
        ({3: HOUSE}, ["price"], False, ["no input 3"]),
        ({}, ["price"], False, ["missing input 'x'"]),
        ({"x": HOUSE}, ["rent"], False, ["rent"]),
        ({"x": HOUSE}, {"price": 1}, False, ["fetch must be a name or a list"]),
        ({"x": HOUSE}, [3], False, ["fetch must be a name or a list"]),
        ({"x": HOUSE[1:]}, ["price"], False, ["(1, 12)", "13"]),
        ({"x": [[1, 2], [3]]}, ["price"], True, ["'x' takes a rectangular list", "[[1, 2], [3]]"]),
        ({"x": np.zeros(12)}, ["price"], False, ["(1, 12)", "13"]),
        ({"x": ["a"] * 13}, ["price"], False, ["'x'", "float32"]),
        ({"x": HOUSE, "x.lod": [0, 1]}, ["price"], True, ["'x.lod'", "LoD"]),
        ([{"x": HOUSE}, {}], ["price"], False, ["not every dict", "'x'"]),
        ({"x": HOUSE}, ["price"], 1, ["batch must be True or False"]),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    predictor: LocalPredictor, feed: Any, fetch: Any, batch: Any, words: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        predictor.predict(feed, fetch, batch)
    for word in words:
        assert word in str(caught.value)


def test_an_error_names_the_log_id_of_its_call(predictor: LocalPredictor) -> None:
    with pytest.raises(InvalidInput, match=r"no input 'y'.*\(log_id 17\)"):
        predictor.predict({"y": HOUSE}, log_id=17)


def test_64_threads_get_what_one_gets(zoo: Zoo) -> None:
    with LocalPredictor() as predictor:
        predictor.load_model_config(zoo.directory("mlp", zoo.formats[0]))
        rows = np.random.default_rng(2).standard_normal((64, 16)).astype("float32")
        alone = [predictor.predict({"x": row}) for row in rows]

        def ask(number: int) -> None:
            for _ in range(8):
                together = predictor.predict({"x": rows[number]})
                for name, expected in alone[number].items():
                    np.testing.assert_allclose(together[name], expected, rtol=1e-5, atol=1e-6)

        run_threads(64, ask)


def test_one_bad_feed_fails_alone_and_nobody_waits_for_it(zoo: Zoo) -> None:
    with LocalPredictor() as predictor:
        predictor.load_model_config(zoo.directory("embedding", zoo.formats[0]))
        good = predictor.predict({"ids": [1] * 6})

        def ask(number: int) -> None:
            for _ in range(4):
                if number == 0:
                    with pytest.raises(ModelError):  # there are 50 ids
                        predictor.predict({"ids": [99] * 6})
                else:
                    for name, expected in predictor.predict({"ids": [1] * 6}).items():
                        np.testing.assert_allclose(expected, good[name], rtol=1e-5)

        run_threads(8, ask)


@pytest.mark.parametrize("dtype", ["float16", "int8", "int16", "uint8", "bool", "float64"])
def test_rows_of_every_dtype_are_merged(zoo: Zoo, dtype: str) -> None:
    with LocalPredictor() as predictor:
        predictor.load_model_config(zoo.directory(f"same-{dtype}", zoo.formats[0]))

        def ask(number: int) -> None:
            row = (np.arange(3) + number % 2).astype(dtype)
            for _ in range(4):
                (result,) = predictor.predict({"x": row}).values()
                assert result.dtype == row.dtype
                np.testing.assert_array_equal(result, row.reshape(1, 3, 1))

        run_threads(8, ask)


def test_every_option_is_in_force_and_shown(fit_a_line: Path) -> None:
    with LocalPredictor() as predictor:
        predictor.load_model_config(
            fit_a_line,
            thread_num=2,
            mem_optim=False,
            ir_optim=True,
            use_mkldnn=True,
            mkldnn_cache_capacity=5,
        )
        shown = predictor.effective_config()
        own = predictor.engine.effective_config()
    became = {
        ("thread_num", "cpu_threads", 2),
        ("mem_optim", "mem_optim", False),
        ("ir_optim", "ir_optim", True),
        ("use_mkldnn", "onednn", True),
        ("mkldnn_cache_capacity", "max_onednn_shapes", 5),
        ("use_gpu", "device", "cpu"),
        ("precision", "precision", "float32"),
    }
    for theirs, ours, value in became:
        assert shown[theirs]["engine"][ours]["value"] == value, theirs
        assert own[ours]["value"] == value


def test_the_defaults_are_paddle_servings(predictor: LocalPredictor) -> None:
    shown = predictor.effective_config()
    values = {name: shown[name]["value"] for name in ("mem_optim", "ir_optim", "use_mkldnn", "thread_num")}
    assert values == {"mem_optim": True, "ir_optim": False, "use_mkldnn": False, "thread_num": 1}
    assert predictor.engine.effective_config()["onednn"]["value"] is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_lite": True}, "use_lite=True is not offered"),
        ({"use_xpu": True}, "use_xpu=True is not offered"),
        ({"use_ascend_cl": True}, "use_ascend_cl=True is not offered"),
        ({"use_feed_fetch_ops": True}, "use_feed_fetch_ops=True is not offered"),
        ({"use_calib": True}, "use_calib=True is not offered"),
        ({"mkldnn_op_list": ["conv2d"]}, "mkldnn_op_list=.* is not offered"),
        ({"mkldnn_bf16_op_list": ["conv2d"]}, "mkldnn_bf16_op_list=.* is not offered"),
        ({"min_subgraph_size": 10}, "min_subgraph_size=10 is not offered"),
        ({"dynamic_shape_info": {"min_input_shape": {}}}, "dynamic_shape_info=.* is not offered"),
        ({"gpu_id": 1}, "gpu_id=1 needs use_gpu=True"),
        ({"use_gpu": True, "gpu_id": -1}, "gpu_id must be the number of a GPU"),
        ({"use_gpu": "yes"}, "use_gpu must be True or False"),
        ({"use_gpu": True, "use_mkldnn": True}, "use_mkldnn=True is for the CPU"),
        ({"thread_num": 0}, "thread_num must be an integer from 1"),
        ({"mem_optim": 1}, "mem_optim must be True or False"),
        ({"ir_optim": None}, "ir_optim must be True or False"),
        ({"use_mkldnn": 1}, "use_mkldnn must be True or False"),
        ({"mkldnn_cache_capacity": 3}, "mkldnn_cache_capacity needs use_mkldnn=True"),
        ({"mkldnn_cache_capacity": -1}, "mkldnn_cache_capacity must be an integer from 0"),
        ({"use_profile": 1}, "use_profile must be True or False"),
        ({"precision": "fp8"}, "precision must be one of fp32, fp16, int8, bf16"),
        ({"precision": "BF16"}, "BF16 needs use_mkldnn=True"),
        ({"precision": "fp16"}, "fp16 needs use_trt=True, and a GPU"),
        ({"use_trt": True}, "use_trt=True needs a GPU"),
        ({"use_trt": 1}, "use_trt must be True or False"),
        ({"use_gpu": True, "use_trt": True}, "use_trt=True needs the precision fp16 or int8"),
    ],
)
def test_an_option_that_cannot_be_in_force_is_refused(
    fit_a_line: Path,
    options: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(ConfigError, match=words):
        LocalPredictor().load_model_config(fit_a_line, **options)


def test_a_profiled_prediction_is_a_line_of_two_stages(
    fit_a_line: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with LocalPredictor() as predictor:
        predictor.load_model_config(fit_a_line, use_profile=True)
        predictor.predict({"x": HOUSE})
    profile = read(capsys.readouterr().err.splitlines())
    assert [[stage.name for stage in line] for line in profile.lines] == [["py_prepro", "py_client_infer"]]
    assert not profile.problems


def test_without_a_model_a_prediction_says_what_to_do() -> None:
    with LocalPredictor() as predictor, pytest.raises(ConfigError, match="load_model_config"):
        predictor.predict({"x": HOUSE})


def test_after_its_end_a_prediction_is_refused(fit_a_line: Path) -> None:
    predictor = LocalPredictor()
    predictor.load_model_config(fit_a_line)
    predictor.close()
    with pytest.raises(EngineClosed):
        predictor.predict({"x": HOUSE})


def test_another_model_takes_the_place_while_threads_predict(fit_a_line: Path, tmp_path: Path) -> None:
    other = make_fit_a_line(tmp_path / "other", seed=4)
    right = [price_of(path, np.array([HOUSE])) for path in (fit_a_line, other)]
    with LocalPredictor() as predictor:
        predictor.load_model_config(fit_a_line)

        def ask(number: int) -> None:
            if number == 0:
                predictor.load_model_config(other)
            for _ in range(30):
                price = predictor.predict({"x": HOUSE}, "price")["price"]
                assert any(np.allclose(price, one, rtol=1e-5) for one in right)

        run_threads(8, ask)
        np.testing.assert_allclose(predictor.predict({"x": HOUSE}, "price")["price"], right[1], rtol=1e-5)


def test_a_model_that_cannot_be_loaded_leaves_the_one_before(fit_a_line: Path, tmp_path: Path) -> None:
    with LocalPredictor() as predictor:
        predictor.load_model_config(fit_a_line)
        with pytest.raises(ModelLoadError):
            predictor.load_model_config(tmp_path)
        assert predictor.predict({"x": HOUSE}, "price")["price"].shape == (1, 1)
