"""Arrays without elements, on free axes beyond the rows: what Paddle runs, the engine runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conversions import DTYPES
from engine_helpers import PATIENCE_S, Arrays, merging, rows, run_threads
from grpc_helpers import outputs_of as grpc_outputs_of
from grpc_helpers import raw, serving
from http_helpers import INFER, binary_body, binary_tensor, client_of, json_tensor
from http_helpers import outputs_of as http_outputs_of
from zoo import Zoo

import paddleinfer
from paddleinfer.shim.protocol.datatypes import DATATYPE_OF


def joined(inputs: Arrays) -> Arrays:
    return {"y": np.concatenate([inputs["past"], inputs["x"]], axis=1)}


def joining(dtype: str = "float32", **options: Any) -> paddleinfer.Engine:
    """Joins what is new to what is past, of which there may be none."""
    inputs = {"x": (dtype, (-1, -1, 4)), "past": (dtype, (-1, -1, 4))}
    return paddleinfer.Engine.from_callable(joined, inputs, ["y"], **options)


def first_step(count: int = 2, dtype: Any = "float32") -> Arrays:
    x = (np.arange(count * 12).reshape(count, 3, 4) % 2).astype(dtype)
    return {"x": x, "past": np.zeros((count, 0, 4), dtype)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_input_may_be_empty_in_every_dtype(dtype: str) -> None:
    feeds = first_step(dtype=DTYPES[dtype])
    with joining(dtype) as engine:
        np.testing.assert_array_equal(engine.infer(feeds)["y"], feeds["x"])


@pytest.mark.parametrize("driver", ["native", "python"])
@pytest.mark.parametrize("format", [pytest.param("json", marks=pytest.mark.paddle3), "legacy"])
def test_a_model_runs_with_an_empty_input_as_paddle_does(zoo: Zoo, format: str, driver: str) -> None:
    feeds = first_step()
    for onednn in (True, False):
        with paddleinfer.Engine(zoo.directory("joined", format), driver=driver, onednn=onednn) as engine:
            names = [tensor.name for tensor in engine.inputs]
            (result,) = engine.infer(dict(zip(names, feeds.values(), strict=True))).values()
            np.testing.assert_array_equal(result, feeds["x"] * 2)
            if not onednn and "json" in zoo.formats:
                (nothing,) = engine.infer([feeds["past"], feeds["past"]]).values()
                assert nothing.shape == (2, 0, 4) and nothing.dtype == np.float32


def test_requests_with_an_empty_input_share_runs_and_run_in_parts() -> None:
    with joining(max_batch_size=4, batchable="auto") as engine:

        def call(number: int) -> None:
            for count in (1, 2, 9):
                feeds = first_step(count)
                feeds["x"] = feeds["x"] + np.float32(number)
                np.testing.assert_array_equal(engine.infer(feeds, timeout=PATIENCE_S)["y"], feeds["x"])

        run_threads(6, call)
        assert engine.effective_config()["batchable"]["value"] == "yes"


def test_results_without_elements_are_scattered_to_each_caller() -> None:
    def nothing(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"][:, :0]}

    def make(gate: Any, **options: Any) -> paddleinfer.Engine:
        def model(inputs: Arrays) -> Arrays:
            return nothing(gate(inputs))

        described = {"x": ("float32", (-1, 3))}
        return paddleinfer.Engine.from_callable(
            lambda i: nothing({"x": gate(i)["y"]}), described, ["y"], **options
        )

    with merging(make) as (engine, gate):
        futures = [engine.submit({"x": rows()}) for _ in range(3)]
        gate.open()
        assert [future.result(PATIENCE_S)["y"].shape for future in futures] == [(1, 0)] * 3
        assert gate.sizes[-1] == 3


def test_without_a_batch_axis_any_free_axis_may_be_empty() -> None:
    with joining(batchable=False) as engine:
        assert engine.infer([np.zeros((0, 3, 4), "float32")] * 2)["y"].shape == (0, 6, 4)


@pytest.mark.parametrize("binary", [False, True])
def test_empty_inputs_come_over_http(binary: bool) -> None:
    feeds = first_step()
    describe = binary_tensor if binary else json_tensor
    document = {
        "inputs": [describe(name, array) for name, array in feeds.items()],
        "parameters": {"binary_data_output": binary},
    }
    with joining() as engine, client_of(engine) as client:
        body, headers = binary_body(document, *(feeds.values() if binary else ()))
        y = http_outputs_of(client.post(INFER, content=body, headers=headers if binary else {}))["y"]
        np.testing.assert_array_equal(y, feeds["x"])
        nothing = json_tensor("x", feeds["past"]), json_tensor("past", feeds["past"])
        assert http_outputs_of(client.post(INFER, json={"inputs": nothing}))["y"].shape == (2, 0, 4)


def test_nested_json_may_be_empty_inside() -> None:
    past = {"name": "past", "shape": [2, 0, 4], "datatype": "FP32", "data": [[], []]}
    with joining() as engine, client_of(engine) as client:
        answer = client.post(INFER, json={"inputs": [json_tensor("x", first_step()["x"]), past]})
        np.testing.assert_array_equal(http_outputs_of(answer)["y"], first_step()["x"])


@pytest.mark.parametrize("typed", [False, True])
def test_empty_inputs_come_over_grpc(typed: bool) -> None:
    feeds = first_step()
    message = raw(**feeds)
    if typed:
        tensors = [
            {
                "name": name,
                "shape": array.shape,
                "datatype": DATATYPE_OF[array.dtype],
                "contents": {"fp32_contents": array.reshape(-1).tolist()},
            }
            for name, array in feeds.items()
        ]
        message = {**message, "inputs": tensors, "raw_input_contents": []}
    with joining() as engine, serving(engine) as server:
        np.testing.assert_array_equal(grpc_outputs_of(server.infer(**message))["y"], feeds["x"])


@pytest.mark.paddle2
def test_what_would_end_the_process_on_paddle_2_is_refused_with_any_kernel(zoo: Zoo) -> None:
    feeds = [np.zeros((1, 0, 4), "float32")] * 2
    for options in ({"onednn": False}, {"onednn": True, "ir_optim": True}, {}):
        with (
            paddleinfer.Engine(zoo.directory("joined", "legacy"), **options) as engine,
            pytest.raises(paddleinfer.InvalidInput, match=r"Paddle 2 .*concat.*; at least one input"),
        ):
            engine.infer(feeds)


@pytest.mark.paddle3
@pytest.mark.parametrize(
    ("name", "shapes", "operator"),
    [("pooled", [(1, 1, 0, 4)], "pool2d"), ("joined", [(1, 0, 4), (1, 0, 4)], "concat")],
)
def test_what_would_end_the_process_is_refused(
    name: str, shapes: list[tuple[int, ...]], operator: str, zoo: Zoo
) -> None:
    """oneDNN smashes its stack when there is nothing to pool, and joins nothing at a null pointer."""
    feeds = [np.zeros(shape, "float32") for shape in shapes]
    formats = ["json"] if name == "pooled" else zoo.formats
    for format in formats:
        with (
            paddleinfer.Engine(zoo.directory(name, format), onednn=True, ir_optim=True) as engine,
            pytest.raises(paddleinfer.InvalidInput, match=rf"{operator}.*onednn=False"),
        ):
            engine.infer(feeds)
        with paddleinfer.Engine(zoo.directory(name, format), onednn=False) as engine:
            (nothing,) = engine.infer(feeds).values()
            assert nothing.size == 0


@pytest.mark.paddle3
@pytest.mark.parametrize("options", [{}, {"onednn": True}], ids=["defaults", "onednn"])
def test_a_legacy_model_without_graph_passes_takes_what_onednn_would_not(zoo: Zoo, options: Any) -> None:
    """It does not run on oneDNN then."""
    feeds = [np.zeros((1, 0, 4), "float32")] * 2
    with paddleinfer.Engine(zoo.directory("joined", "legacy"), **options) as engine:
        (nothing,) = engine.infer(feeds).values()
        assert nothing.shape == (1, 0, 4)
