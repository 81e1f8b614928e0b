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
    output = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True, timeout=120)
    assert output == "heard\n"
