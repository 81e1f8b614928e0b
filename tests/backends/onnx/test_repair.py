"""Scalars that paddle2onnx joins to lists become lists of one number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paddleinfer.backends.onnx.repair import repair, with_narrow_scales


def model_of(*sizes: tuple[int, ...]) -> Any:
    """Joins int64 inputs of these shapes along the first axis."""
    from onnx import TensorProto, helper

    names = [f"i{place}" for place in range(len(sizes))]
    graph = helper.make_graph(
        [
            *(helper.make_node("Neg", [name], [f"{name}.neg"]) for name in names),
            helper.make_node("Concat", [f"{name}.neg" for name in names], ["joined"], name="join", axis=0),
        ],
        "main",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, size)
            for name, size in zip(names, sizes, strict=True)
        ],
        [helper.make_tensor_value_info("joined", TensorProto.INT64, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: Any, *values: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {f"i{place}": np.array(value) for place, value in enumerate(values)})[0]


@pytest.mark.onnx
def test_scalars_among_lists_are_mended() -> None:
    model = model_of((2,), (), (1,), ())
    with pytest.raises(Exception, match="must have same rank"):
        run(model, [1, 2], 3, [4], 5)
    assert repair(model) == 2
    assert run(model, [1, 2], 3, [4], 5).tolist() == [-1, -2, -3, -4, -5]


@pytest.mark.onnx
def test_a_sound_model_is_left_as_it_is() -> None:
    for model in (model_of((2,), (1,)), model_of((2, 3), (1, 3))):
        before = model.SerializeToString()
        assert repair(model) == 0
        assert model.SerializeToString() == before


def test_scales_of_64_bits_become_ones_of_32_and_nothing_else_changes() -> None:
    scales = '{"#":"0.a_array","D":[{"#":"0.a_f64","D":2.0},{"#":"0.a_f64","D":0.5}]}'
    other = f'{{"AT":{scales},"N":"values"}},{{"AT":{{"#":"0.a_f64","D":2.0}},"N":"scale"}}'
    program = f'[{{"AT":{scales},"N":"scale"}},{other}]'.encode()
    narrow = scales.replace("a_f64", "a_f32")
    assert with_narrow_scales(program) == f'[{{"AT":{narrow},"N":"scale"}},{other}]'.encode()
    assert with_narrow_scales(other.encode()) == other.encode()
