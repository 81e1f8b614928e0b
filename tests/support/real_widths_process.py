"""Serves lines of as many widths as the first argument says, and prints what that took of memory.

``real_widths_process.py WIDTHS DIRECTORY``: JSON of the bytes grown, and of the bound in force.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from real_pictures import line

import paddleinfer
from paddleinfer.backends.processors import resident_memory_bytes

THREADS = 4
FIRST = 32


def main() -> None:
    widths, directory = int(sys.argv[1]), sys.argv[2]
    with paddleinfer.Engine(directory) as engine, ThreadPoolExecutor(THREADS) as threads:

        def ask(width: int) -> None:
            engine.infer([line(width, 0)])

        list(threads.map(ask, [FIRST + widths] * 2 * THREADS))  # the largest, on every instance
        before = resident_memory_bytes()
        list(threads.map(ask, range(FIRST, FIRST + widths)))
        bound = engine.effective_config()["max_onednn_cache_bytes"]["value"]
        print(json.dumps({"grown": resident_memory_bytes() - before, "bound": bound}))


if __name__ == "__main__":
    main()
