"""What the machine lets this process use is read correctly."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddleinfer.backends import processors


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000", 1.5), ("50000 100000", 0.5)]
)
def test_a_version_2_quota_is_counted_in_cores(tmp_path: Path, text: str, cores: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert processors.cgroup_cores(tmp_path, tmp_path / "none") == cores


@pytest.mark.parametrize(("quota_us", "cores"), [("-1", None), ("200000", 2.0)])
def test_a_version_1_quota_is_counted_in_cores(tmp_path: Path, quota_us: str, cores: float | None) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(quota_us)
    (tmp_path / "cpu.cfs_period_us").write_text("100000")
    assert processors.cgroup_cores(tmp_path / "none", tmp_path) == cores


def test_no_control_group_means_no_quota(tmp_path: Path) -> None:
    assert processors.cgroup_cores(tmp_path, tmp_path) is None


def test_a_quota_below_one_core_still_gives_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "cgroup_cores", lambda: 0.3)
    assert processors.usable_cores() == 1


def test_free_memory_is_cut_by_the_control_groups_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    monkeypatch.setattr(processors, "_CGROUP2", tmp_path)
    assert processors.free_memory_bytes() == 3000
    (tmp_path / "memory.stat").write_text("anon 900\ninactive_file 500\n")
    assert processors.free_memory_bytes() == 3500
