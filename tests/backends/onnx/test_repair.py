"""What paddle2onnx makes wrong of a program is mended, before it and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paddleinfer.backends.onnx.repair import repair, with_mended_operators


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
    assert with_mended_operators(program) == f'[{{"AT":{narrow},"N":"scale"}},{other}]'.encode()
    assert with_mended_operators(other.encode()) == other.encode()


def reduction(rank: int, *, axes: str = "", keeps: int = 4) -> str:
    """A program's operators: a tensor of this rank, a list of axes, and the mean over them."""
    parameter = '{"#":"p","A":[0,0,0,"w"],"O":{"%":9,"TT":{"#":"t","D":[{"#":"0.t_f32"},[3]]}}},'
    numbers = f'{{"#":"0.a_array","D":[{axes}]}}'
    sizes = ",".join(["-1"] * rank)
    count = axes.count("a_i64")
    return parameter + (
        f'{{"#":"1.data","A":[],"I":[],"O":[{{"%":1,"TT":{{"#":"t","D":[{{"#":"0.t_f32"}},[{sizes}]]}}}}]}},'
        f'{{"#":"1.full_int_array","A":[{{"AT":{numbers},"N":"value"}}],"I":[],'
        f'"O":[{{"%":{keeps},"TT":{{"#":"t","D":[{{"#":"0.t_i64"}},[{count}]]}}}}]}},'
        f'{{"#":"1.mean","A":[],"I":[{{"%":1}},{{"%":{keeps}}}],"O":[{{"%":5,"TT":{{}}}}]}}'
    )


def program_of(operators: str) -> bytes:
    return f'{{"program":{{"regions":[{{"#":"r","blocks":[{{"#":"b","ops":[{operators}]}}]}}]}}}}'.encode()


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_reduction_over_all_axes_names_them(rank: int) -> None:
    named = ",".join(f'{{"#":"0.a_i64","D":{axis}}}' for axis in range(rank))
    assert with_mended_operators(program_of(reduction(rank))) == program_of(reduction(rank, axes=named))


def test_a_list_of_no_numbers_for_something_else_stays() -> None:
    program = program_of(reduction(2).replace("1.mean", "1.reshape"))
    assert with_mended_operators(program) == program


def test_a_list_of_no_axes_for_tensors_of_two_ranks_stays() -> None:
    other = reduction(3).replace('"%":1,', '"%":8,').replace('[{"%":1},', '[{"%":8},').split(",", 0)[0]
    first, _, mean = (f'{{"#":"1.{part}' for part in other.split('{"#":"1.')[1:])
    program = program_of(f"{reduction(2)},{first}{mean}")
    assert with_mended_operators(program) == program


@pytest.mark.onnx
def test_outputs_that_are_scalars_in_paddle_become_scalars() -> None:
    import onnx
    import onnxruntime

    helper = onnx.helper
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("y", "z", "x")]
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    graph = helper.make_graph(nodes, "g", [given], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert repair(model, [0, 2]) == 1  # an output that is an input is left as it is
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, z = session.run(["y", "z"], {"x": np.array([3], "float32")})
    assert np.shape(y) == () and y == -3 and z.shape == (1,)
