"""The files of Unix sockets: whose they are, who may use them, and who removes them."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddleinfer import ConfigError
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.sockets.listener import listen
from paddleinfer.shim.sockets.unix_socket import bind_unix, check_unix, place_beside


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("given", "mode"), [({}, 0o660), ({"uds_mode": "600"}, 0o600), ({"uds_mode": "0777"}, 0o777)]
)
def test_a_socket_has_its_mode_whatever_the_umask_and_admits_the_group_by_default(
    path: Path, given: dict[str, str], mode: int
) -> None:
    listener = listen(ServerOptions(uds=str(path), **given))
    with listener.socket:
        assert mode_of(path) == mode
        assert listener.url == f"unix:{path}"
    assert os.umask(0o022) == 0o022


@pytest.mark.parametrize("mode", ["", "66", "6600", "rw-rw----", "888", "0o660"])
def test_what_is_no_mode_is_refused(mode: str) -> None:
    with pytest.raises(ConfigError, match=r"^uds_mode must be "):
        ServerOptions(uds_mode=mode)


def test_its_file_is_removed_once_and_never_another_that_has_taken_its_place(path: Path) -> None:
    listener, file = bind_unix(str(path), 0o660)
    with listener:
        file.remove()
        assert not path.exists()
        with bind_unix(str(path), 0o660)[0]:
            file.remove()
            assert path.exists()
        path.unlink()

    listener, file = bind_unix(str(path), 0o660)
    with listener:
        path.unlink()
        with bind_unix(str(path), 0o660)[0]:
            file.remove()
            assert path.exists()
        path.unlink()
    listener, file = bind_unix(str(path), 0o660)
    with listener:
        path.unlink()
        file.remove()  # somebody else has done it


def test_a_left_over_socket_is_replaced_and_one_in_use_is_not(path: Path) -> None:
    bind_unix(str(path), 0o660)[0].close()
    assert path.exists()
    listener, _ = bind_unix(str(path), 0o660)
    with listener:
        for other in (lambda: bind_unix(str(path), 0o660), lambda: check_unix(str(path))):
            with pytest.raises(OSError, match="in use"):
                other()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_server_that_does_not_accept_just_now_is_not_waited_for(path: Path) -> None:
    listener, _ = bind_unix(str(path), 0o660)
    with listener:
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            for waiting in (first, second):
                waiting.setblocking(False)
                waiting.connect_ex(str(path))
            with pytest.raises(OSError, match="in use"):
                bind_unix(str(path), 0o660)
    assert path.exists()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_is_no_socket_stays_and_is_named(path: Path, make: object) -> None:
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=f"cannot listen on {path}: there is a file that is not a socket"):
        listen(ServerOptions(uds=str(path)))
    assert path.exists()


@pytest.mark.parametrize("name", ["x" * 200, "no/such/directory", "a\0b"])
def test_a_path_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^cannot listen on "):
        listen(ServerOptions(uds=str(tmp_path / name)))


def test_where_one_can_be_it_is_said_and_nothing_is_left(path: Path) -> None:
    check_unix(str(path))
    assert not path.exists()
    beside = place_beside(str(path))
    assert Path(beside).parent == path.parent and beside != place_beside(str(path))
