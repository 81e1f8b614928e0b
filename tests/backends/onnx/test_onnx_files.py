"""Files that are ONNX already, as they are."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from zoo import Zoo

from paddleinfer import Engine
from paddleinfer.errors import ModelLoadError

pytestmark = [pytest.mark.paddle3, pytest.mark.onnx]

Opened = Callable[..., Engine]


def onnx_file(engine: Engine, target: Path) -> Path:
    """Copies the converted model of an engine."""
    (path,) = re.findall(r" to (\S+/model\.onnx)", engine.effective_config()["backend"]["note"])
    shutil.copy(path, target)
    return target


def test_a_file_is_loaded_as_it_is(zoo: Zoo, opened: Opened, tmp_path: Path) -> None:
    model = zoo.directory("conv", "json")
    with opened(model) as converted, opened(onnx_file(converted, tmp_path / "conv.onnx")) as engine:
        inputs = {"image": np.random.default_rng(5).standard_normal((3, 3, 20, 20)).astype("float32")}
        wanted, given = converted.infer(inputs), engine.infer(inputs)
        assert list(given) == list(wanted)
        assert all((given[name] == wanted[name]).all() for name in wanted)
        assert engine.effective_config()["onnx_cache"]["note"] == "without effect on a .onnx file"
    with pytest.raises(
        ModelLoadError, match='which Paddle does not run; give the file itself with backend="onn'
    ):
        Engine(tmp_path / "conv.onnx")


@pytest.mark.parametrize("driver", ["native", "python"])
def test_scalars_go_in_and_out(opened: Opened, tmp_path: Path, driver: str) -> None:
    import onnx
    from onnx import TensorProto, helper

    rows = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    same = helper.make_tensor_value_info("same", TensorProto.FLOAT, [None, 3])
    factor = helper.make_tensor_value_info("factor", TensorProto.FLOAT, [])
    total = helper.make_tensor_value_info("total", TensorProto.FLOAT, [])
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["scaled"]),
        helper.make_node("ReduceSum", ["scaled"], ["total"], keepdims=0),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    graph = helper.make_graph(nodes, "scalars", [rows, factor], [total, same])
    path = tmp_path / "scalars.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with opened(path, driver=driver) as engine:
        x = np.arange(6, dtype="float32").reshape(2, 3)
        given = engine.infer({"x": x, "factor": np.float32(2)})
    assert given["total"].shape == () and given["total"] == 30
    np.testing.assert_array_equal(given["same"], x)


def test_a_damaged_file_is_one_sentence(zoo: Zoo, opened: Opened, title: str, tmp_path: Path) -> None:
    with opened(zoo.directory("mlp", "json")) as engine:
        path = onnx_file(engine, tmp_path / "mlp.onnx")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"MatMul", b"MatMux"))
    with pytest.raises(ModelLoadError, match=rf"{title} cannot load .*mlp\.onnx: .*MatMux"):
        opened(path)
