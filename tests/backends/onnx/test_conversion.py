"""Paddle models as ONNX: converted in a child process, once, or refused in a sentence."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from zoo import Zoo

from paddleinfer.backends.onnx import conversion
from paddleinfer.backends.onnx.cache import ModelCache
from paddleinfer.backends.onnx.conversion_child import unknown_operators
from paddleinfer.backends.paddle.export import export
from paddleinfer.engine.opening import Opening
from paddleinfer.errors import ConfigError, EngineClosed, ModelLoadError
from paddleinfer.models.reader import load_spec

# What stands for a child: it reads its order, and does this.
CHILD = (
    "import json, os, pickle, signal, sys, time; read = sys.stdin.buffer; pickle.load(read); "
    "program, params, target, opset, scalars = pickle.load(read); "
)
REPORT = "print('\\npaddleinfer reports ' + json.dumps(dict({})), flush=True); "


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets what is installed."""

    def install(paddle: str = "paddlepaddle 3.3.1", paddle2onnx: str = "2.1.0") -> None:
        found = conversion.Tools(paddle, paddle2onnx)
        monkeypatch.setattr(conversion, "installed_tools", lambda: found)

    install()
    yield install


def onnx_of(model: Path, folder: Path, child: str, **options: Any) -> bytes:
    cache = ModelCache(folder, 1 << 30)
    with conversion.converted(load_spec(model), cache, Opening(), child=CHILD + child, **options) as path:
        return path.read_bytes()


WRITES = "open(target, 'w').write(' '.join(sorted(os.listdir(os.path.dirname(target)))))"


@pytest.mark.paddle3
def test_the_child_gets_the_files_under_names_that_paddle2onnx_takes(
    zoo: Zoo, tmp_path: Path, tools: Callable[..., None]
) -> None:
    assert onnx_of(zoo.directory("mlp", "json"), tmp_path, WRITES) == b"model.json model.onnx model.pdiparams"
    legacy = zoo.directory("mlp", "legacy")
    assert onnx_of(legacy, tmp_path, WRITES) == b"model.onnx model.pdiparams model.pdmodel"
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(legacy / "inference.pdmodel", old / "__model__")
    shutil.copy(legacy / "inference.pdiparams", old / "__params__")
    copies = "open(target, 'wb').write(open(params, 'rb').read())"
    assert onnx_of(old, tmp_path / "cache", copies) == (legacy / "inference.pdiparams").read_bytes()


def test_a_change_of_files_or_versions_converts_again(
    zoo: Zoo, tmp_path: Path, tools: Callable[..., None]
) -> None:
    writes = "open(target, 'w').write(str(os.getpid()))"
    model = tmp_path / "model"
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), model)
    seen = [onnx_of(model, tmp_path / "cache", writes) for _ in range(2)]
    tools(paddle2onnx="2.2.0")
    seen.append(onnx_of(model, tmp_path / "cache", writes))
    tools(paddle="paddlepaddle 3.4.0")
    seen.append(onnx_of(model, tmp_path / "cache", writes))
    weights = model / "inference.pdiparams"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    seen.append(onnx_of(model, tmp_path / "cache", writes))
    assert seen[0] == seen[1] and len(set(seen)) == 4


@pytest.mark.parametrize(
    ("child", "sentence"),
    [
        (
            REPORT.format("unknown_operators=['erfinv', 'i0']") + "os.abort()",
            "paddle2onnx 2.1.0 does not know its operators erfinv, i0",
        ),
        (REPORT.format("unknown_operators=['erfinv']") + "os.abort()", "does not know its operator erfinv"),
        (
            REPORT.format("unknown_operators=[], control_flow=['if']")
            + "print('[ERROR][Paddle2ONNX] Can not get it.', flush=True); os.abort()",
            r"paddle2onnx 2.1.0 says: Can not get it \(the model has control flow: if\)",
        ),
        (
            "print('[Paddle2ONNX] Start export pd_op.full, op_id: 5'); "
            "print('[Paddle2ONNX] Finish export pd_op.full, op_id: 5'); "
            "print('[Paddle2ONNX] Start export pd_op.mean, op_id: 6'); "
            "print('[ERROR][Paddle2ONNX] No value.'); sys.exit(1)",
            r"paddle2onnx 2\.1\.0 cannot convert its operator mean: No value",
        ),
        ("print('x [ERROR] Failed to convert PaddlePaddle model: a \\x1b[31mreason.')", "says: a .*reason"),
        (REPORT.format("error='TypeError: none', errno=None"), "says: TypeError: none"),
        (
            REPORT.format(f"error='OSError: full', errno={errno.ENOSPC}"),
            "OSError: full; free some space there, or name another folder with onnx_cache",
        ),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "paddle2onnx 2.1.0 ended with SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended with SIGKILL from outside; load it again"),
        ("os._exit(3)", "paddle2onnx 2.1.0 ended with the exit code 3"),
        ("open(target, 'w')", "paddle2onnx 2.1.0 ended with the exit code 0"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence_and_leaves_nothing(
    zoo: Zoo, tmp_path: Path, tools: Callable[..., None], child: str, sentence: str
) -> None:
    with pytest.raises(ModelLoadError, match=f"cannot be converted to ONNX: .*{sentence}"):
        onnx_of(zoo.directory("mlp", zoo.formats[0]), tmp_path, child)
    assert os.listdir(tmp_path) == []


def test_a_conversion_that_does_not_end_is_ended(
    zoo: Zoo, tmp_path: Path, tools: Callable[..., None]
) -> None:
    """By the real clock: the process never ends by itself, so the limit passes on any machine."""
    with pytest.raises(ModelLoadError, match=r"was not converted to ONNX within 0\.5 s"):
        onnx_of(zoo.directory("mlp", zoo.formats[0]), tmp_path, "time.sleep(1000)", longest_s=0.5)
    assert os.listdir(tmp_path) == []


def test_an_ended_load_ends_its_conversion(zoo: Zoo, tmp_path: Path, tools: Callable[..., None]) -> None:
    load = Opening()

    class EndsAtOnce:
        check = load.check

        @contextlib.contextmanager
        def ended_by(self, end: Callable[[], object]) -> Iterator[None]:
            with load.ended_by(end):
                load.end()
                yield

    cache = ModelCache(tmp_path, 1 << 30)
    spec = load_spec(zoo.directory("mlp", zoo.formats[0]))
    with (
        pytest.raises(EngineClosed),
        conversion.converted(spec, cache, EndsAtOnce(), child=CHILD + "time.sleep(1000)"),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_model_whose_files_change_meanwhile_is_refused(
    zoo: Zoo, tmp_path: Path, tools: Callable[..., None]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), model)
    child = f"open(target, 'w').write('x'); open({str(model / 'inference.pdiparams')!r}, 'a').write('x')"
    with pytest.raises(ModelLoadError, match=r"inference\.pdiparams changed while the model was converted"):
        onnx_of(model, tmp_path / "cache", child)
    assert os.listdir(tmp_path / "cache") == []


def test_what_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"paddle2onnx is not installed; .*'paddleinfer\[onnxruntime\]'"):
        conversion.installed_tools()
    monkeypatch.setattr(conversion, "installed_package", lambda: None)
    with pytest.raises(ConfigError, match=r"Paddle itself is not .*paddleinfer\[cpu,onnxruntime\]"):
        conversion.installed_tools()


def test_paddle_2_is_refused_for_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.1.0")
    monkeypatch.setattr(conversion, "installed_package", lambda: ("paddlepaddle", "2.6.2"))
    with pytest.raises(
        ConfigError, match=r"with Paddle 3, and here are paddle2onnx 2\.1\.0 and paddlepaddle 2\.6\.2"
    ):
        conversion.installed_tools()


def test_operators_are_known_under_the_names_of_any_paddle() -> None:
    known = "builtin_combine elementwise_add elementwise_mul hard_swish matmul_v2 reduce_mean top_k_v2 "
    known += "where_index"
    names = "add add_ combine data erfinv hardswish matmul mean multiply nonzero reshape topk while yield"
    assert unknown_operators(names.split(), known.split()) == ["erfinv", "reshape"]


# -- with paddle2onnx


@pytest.mark.onnx
@pytest.mark.parametrize("format", ["json", "legacy"])
def test_a_model_is_converted_and_its_tensors_keep_their_places(
    zoo: Zoo, tmp_path: Path, format: str
) -> None:
    import onnx

    spec = load_spec(zoo.directory("conv", format))
    with conversion.converted(spec, ModelCache(tmp_path, 1 << 30), Opening()) as path:
        graph = onnx.load(str(path)).graph
    assert [tensor.name for tensor in graph.input] == [tensor.name for tensor in spec.inputs]
    ranks = [len(tensor.type.tensor_type.shape.dim) for tensor in graph.output]
    assert ranks == [len(tensor.shape or ()) for tensor in spec.outputs]
    assert "paddle2onnx" not in sys.modules


@pytest.mark.onnx
def test_an_operator_of_which_it_cannot_convert_this_use_is_named(tmp_path: Path) -> None:
    import paddle

    def mean_over_an_axis_that_follows_from_values(x: Any) -> Any:
        return paddle.mean(x, axis=paddle.argmax(x, axis=1)[:1])

    model = export(
        mean_over_an_axis_that_follows_from_values, tmp_path / "model", {"x": ("float32", (-1, 3))}
    )
    with (
        pytest.raises(ModelLoadError, match=r"cannot convert its operator mean: Can not get input 'axis"),
        conversion.converted(load_spec(model), ModelCache(tmp_path / "onnx", 1 << 30), Opening()),
    ):
        pass


@pytest.mark.onnx
def test_an_operator_that_cannot_be_converted_is_named(tmp_path: Path) -> None:
    import paddle

    model = export(paddle.erfinv, tmp_path / "model", {"x": ("float32", (-1, 4))})
    with (
        pytest.raises(ModelLoadError, match=r"paddle2onnx 2\.\S+ does not know its operator erfinv"),
        conversion.converted(load_spec(model), ModelCache(tmp_path / "cache", 1 << 30), Opening()),
    ):
        pass
    assert os.listdir(tmp_path / "cache") == []
