"""Reads pages in a process of its own: ``python -m benchmarks.paddleocr.reader WAY PIPELINES``."""

from __future__ import annotations

import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"  # no network

import psutil

from benchmarks import harness
from benchmarks.paddleocr.pipelines import WAYS
from paddleinfer.demo.text_pages import drawn_pages

_MOST_THREADS = 16


def main() -> None:
    """Answers {"pages": [first, count], "threads": N} with the times, the results and the memory."""
    stream = harness.answers()
    way, pipelines = sys.argv[1], int(sys.argv[2])
    logging.getLogger("paddlex").setLevel(logging.ERROR)
    readers = [WAYS[way]() for _ in range(pipelines)]
    drawn = drawn_pages(200)
    # A predictor with oneDNN is slow on every new thread, so each reader keeps to its own.
    threads = [ThreadPoolExecutor(1) for _ in range(_MOST_THREADS)]

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        first, count = question["pages"]
        callers = question["threads"]
        pages = [drawn[number % len(drawn)] for number in range(first, first + count)]

        def read(caller: int) -> list[tuple[int, Any]]:
            own = readers[caller % len(readers)]
            return [(at, own.predict(pages[at])[0]) for at in range(caller, count, callers)]

        begin, begin_cpu = time.perf_counter(), time.process_time()
        started = [threads[caller].submit(read, caller) for caller in range(callers)]
        parts = [future.result() for future in started]
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
        results = dict(pair for part in parts for pair in part)
        return {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "resident_bytes": psutil.Process().memory_info().rss,
            "texts": [results[at]["rec_texts"] for at in range(count)],
            "scores": [[float(score) for score in results[at]["rec_scores"]] for at in range(count)],
            "boxes": [results[at]["rec_boxes"].tolist() for at in range(count)],
        }

    reply({"pages": [0, 2], "threads": pipelines})  # warms up
    print("{}", file=stream, flush=True)
    harness.serve(stream, reply)


if __name__ == "__main__":
    main()
