"""Known faults of Paddle: each is recognised in the program, worked around, and reported."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import assert_close
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.paddle.faults import KNOWN_FAULTS, FaultContext, workarounds_for
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.backends.paddle.runtime import prepare
from paddleinfer.config import EngineConfig, RuntimeOptions
from paddleinfer.models.reader import load_spec

# Kind of interpolation, axes beyond batch and channels, how the size is told.
INTERPOLATIONS = [
    ("nearest", 2, "scale"),
    ("nearest", 2, "size"),
    ("nearest", 2, "tensor"),
    ("nearest", 3, "scale"),
    ("bilinear", 2, "scale"),
    ("bilinear", 2, "tensor"),
    ("bicubic", 2, "scale"),
    ("linear", 1, "scale"),
    ("trilinear", 3, "size"),
]


def export_interpolation(directory: Path, mode: str, axes: int, told: str, dtype: str = "float32") -> Path:
    """A model of one interpolation to twice the size, between operators that oneDNN does run."""
    paddle = import_paddle()
    names = {1: "NCW", 2: "NCHW", 3: "NCDHW"}[axes]
    interpolate = paddle.nn.functional.interpolate

    class Upsample(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            y = x * 2
            if told == "scale":
                y = interpolate(y, scale_factor=2.0, mode=mode, data_format=names)
            elif told == "size":
                y = interpolate(y, size=[6] * axes, mode=mode, data_format=names)
            else:
                y = interpolate(y, size=paddle.shape(x)[2:] * 2, mode=mode, data_format=names)
            return y + 1

    shape = (-1, 2, *[-1] * axes)
    paddleinfer.export(Upsample(), directory, inputs={"x": (dtype, shape)})
    return directory


def context(program: bytes, **changes: Any) -> FaultContext:
    given = {
        "version": (3, 3, 1), "onednn": True, "ir_optim": False, "legacy": False,
        "processor": frozenset({"avx2"}), "program": program, **changes,
    }  # fmt: skip
    return FaultContext(**given)


def program_of(*kinds: tuple[str, str, str]) -> bytes:
    """A program of operators, each a kind, a type of element and a layout."""
    ops = [
        {
            "#": kind,
            "A": [{"N": "data_format", "AT": {"#": "0.a_str", "D": layout}}],
            "O": [{"TT": {"#": "0.t_dtensor", "D": [{"#": element}, [-1, 2, -1, -1]]}}],
        }
        for kind, element, layout in kinds
    ]
    return json.dumps({"program": {"regions": [{"blocks": [{"ops": ops}]}]}}).encode()


NEAREST = ("1.nearest_interp", "0.t_f32", "NCHW")


@pytest.mark.paddle3
@pytest.mark.parametrize(("mode", "axes", "told"), INTERPOLATIONS)
def test_every_kind_of_interpolation_runs_on_the_defaults(
    tmp_path: Path, mode: str, axes: int, told: str
) -> None:
    model = export_interpolation(tmp_path / "model", mode, axes, told)
    x = np.random.default_rng(axes).standard_normal((2, 2, *[3] * axes)).astype("float32")
    with paddleinfer.Engine(model, onednn=False, instances=1) as engine:
        expected = engine.infer({"x": x})
    with paddleinfer.Engine(model, instances=2) as engine:
        for _ in range(2):
            assert_close(engine.infer({"x": x}), expected)
        onednn = engine.effective_config()["onednn"]
    assert onednn["value"] is True
    assert (f"cannot run {mode}_interp on oneDNN" in onednn["note"]) == (mode in ("nearest", "bilinear"))


@pytest.mark.paddle3
def test_an_interpolation_inside_a_branch_is_found(tmp_path: Path) -> None:
    paddle = import_paddle()
    interpolate = paddle.nn.functional.interpolate

    class Branch(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any, choice: Any) -> Any:
            if (choice.sum() > 0).all():
                y = interpolate(x, scale_factor=2.0, mode="nearest")
            else:
                y = interpolate(x, scale_factor=2.0, mode="bilinear")
            return y + 1

    inputs = {"x": ("float32", (-1, 2, -1, -1)), "choice": ("int64", (-1, 1))}
    paddleinfer.export(Branch(), tmp_path / "model", inputs=inputs)
    x = np.arange(8, dtype="float32").reshape(1, 2, 2, 2)
    with paddleinfer.Engine(tmp_path / "model", instances=1) as engine:
        (nearest,) = engine.infer({"x": x, "choice": np.ones((1, 1), "int64")}).values()
        assert "bilinear_interp, nearest_interp (2 operators)" in engine.effective_config()["onednn"]["note"]
    np.testing.assert_array_equal(nearest, x.repeat(2, axis=2).repeat(2, axis=3) + 1)


@pytest.mark.paddle3
@pytest.mark.parametrize("driver", ["native", "python"])
def test_the_rewritten_program_is_gone_once_the_engine_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    model = export_interpolation(tmp_path / "model", "nearest", 2, "scale")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with paddleinfer.Engine(model, instances=2, driver=driver) as engine:
        assert list((tmp_path / "temporary").iterdir()) == []
        engine.reload()
        assert list((tmp_path / "temporary").iterdir()) == []


def test_the_program_is_rewritten_and_nothing_else_of_it_changes() -> None:
    program = program_of(("1.relu", "0.t_f32", "NCHW"), NEAREST, ("1.bilinear_interp", "0.t_f16", "NCHW"))
    (workaround,) = workarounds_for(context(program))
    assert workaround.program is not None and workaround.delete_passes == ()
    before, after = json.loads(program), json.loads(workaround.program)
    operators = after["program"]["regions"][0]["blocks"][0]["ops"]
    assert [op["#"] for op in operators] == ["1.relu", "1.bicubic_interp", "1.bicubic_interp"]
    operators[1]["#"], operators[2]["#"] = "1.nearest_interp", "1.bilinear_interp"
    assert before == after


def test_what_another_kernel_could_not_take_over_is_kept_from_onednn_with_all_the_rest() -> None:
    bytes_too = program_of(NEAREST, ("1.nearest_interp", "0.t_ui8", "NCHW"))
    (workaround,) = workarounds_for(context(bytes_too))
    assert workaround.program is None and workaround.delete_passes == ("onednn_placement_pass",)
    assert "nearest_interp" in workaround.sentence


@pytest.mark.parametrize(
    "changes",
    [{"version": (3, 2, 2)}, {"version": (3, 4, 0)}, {"version": ()}, {"onednn": False}, {"legacy": True}],
)
def test_nothing_is_changed_where_the_fault_is_not_met(changes: dict[str, Any]) -> None:
    assert workarounds_for(context(program_of(NEAREST), **changes)) == []


@pytest.mark.parametrize(
    "kind",
    [
        ("1.nearest_interp", "0.t_i64", "NCHW"),
        ("1.bicubic_interp", "0.t_f32", "NCHW"),
        ("1.relu", "0.t_f32", "NCHW"),
    ],
)
def test_what_onednn_leaves_alone_is_left_alone(kind: tuple[str, str, str]) -> None:
    assert workarounds_for(context(program_of(kind))) == []


def test_every_known_fault_says_what_it_is() -> None:
    for fault in KNOWN_FAULTS:
        assert fault.name and fault.versions and fault.symptom
    assert len({fault.name for fault in KNOWN_FAULTS}) == len(KNOWN_FAULTS)


def test_a_pass_for_avx512_is_left_out_where_the_processor_has_none() -> None:
    legacy = {"version": (2, 6, 2), "legacy": True, "onednn": False, "ir_optim": True}
    (workaround,) = workarounds_for(context(b"", **legacy))
    assert workaround.delete_passes == ("self_attention_fuse_pass",)
    assert workaround.about == "ir_optim" and "AVX-512" in workaround.sentence
    assert workarounds_for(context(b"", **legacy, processor=frozenset({"avx2", "avx512f"}))) == []
    assert workarounds_for(context(b"", **{**legacy, "ir_optim": False})) == []
    assert workarounds_for(context(b"", **{**legacy, "version": (3, 3, 1)})) == []


@pytest.mark.paddle2
def test_the_pass_for_avx512_is_one_of_paddles_and_a_model_runs_without_it(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = import_paddle().inference.Config()  # its pass builder does not outlive it
    config.disable_gpu()
    assert "self_attention_fuse_pass" in config.pass_builder().all_passes()
    model = zoo.directory("mlp", "legacy")
    x = np.random.default_rng(3).standard_normal((2, 16)).astype("float32")
    with paddleinfer.Engine(model, instances=1) as engine:
        expected = engine.infer({"x": x})
    monkeypatch.setattr("paddleinfer.backends.paddle.config.cpu_flags", lambda: frozenset({"avx2"}))
    with paddleinfer.Engine(model, ir_optim=True, instances=1) as engine:
        assert_close(engine.infer({"x": x}), expected)
        assert "self_attention_fuse_pass" in engine.effective_config()["ir_optim"]["note"]
    ((_, used),) = prepare(load_spec(model), EngineConfig(runtime=RuntimeOptions(ir_optim=True))).configs
    assert "self_attention_fuse_pass" not in used.pass_builder().all_passes()


@pytest.mark.parametrize("layout", ["NHWC", "NDHWC", "NWC", "NLC"])
def test_channels_last_programs_never_use_onednn(layout: str) -> None:
    program = program_of(("1.relu", "0.t_f32", "NCHW"), ("1.conv2d", "0.t_f32", layout))
    (workaround,) = workarounds_for(context(program))
    assert workaround.without_onednn and "(conv2d)" in workaround.sentence
    assert workarounds_for(context(program, onednn=False)) == []
    (only,) = workarounds_for(context(program_of(NEAREST, ("1.nearest_interp", "0.t_f32", layout))))
    assert only.without_onednn
    assert workarounds_for(context(program_of(("1.conv2d", "0.t_f32", "NCHW")))) == []


@pytest.mark.parametrize("kind", ["if", "while"])
def test_a_program_with_inner_blocks_renews_its_predictors(kind: str) -> None:
    inner = {"#": f"1.{kind}", "regions": [{"blocks": [{"ops": []}]}], "O": []}
    program = json.dumps({"program": {"regions": [{"blocks": [{"ops": [inner]}]}]}}).encode()
    (workaround,) = workarounds_for(context(program))
    assert workaround.renew_predictors and "if or while" in workaround.sentence
    assert workarounds_for(context(program, onednn=False)) == []
    assert workarounds_for(context(program_of(("1.relu", "0.t_f32", "")))) == []
    blocks = {"legacy": True, "ir_optim": True}
    assert workarounds_for(context(b"\x0a\x00", **blocks)) == []
    (workaround,) = workarounds_for(context(b"\x0a\x00\x0a\x00", **blocks))
    assert workaround.without_onednn and not workaround.renew_predictors


def export_channels_last(directory: Path, format: str) -> Path:
    paddle = import_paddle()
    nn = paddle.nn

    class Photo(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2D(3, 4, 3, padding=1, data_format="NHWC")

        def forward(self, x: Any) -> Any:
            y = nn.functional.relu(self.convolution(x))
            return nn.functional.avg_pool2d(y, 2, data_format="NHWC").mean([1, 2])

    paddle.seed(5)
    paddleinfer.export(Photo(), directory, inputs={"x": ("float32", (-1, -1, -1, 3))}, format=format)
    return directory


@pytest.mark.paddle3
@pytest.mark.parametrize("format", ["json", "legacy"])
def test_a_channels_last_model_runs_on_the_defaults_and_refuses_onednn(tmp_path: Path, format: str) -> None:
    model = export_channels_last(tmp_path / "model", format)
    x = np.random.default_rng(1).standard_normal((2, 8, 6, 3)).astype("float32")
    with paddleinfer.Engine(model, onednn=False, ir_optim=False) as engine:
        expected = engine.infer({"x": x})
    with paddleinfer.Engine(model, ir_optim=True) as engine:
        assert_close(engine.infer({"x": x}), expected)
        onednn = engine.effective_config()["onednn"]
    assert onednn["value"] is False and onednn["source"] == "auto" and "conv2d" in onednn["note"]
    with pytest.raises(
        paddleinfer.ConfigError, match=r"onednn=True is not possible .*channels-last.*onednn=False"
    ):
        paddleinfer.Engine(model, ir_optim=True, onednn=True)


@pytest.mark.paddle3
def test_where_no_file_can_be_written_less_stays_on_onednn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = export_interpolation(tmp_path / "model", "bilinear", 2, "scale")
    x = np.random.default_rng(2).standard_normal((1, 2, 3, 3)).astype("float32")
    with paddleinfer.Engine(model, instances=1) as engine:
        expected = engine.infer({"x": x})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with paddleinfer.Engine(model, instances=1) as engine:
        assert_close(engine.infer({"x": x}), expected)
        assert "only fused operators" in engine.effective_config()["onednn"]["note"]
    assert "no temporary file" in caplog.text
