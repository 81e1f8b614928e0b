"""Engines that those in a process share who ask for the same model with the same options."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import eventually, run_threads
from zoo import Zoo

import paddleinfer
from paddleinfer import EngineConfig
from paddleinfer.engine.sharing import lease_engine

OPTIONS = EngineConfig.from_options({"instances": 1})
X = np.ones((1, 16), "float32")


@pytest.fixture
def model(zoo: Zoo) -> Path:
    return zoo.directory("mlp", zoo.formats[0])


def test_equal_options_over_one_model_share_an_engine(model: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(model)
    one = lease_engine(model, OPTIONS)
    leases = [lease_engine(link, EngineConfig.from_options({"instances": 1})), one.another()]
    other = lease_engine(model, EngineConfig.from_options({"instances": 1, "max_batch_size": 8}))
    try:
        assert all(lease.engine is one.engine for lease in leases)
        assert other.engine is not one.engine
    finally:
        for lease in (one, other, *leases):
            lease.close()


def test_an_engine_closes_with_the_last_who_uses_it(model: Path) -> None:
    one = lease_engine(model, OPTIONS)
    two = lease_engine(model, OPTIONS)
    engine = one.engine
    one.close()
    one.close()
    assert one.closed and not two.closed
    for use in (lambda: one.engine, one.another):
        with pytest.raises(paddleinfer.EngineClosed, match="is closed; ask for another one"):
            use()
    assert two.engine.infer({"x": X})
    two.close()
    assert engine.closed
    with_new_engine = lease_engine(model, OPTIONS)
    assert with_new_engine.engine is not engine
    with_new_engine.close()


def test_a_lease_that_nobody_refers_to_has_ended(model: Path) -> None:
    dropped, kept = lease_engine(model, OPTIONS), lease_engine(model, OPTIONS)
    core = kept.engine._generation.core
    del dropped
    gc.collect()
    assert not core.closed
    last = kept.another()
    kept.close()
    assert not core.closed
    del last
    assert eventually(lambda: core.closed)


def test_changed_files_get_an_engine_of_their_own(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    before = lease_engine(copy, OPTIONS)
    for file in copy.iterdir():
        os.utime(file)
    after = lease_engine(copy, OPTIONS)
    try:
        assert after.engine is not before.engine
        assert before.engine.infer({"x": X}) and after.engine.infer({"x": X})
    finally:
        before.close()
        after.close()


def test_threads_that_ask_at_once_get_the_same(model: Path) -> None:
    leases = []
    run_threads(8, lambda _: leases.append(lease_engine(model, OPTIONS)))
    try:
        assert len(leases) == 8 and len({id(lease.engine) for lease in leases}) == 1
    finally:
        for lease in leases:
            lease.close()


def test_a_model_that_cannot_be_opened_is_refused_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(paddleinfer.ModelLoadError, match="is empty"):
            lease_engine(tmp_path, OPTIONS)
