"""What each stage tries follows from what there is to choose from."""

from __future__ import annotations

from typing import Any

import pytest

from paddleinfer import PadAxis
from paddleinfer.tuning.settings import STAGES, Facts, Setting

RUNTIMES, THREADS, BATCH_SIZES, HOST, PADDINGS = STAGES.values()
IN_FORCE = {"onednn": True, "instances": 2, "max_batch_size": 32, "eager_deletion": False}


def tried(stage: Any, best: Setting | None = None, **facts: Any) -> list[str]:
    return [str(one) for one in stage(Facts(**{"in_force": IN_FORCE, **facts}), best or Setting())]


def test_the_other_setting_of_onednn_and_other_backends_are_tried() -> None:
    assert tried(RUNTIMES) == ["onednn=False"]
    assert tried(RUNTIMES, in_force={"onednn": False}) == ["onednn=True"]
    assert tried(RUNTIMES, backends=("paddle", "onnxruntime", "openvino")) == [
        "onednn=False",
        "backend=onnxruntime",
        "backend=openvino",
    ]


def test_graph_passes_are_tried_on_legacy_models_with_each_setting_of_onednn() -> None:
    assert tried(RUNTIMES, legacy=True) == ["onednn=False", "ir_optim=True", "ir_optim=True, onednn=False"]


def test_what_was_given_stays_as_it_is() -> None:
    assert tried(RUNTIMES, fixed=frozenset(("onednn",)), legacy=True) == ["ir_optim=True"]
    given = frozenset(("backend", "onednn", "ir_optim"))
    assert tried(RUNTIMES, fixed=given, legacy=True, backends=("paddle", "onnxruntime")) == []
    assert tried(THREADS, fixed=frozenset(("instances",)), cores=4) == []
    assert tried(BATCH_SIZES, fixed=frozenset(("max_batch_size",))) == []
    assert tried(HOST, fixed=frozenset(("eager_deletion",))) == []


def test_on_another_backend_nothing_of_paddle_is_tried() -> None:
    in_force = {**IN_FORCE, "backend": "onnxruntime"}
    assert tried(RUNTIMES, fixed=frozenset(("backend",)), in_force=in_force) == []
    assert tried(HOST, Setting({"backend": "onnxruntime"}), amd=True) == []


@pytest.mark.parametrize(
    ("cores", "plans"),
    [
        (1, []),
        (2, ["instances=1, cpu_threads=2", "instances=1"]),
        (8, ["instances=8", "instances=1, cpu_threads=8", "instances=1", "instances=4, cpu_threads=2"]),
    ],
)
def test_cores_are_instances_or_threads_or_both(cores: int, plans: list[str]) -> None:
    assert tried(THREADS, cores=cores)[: len(plans)] == plans
    assert len(tried(THREADS, cores=cores)) >= len(plans)


def test_batches_are_tried_that_the_load_can_fill() -> None:
    sizes = [f"max_batch_size={size}" for size in (1, 4, 8, 16, 64, 128)]
    assert tried(BATCH_SIZES) == sizes
    assert tried(BATCH_SIZES, rows_at_once=64) == sizes[:5]
    assert tried(BATCH_SIZES, rows_at_once=8) == sizes[:2]
    assert tried(BATCH_SIZES, rows_at_once=1) == []
    assert tried(BATCH_SIZES, merges=False) == []


def test_mkl_is_a_choice_on_amd_without_onednn() -> None:
    assert tried(HOST, amd=True) == ["eager_deletion=True"]
    without = Setting({"onednn": False})
    assert tried(HOST, without, amd=True)[-1] == "onednn=False, mkl_amd=False"
    assert len(tried(HOST, without)) == 1


def test_multiples_of_padding_are_halved_and_doubled_and_sizes_stay() -> None:
    pads = (PadAxis({"x": 1}, multiple=16), PadAxis({"y": 1}, sizes=(8, 16)))
    stage = PADDINGS(Facts(pad=pads), Setting())
    assert [[pad.multiple for pad in one.changes["pad"]] for one in stage] == [[8, 1], [32, 1]]
    assert tried(PADDINGS) == [] and tried(PADDINGS, pad=pads[1:]) == []


def test_a_setting_says_how_far_it_is_from_the_defaults() -> None:
    onednn, backend = Setting({"onednn": False}), Setting({"backend": "onnxruntime"})
    assert [Setting().distance, onednn.distance, backend.distance] == [0, 1, 2]
    assert str(Setting()) == "defaults" and str(onednn.with_changes(onednn=None)) == "defaults"
