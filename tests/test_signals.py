"""The host's signal handlers."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal, threading
from paddleinfer.installed_paddle import import_paddle

signal.signal(signal.SIGTERM, lambda *_: print("heard"))
thread = threading.Thread(target=import_paddle)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_importing_paddle_leaves_the_hosts_sigterm_handler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
