"""The steps of deploy/Dockerfile without Docker: its second stage, and its command line in a sandbox.

The sandbox has this machine's system folders, but no other: as in a container the server is process 1, of the
image's user, and everything but its mounts is read-only.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deploy_files import ROOT, Image
from engine_helpers import PATIENCE_S
from system_tools import need

PLACE = "/opt/paddleinfer"
INSTALL_S = 600
_SYSTEM = ("bin", "sbin", "lib", "lib64")
_INSTALL = """
set -e
test -x {place}/bin/pip || {python} -m venv {place}
{place}/bin/pip --quiet install --constraint /constraints.txt "{wheel}[cpu,{extras}]"
{place}/bin/pip --quiet install --no-deps --force-reinstall "{wheel}"
"""


def install(wheel: Path, environment: Path, extras: str) -> None:
    """Installs the wheel as the image does; what has been downloaded before stays."""
    environment.mkdir(parents=True, exist_ok=True)
    python = Path(sys.executable).resolve()
    script = _INSTALL.format(place=PLACE, python=python, wheel=f"/wheels/{wheel.name}", extras=extras)
    mounts = [
        *_mount("--bind", environment, PLACE),
        *_mount("--ro-bind", wheel.parent, "/wheels"),
        *_mount("--ro-bind", ROOT / "constraints.txt", "/constraints.txt"),
    ]
    done = subprocess.run(
        [*_system(), *mounts, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


class Container:
    """A command of the image, in its sandbox.

    Parameters
    ----------
    environment
        The folder of the installed wheel.
    mounts
        Path in the sandbox -> folder, which is read-only.
    writable
        Path in the sandbox -> folder that belongs to the image's user there.
    """

    def __init__(
        self, image: Image, environment: Path, mounts: Mapping[str, Path], writable: Mapping[str, Path]
    ) -> None:
        self.image = image
        self.user, self.group = (int(part) for part in image.user.split(":"))
        self._mounts = _mount("--ro-bind", environment, PLACE)
        for path, folder in mounts.items():
            self._mounts += _mount("--ro-bind", folder, path)
        for path, folder in writable.items():
            self._mounts += _mount("--bind", folder, path)
            if os.getuid() == 0:
                os.chown(folder, self.user, self.group)

    def command(self, arguments: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        given = {**self.image.environment, **variables}
        path = given.pop("PATH").replace("$PATH", "/usr/bin:/bin")
        settings = {"PATH": path, "HOME": "/home/paddleinfer", **given}
        as_user = ["--unshare-user", "--uid", str(self.user), "--gid", str(self.group)]
        become: list[str] = []
        if os.getuid() == 0:  # a user of its own, which root is not in a namespace of users
            as_user = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
            become = ["setpriv", f"--reuid={self.user}", f"--regid={self.group}", "--clear-groups"]
            become += ["--no-new-privs"]
        return [
            *(*_system(), *as_user, "--as-pid-1", *self._mounts),
            *_folder(Path("/home/paddleinfer")),
            *("--remount-ro", "/", "--clearenv"),
            *(part for name, value in settings.items() for part in ("--setenv", name, value)),
            *(*become, *arguments),
        ]

    def run(self, arguments: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(arguments, variables),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    @contextlib.contextmanager
    def serving(self, variables: Mapping[str, str]) -> Iterator[RunningServer]:
        """The image's own command line, once it serves."""
        reads, writes = os.pipe()
        command = self.command([*self.image.entrypoint, *self.image.command], variables)
        process = subprocess.Popen(
            [command[0], "--info-fd", str(writes), *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=(writes,),
        )
        os.close(writes)
        try:
            with open(reads) as told:
                yield RunningServer(process, json.load(told)["child-pid"])
        finally:
            process.kill()
            process.communicate()


class RunningServer:
    """The server in its sandbox: its lines until it served, and its number outside."""

    def __init__(self, process: subprocess.Popen[str], number: int) -> None:
        self.process = process
        self.number = number
        self.lines: list[str] = []
        killer = threading.Timer(PATIENCE_S, process.kill)
        killer.daemon = True
        killer.start()
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip())
            if "serves on http" in line:
                killer.cancel()
                return
        raise AssertionError(f"it did not start: {self.lines}")

    def ends_by(self, signal: int) -> tuple[int, str]:
        """Its exit code, and what it still wrote."""
        os.kill(self.number, signal)
        written, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, written


def _system() -> list[str]:
    """What both stages have of this machine: its programs, its libraries, its settings, and this Python."""
    command = [need("bwrap", "bubblewrap"), "--unshare-pid", "--die-with-parent", "--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            command += ["--ro-bind", str(path), str(path)]
    command += ["--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev"]
    command += ["--perms", "1777", "--tmpfs", "/tmp"]
    prefix = Path(sys.executable).resolve().parents[1]
    if not prefix.is_relative_to("/usr"):
        command += _mount("--ro-bind", prefix, prefix)
    return command


def _mount(how: str, source: Path, path: str | Path) -> list[str]:
    return [*_folder(Path(path).parent), how, str(source), str(path)]


def _folder(path: Path) -> list[str]:
    """It and those that it is in, which only root could open otherwise."""
    folders = [each for each in (*reversed(path.parents), path) if each != Path("/")]
    return [part for each in folders for part in ("--perms", "0755", "--dir", str(each))]
