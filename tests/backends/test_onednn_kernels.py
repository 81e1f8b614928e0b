"""oneDNN's kernels: how many are kept, what they cost, and whose they are."""

from __future__ import annotations

import ctypes
import re
import threading
from typing import Any

import numpy as np
import pytest
from engine_helpers import assert_close
from onednn import onednn_library
from zoo import Zoo

import paddleinfer
from paddleinfer import _ext
from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.backends.processors import resident_memory_bytes


def images(rows: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 3, height, width)).astype("float32")


def test_onednn_kernels_are_emptied_after_the_stated_number_of_shapes(zoo: Zoo) -> None:
    for format in zoo.formats:
        with paddleinfer.Engine(
            zoo.directory("conv", format), ir_optim=True, onednn=True, max_onednn_shapes=5, instances=1
        ) as engine:
            before = _ext.onednn_cache_clears()
            expected = [engine.infer([images(1, 6 + i, 6)]) for i in range(20)]
            # At the second, to learn what the first needs; then at each sixth.
            assert _ext.onednn_cache_clears() - before == 4
            for i, results in enumerate(expected):
                assert_close(engine.infer([images(1, 6 + i, 6)]), results)


@pytest.mark.parametrize("driver", ["native", "python"])
def test_memory_stays_bounded_however_many_shapes_arrive(zoo: Zoo, driver: str) -> None:
    directory = zoo.directory("conv", zoo.formats[0])
    with paddleinfer.Engine(
        directory, ir_optim=True, onednn=True, driver=driver, max_onednn_shapes=8, instances=1
    ) as engine:
        onednn_library().dnnl_set_primitive_cache_capacity(
            256
        )  # has a limit of its own, which these shapes fill
        for i in range(400):
            engine.infer([images(1, 4 + i % 20, 4 + i // 20)])
        before = resident_memory_bytes()
        for i in range(400):
            engine.infer([images(2, 4 + i % 20, 4 + i // 20)])
        onednn_library().dnnl_set_primitive_cache_capacity(4096 + 1024)
        # Left to grow, Paddle adds 0.3 MB for each shape of this model.
        assert resident_memory_bytes() - before < 40e6


@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_load_leaves_the_kernels_of_other_predictors_alone(zoo: Zoo, driver: str) -> None:
    """Each of Paddle's graph passes over a legacy program would empty the whole process's kernel cache."""
    directory = zoo.directory("conv", "legacy")
    options: dict[str, Any] = {"onednn": True, "ir_optim": True, "instances": 1, "driver": driver}
    with paddleinfer.Engine(directory, **options) as running:
        expected = running.infer([images(2, 8, 8)])
        kernels = cached_kernels()
        assert kernels > 0
        with paddleinfer.Engine(directory, **options) as passing:
            assert cached_kernels() == kernels
            assert_close(passing.infer([images(2, 8, 8)]), expected)
            assert cached_kernels() > kernels
        assert cached_kernels() == kernels


def cached_kernels() -> int:
    """As Paddle counts them: phi::OneDNNContext::GetCachedObjectsNumber."""
    installed = InstalledPaddle.find()
    library = ctypes.CDLL(installed.library_path)
    get_pool, get, count = (
        library[f"_ZN{name}"]
        for name in (
            "3phi17DeviceContextPool8InstanceEv",
            "3phi17DeviceContextPool3GetERKNS_5PlaceE",
            "K3phi13OneDNNContext22GetCachedObjectsNumberEv",
        )
    )
    get_pool.restype = get.restype = ctypes.c_void_p
    context = get(ctypes.c_void_p(get_pool()), ctypes.c_void_p(installed.cpu_place_address()))
    return int(count(ctypes.c_void_p(context)))


@pytest.mark.parametrize("driver", ["native", "python"])
def test_engines_that_come_and_go_leave_others_running(zoo: Zoo, driver: str) -> None:
    directory = zoo.directory("conv", "legacy")
    x = images(2, 8, 8)
    with paddleinfer.Engine(directory, onednn=True, ir_optim=True, instances=1) as stays:
        expected = stays.infer([x])
        stop = threading.Event()
        failures: list[BaseException] = []

        def keep_calling() -> None:
            try:
                while not stop.is_set():
                    assert_close(stays.infer([x]), expected)
            except BaseException as error:
                failures.append(error)

        caller = threading.Thread(target=keep_calling)
        caller.start()
        for _ in range(25):
            with paddleinfer.Engine(
                directory, onednn=True, ir_optim=True, instances=2, driver=driver
            ) as passing:
                assert_close(passing.infer([x]), expected)
        stop.set()
        caller.join()
    assert not failures


@pytest.mark.parametrize("driver", ["native", "python"])
def test_what_the_kernels_need_and_are_worth_is_measured_and_told(zoo: Zoo, driver: str) -> None:
    directory = zoo.directory("conv", zoo.formats[0])
    with paddleinfer.Engine(directory, ir_optim=True, onednn=True, driver=driver, instances=1) as engine:
        assert "no shape has come twice" in engine.effective_config()["max_onednn_cache_bytes"]["note"]
        for i in range(12):
            for _ in range(2):  # one after the other: an emptying may lie between two rounds of all
                engine.infer([images(1, 4 + i, 6)])
        told = engine.effective_config()["max_onednn_cache_bytes"]
    assert told["value"] == 64 << 20 and told["source"] == "default"
    assert re.search(r"first shape takes [0-9.]+ MB .* further one [0-9.]+ MB", told["note"])
    assert re.search(r"repeated shape's run takes [0-9.]+ ms .* new shape's [0-9.]+ ms", told["note"])


def test_a_bound_in_bytes_holds_a_few_shapes_at_the_least(zoo: Zoo) -> None:
    directory = zoo.directory("conv", zoo.formats[0])
    options: dict[str, Any] = {"ir_optim": True, "onednn": True, "instances": 1}
    with paddleinfer.Engine(directory, max_onednn_cache_bytes=1, **options) as engine:
        expected = [engine.infer([images(1, 4 + i, 6)]) for i in range(40)]
        note = engine.effective_config()["max_onednn_cache_bytes"]["note"]
        for i, results in enumerate(expected):
            assert_close(engine.infer([images(1, 4 + i, 6)]), results)
    assert "past 2 shapes" in note
