"""An honest client beside the bombs: it asks for the health route on and on, and notes its longest wait.

It runs in a process of its own, because the bombs' client may block its own interpreter.
``python -m benchmarks.hostile.bomb_watch PORT`` answers lines of JSON: "begin" and "end" (see `Helper`).
"""

from __future__ import annotations

import socket
import sys
import threading
import time

from benchmarks import harness

PAUSE_S = 0.001
PATIENCE_S = 120.0
_HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n"


class Watch:
    """From begin() to end() it asks."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._over = threading.Event()
        self._asking = threading.Thread(target=self._ask)
        self._longest_s = 0.0
        self._ask_once()

    def reply(self, question: str) -> float:
        """To "begin" 0, to "end" the longest wait since then, in seconds."""
        if question == "begin":
            self._longest_s = 0.0
            self._over.clear()
            self._asking = threading.Thread(target=self._ask)
            self._asking.start()
            return 0.0
        self._over.set()
        self._asking.join()
        return self._longest_s

    def _ask(self) -> None:
        while not self._over.is_set():
            self._ask_once()
            time.sleep(PAUSE_S)

    def _ask_once(self) -> None:
        begin = time.perf_counter()
        self._connection.sendall(_HEALTH)
        answer = b""
        while not answer.endswith(b"}"):
            answer += self._connection.recv(1 << 16)
        self._longest_s = max(self._longest_s, time.perf_counter() - begin)


if __name__ == "__main__":
    watch = Watch(int(sys.argv[1]))
    harness.serve(harness.answers(), watch.reply)
