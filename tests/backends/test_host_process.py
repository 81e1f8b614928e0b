"""Importing Paddle leaves its host's process as it was: signals, the root logger, the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_helpers import PATIENCE_S
from zoo import Zoo

# What the process is like, in one object that compares.
LOOK = """
import ctypes, logging, os, signal, sys

def handlers():
    found = {}
    for number in signal.valid_signals():
        buffer = ctypes.create_string_buffer(1024)
        ctypes.CDLL(None).sigaction(number, None, buffer)
        flags = int.from_bytes(buffer.raw[136:140], "little") & ~0x04000000  # the C library's own
        found[int(number)] = buffer.raw[:16], flags  # handler and mask
    return found

def look():
    root = logging.getLogger()
    return handlers(), dict(os.environ), list(root.handlers), root.level, sorted(vars(root)), type(os.environ)
"""

IMPORT = "from paddleinfer.backends.paddle.installed import import_paddle; import_paddle()\n"
IN_A_THREAD = """
import threading
from paddleinfer.backends.paddle.installed import import_paddle
thread = threading.Thread(target=import_paddle)
thread.start()
thread.join()
import_paddle()
"""
EXPORT_AND_LOAD = """
import paddleinfer, tempfile
described = {"x": ("float32", (-1, 2))}
directory = paddleinfer.export(lambda x: x * 2, tempfile.mkdtemp(), described, format=sys.argv[1])
paddleinfer.Engine(directory).close()
"""
# OpenMP has read Paddle's one thread before the variable went.
OPENMP = """
from pathlib import Path
library = Path(import_paddle().__path__[0], "libs", "libiomp5.so")
assert not library.exists() or ctypes.CDLL(str(library)).omp_get_max_threads() == 1
"""

# An application that handles signals in C, as faulthandler and other libraries do, and has its own logging.
APPLICATION = """
import faulthandler
faulthandler.enable()
ctypes.CDLL(None).signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
ctypes.CDLL(None).signal(int(signal.SIGBUS), ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p))
signal.signal(signal.SIGTERM, lambda *_: None)
os.environ["OMP_NUM_THREADS"] = "1"
logging.basicConfig(level=logging.WARNING)
"""


def said_by(text: str, *arguments: str | Path) -> str:
    """What a process prints that runs this text, without what Paddle may have set in this one."""
    set_by_paddle = ("CUSTOM_DEVICE_ROOT", "OMP_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
        env={name: value for name, value in os.environ.items() if name not in set_by_paddle},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    ("application", "importing"),
    [("", IMPORT + OPENMP), (APPLICATION, IN_A_THREAD), (APPLICATION, EXPORT_AND_LOAD)],
    ids=["import", "in a thread", "export and load"],
)
def test_the_process_is_as_it_was_before_paddle_was_imported(
    application: str, importing: str, zoo: Zoo
) -> None:
    text = f"{LOOK}{application}\nbefore = look()\n{importing}\nassert 'paddle' in sys.modules\n"
    compared = """
after = look()
assert before[1:] == after[1:], (before[1:], after[1:])
changed = [number for number in before[0] if before[0][number] != after[0][number]]
assert not changed, [(number, before[0][number], after[0][number]) for number in changed]
print("as it was")
"""
    assert said_by(text + compared, zoo.formats[0]).endswith("as it was\n")


def test_what_other_threads_change_meanwhile_stays() -> None:
    """Paddle's import waits in its middle, while the main thread does what servers do as they start."""
    text = f"""{LOOK}
import importlib.abc, threading
reached, go_on = threading.Event(), threading.Event()

class Pause(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "paddle.inference":  # after all that Paddle changes
            reached.set()
            assert go_on.wait(120)

sys.meta_path.insert(0, Pause())
signal.signal(signal.SIGTERM, lambda *_: print("before", flush=True))
from paddleinfer.backends.paddle.installed import import_paddle
thread = threading.Thread(target=import_paddle)
thread.start()
assert reached.wait(120)
signal.signal(signal.SIGTERM, lambda *_: print("meanwhile", flush=True))
os.environ["APPLICATION"], os.environ["OMP_NUM_THREADS"] = "mine", "7"
logging.getLogger().addHandler(logging.NullHandler())
logging.getLogger().setLevel(logging.ERROR)
go_on.set()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
print(os.environ["APPLICATION"], os.environ["OMP_NUM_THREADS"], os.environ.get("CUSTOM_DEVICE_ROOT"))
print([type(handler).__name__ for handler in logging.getLogger().handlers], logging.getLogger().level)
"""
    assert said_by(text).splitlines() == ["meanwhile", "mine 7 None", "['NullHandler'] 40"]


def test_paddles_handlers_are_in_force_at_no_time() -> None:
    """A signal is the application's at every step of the import."""
    text = f"""{LOOK}
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
import importlib.abc

def functions():
    return [handler[:8] for handler, _ in handlers().values()]

heard, before = [], functions()

class Look(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.startswith("paddle"):
            assert functions() == before, name
            os.kill(os.getpid(), signal.SIGTERM)
            names.append(name)

names = []
sys.meta_path.insert(0, Look())
from paddleinfer.backends.paddle.installed import import_paddle
import_paddle()
print(len(names) > 500, len(heard) > 0)
"""
    assert said_by(text) == "True True\n"


def test_no_signal_among_many_is_paddles() -> None:
    """They come all the while Paddle is imported, and any thread may get one, also one of NumPy's."""
    text = """
import os, signal, subprocess, sys, time
import numpy
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
flood = "import os, sys, time\\nwhile True: os.kill(int(sys.argv[1]), 15); time.sleep(0.0001)"
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
sender = subprocess.Popen([sys.executable, "-S", "-c", flood, str(os.getpid())], **quiet)
while len(heard) <= 10:
    time.sleep(0.001)
from paddleinfer.backends.paddle.installed import import_paddle
begun = len(heard)
paddle = import_paddle()
meanwhile = len(heard) - begun
paddle.base.core.init_glog("again")
sender.kill()
sender.wait()
print(meanwhile > 0)
"""
    assert said_by(text) == "True\n"
