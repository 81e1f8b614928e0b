"""Converted models in a folder: made once, noticed when damaged, and going when the folder is full."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddleinfer.backends.onnx.cache import ModelCache, default_folder
from paddleinfer.errors import EngineClosed, ModelLoadError

KEYS = [f"{number:032x}" for number in range(5)]
ROOMY = 1 << 30


def used(cache: ModelCache, key: str, data: bytes = b"a model") -> bytes:
    """Uses a model once; its bytes tell who made it."""
    with cache.holding(key, {"source": f"model {key}"}, lambda path: path.write_bytes(data) and None) as path:
        return path.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_model_is_made_once_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "cache"
    assert used(ModelCache(folder, ROOMY), KEYS[0], b"first") == b"first"
    assert used(ModelCache(folder, ROOMY), KEYS[0], b"second") == b"first"
    assert names(folder) == [KEYS[0], f"{KEYS[0]}.lock"]
    assert names(folder / KEYS[0]) == ["about.json", "model.onnx"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda directory: (directory / "model.onnx").write_bytes(b"firsT"),
        lambda directory: (directory / "model.onnx").write_bytes(b""),
        lambda directory: (directory / "model.onnx").unlink(),
        lambda directory: (directory / "about.json").unlink(),
        lambda directory: ((directory / "model.onnx").unlink(), (directory / "model.onnx").mkdir()),
        lambda directory: (
            (directory / "model.onnx").unlink(),
            (directory / "model.onnx").symlink_to("none"),
        ),
        lambda directory: ((directory / "about.json").unlink(), (directory / "about.json").mkdir()),
        lambda directory: (shutil.rmtree(directory), directory.write_bytes(b"a file")),
        lambda directory: (directory / "about.json").write_text("{"),
        lambda directory: (directory / "about.json").write_text("[1]"),
        lambda directory: (directory / "about.json").write_text("{}"),
        lambda directory: (directory / "about.json").write_bytes(b"\xff"),
    ],
)
def test_a_damaged_model_is_noticed_and_made_again(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ModelCache(tmp_path, ROOMY)
    used(cache, KEYS[0], b"first")
    damage(tmp_path / KEYS[0])  # type: ignore[operator]
    assert used(cache, KEYS[0], b"second") == b"second"
    assert "is damaged, and is made again" in caplog.text
    assert used(cache, KEYS[0], b"third") == b"second"


def test_of_threads_that_want_a_model_one_makes_it_and_the_others_wait_for_it(tmp_path: Path) -> None:
    making, go_on = threading.Event(), threading.Event()
    made: list[str] = []
    seen: list[bytes] = []

    def make(path: Path) -> None:
        made.append(threading.current_thread().name)
        making.set()
        go_on.wait()
        path.write_bytes(b"whole")

    def use() -> None:
        with ModelCache(tmp_path, ROOMY).holding(KEYS[0], {}, make, go_on.set) as path:
            seen.append(path.read_bytes())

    first = threading.Thread(target=use)
    first.start()
    making.wait()
    others = [threading.Thread(target=use) for _ in range(3)]  # that one waits lets the first go on
    for thread in others:
        thread.start()
    for thread in (first, *others):
        thread.join()
    assert len(made) == 1
    assert seen == [b"whole"] * 4


def test_a_process_that_is_killed_while_it_makes_a_model_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from paddleinfer.backends.onnx.cache import ModelCache\n"
        "def make(path):\n"
        "    path.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        f"with ModelCache(Path(sys.argv[1]), 1).holding({KEYS[0]!r}, {{}}, make): pass"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    assert len(names(tmp_path)) == 2  # the lock, and what it had begun
    assert used(ModelCache(tmp_path, ROOMY), KEYS[0]) == b"a model"
    assert names(tmp_path) == [KEYS[0], f"{KEYS[0]}.lock"]


def test_a_failed_making_leaves_nothing_and_its_error_comes_through(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.with_name("more").write_bytes(b"half")
        raise ModelLoadError("no such operator")

    with (
        pytest.raises(ModelLoadError, match="no such operator"),
        ModelCache(tmp_path, ROOMY).holding(KEYS[0], {}, make),
    ):
        pass
    assert names(tmp_path) == []


def test_who_waits_for_another_to_make_it_can_be_ended(tmp_path: Path) -> None:
    def end() -> None:
        raise EngineClosed("ended")

    def make(path: Path) -> None:
        with (
            pytest.raises(EngineClosed, match="ended"),
            ModelCache(tmp_path, ROOMY).holding(KEYS[0], {}, make, end),
        ):
            pass
        path.write_bytes(b"whole")

    with ModelCache(tmp_path, ROOMY).holding(KEYS[0], {}, make):
        pass


def test_the_least_recently_used_go_when_the_folder_is_full(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path, 3 * 1200)
    for place, key in enumerate(KEYS[:3]):
        used(cache, key, b"x" * 1000)
        os.utime(tmp_path / key, (place, place))
    used(cache, KEYS[0])  # now the second is the oldest
    used(cache, KEYS[3], b"x" * 1000)
    assert {one.key for one in cache.entries()} == {KEYS[0], KEYS[2], KEYS[3]}
    assert f"{KEYS[1]}.lock" not in names(tmp_path)


def test_a_model_in_use_stays_and_so_does_one_that_is_larger_than_the_limit(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path, 1)
    with cache.holding(KEYS[0], {}, lambda path: path.write_bytes(b"in use") and None) as path:
        assert used(cache, KEYS[1], b"x" * 1000) == b"x" * 1000
        assert path.read_bytes() == b"in use"
        removed, in_use = cache.clear()
        assert [one.key for one in removed] == [KEYS[1]] and [one.key for one in in_use] == [KEYS[0]]
    assert [one.key for one in cache.clear()[0]] == [KEYS[0]]
    assert names(tmp_path) == []


def test_clearing_removes_what_is_left_over_and_nothing_of_others(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path, ROOMY)
    used(cache, KEYS[0])
    (tmp_path / f".{KEYS[1]}-12ab").mkdir()
    (tmp_path / f"{KEYS[2]}.lock").touch()
    for name in ("notes.txt", "notes.lock", "model.onnx", ".hidden"):
        (tmp_path / name).touch()
    cache.clear()
    assert names(tmp_path) == [".hidden", "model.onnx", "notes.lock", "notes.txt"]


def test_what_other_programs_name_by_such_hashes_stays(tmp_path: Path) -> None:
    (tmp_path / KEYS[0]).mkdir()
    (tmp_path / KEYS[0] / "theirs").write_bytes(b"x" * 1000)
    (tmp_path / KEYS[1]).write_bytes(b"x" * 1000)
    (tmp_path / KEYS[2]).symlink_to("nowhere")
    theirs = names(tmp_path)
    cache = ModelCache(tmp_path, 1)
    used(cache, KEYS[3])
    assert [one.key for one in cache.entries()] == [KEYS[3]]
    assert [one.key for one in cache.clear()[0]] == [KEYS[3]]
    assert names(tmp_path) == theirs and names(tmp_path / KEYS[0]) == ["theirs"]


def test_of_a_model_that_is_a_link_the_link_alone_is_removed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    cache = ModelCache(folder, ROOMY)
    used(cache, KEYS[0], b"first")
    (folder / KEYS[0]).rename(elsewhere)
    (folder / KEYS[0]).symlink_to(elsewhere)
    assert used(cache, KEYS[0], b"second") == b"first"
    (elsewhere / "about.json").write_text("{}")
    assert used(cache, KEYS[0], b"second") == b"second"
    assert not (folder / KEYS[0]).is_symlink() and (elsewhere / "model.onnx").read_bytes() == b"first"
    (folder / KEYS[1]).symlink_to(elsewhere)
    cache.clear()
    assert names(folder) == [] and names(elsewhere) == ["about.json", "model.onnx"]


def test_entries_say_where_a_model_comes_from(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path, ROOMY)
    assert ModelCache(tmp_path / "nowhere", ROOMY).entries() == []
    used(cache, KEYS[0])
    (one,) = cache.entries()
    assert one.about["source"] == f"model {KEYS[0]}"
    assert one.size_bytes > len(b"a model") and one.path.read_bytes() == b"a model"
    for text in ("[]", "", "{"):
        (tmp_path / KEYS[0] / "about.json").write_text(text)
        assert cache.entries()[0].about == {}


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ModelLoadError, match=r"cannot be kept in .*/cache: Not a directory .*with onnx_cache"
    ):
        used(ModelCache(tmp_path / "file" / "cache", ROOMY), KEYS[0])


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (lambda path: path.touch(), "it is not a folder"),
        (lambda path: path.symlink_to("nothing"), "it is a link to nothing"),
    ],
)
def test_what_stands_in_the_folders_place_is_said(tmp_path: Path, put: Any, reason: str) -> None:
    put(tmp_path / "cache")
    with pytest.raises(ModelLoadError, match=rf"cannot be kept in .*/cache: {reason} .*with onnx_cache"):
        used(ModelCache(tmp_path / "cache", ROOMY), KEYS[0])


def test_a_folder_whose_name_is_no_utf_8_is_refused_before_the_model_is_blamed(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with pytest.raises(
        ModelLoadError, match=r"cannot be kept in .*only to paths in UTF-8; name another folder"
    ):
        used(ModelCache(folder, ROOMY), KEYS[0])


def test_a_model_that_nothing_can_load_is_removed_unless_it_is_in_use(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path, ROOMY)
    with cache.holding(KEYS[0], {}, lambda path: path.write_bytes(b"x") and None) as path:
        cache.remove(path)
        assert path.exists()
    cache.remove(path)
    assert names(tmp_path) == []


def test_a_full_folder_is_one_sentence_and_nothing_stays(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with (
        pytest.raises(ModelLoadError, match=r"No space left on device .*; free some space there, or name"),
        ModelCache(tmp_path, ROOMY).holding(KEYS[0], {}, make),
    ):
        pass
    assert names(tmp_path) == []


def test_an_error_of_who_uses_the_model_is_left_alone(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="of the user"),
        ModelCache(tmp_path, ROOMY).holding(KEYS[0], {}, lambda path: path.write_bytes(b"x") and None),
    ):
        raise OSError("of the user")
    used(ModelCache(tmp_path, ROOMY), KEYS[0])


@contextlib.contextmanager
def as_somebody_else() -> Iterator[None]:
    """As a user without rights, if this is root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_only_be_read_serves_what_it_has() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        cache = ModelCache(folder, ROOMY)
        used(cache, KEYS[0], b"first")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            with as_somebody_else():
                assert used(cache, KEYS[0], b"second") == b"first"
                with pytest.raises(ModelLoadError, match=r"cannot be kept in .*Permission denied"):
                    used(cache, KEYS[1])
        finally:
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o700)


def test_the_folder_is_among_the_users_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "paddleinfer" / "onnx"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home/.cache/paddleinfer/onnx"


def test_a_user_without_a_home_is_told_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ModelLoadError, match="this user has no home; name one with onnx_cache"):
        default_folder()


def test_about_is_plain_json_with_the_hash(tmp_path: Path) -> None:
    used(ModelCache(tmp_path, ROOMY), KEYS[0])
    about = json.loads((tmp_path / KEYS[0] / "about.json").read_text())
    assert set(about) == {"source", "sha256"} and len(about["sha256"]) == 64
