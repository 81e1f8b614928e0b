"""Measures what one hostile request costs: how long the server answers nobody else, and its memory.

Meanwhile another client keeps asking for the health route; its longest wait is how long the event loop stood
still, and a little more. Memory is the peak of the process's resident set above its earlier size, relative to
the size of the request, or of its answer if that is larger.

``python -m benchmarks.bench_bombs [--quick] [--json FILE] [--over http|grpc] [--only TEXT]``
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Helper, Section
from benchmarks.hostile.bomb_variants import GrpcBomb, HttpBomb, Server
from paddleinfer.shim import create_app
from paddleinfer.shim.options import ServerOptions
from tests.support.bombs import http_bombs
from tests.support.grpc_bombs import bombs as grpc_bombs

PROTOCOLS = ("http", "grpc")
ROUNDS = 5
WARM_UP = 50
MOST_FROZEN_S = 0.050
MOST_TIMES_ITS_SIZE = 4.0
SMALL_BYTES = 4 << 20
"""Memory that any request may take, however small it is."""
SHOWN = 12
# Tags of a message are counted only up to a limit, so further ones add only length.
GRPC_BYTES = (1 << 16, ServerOptions().max_grpc_message_bytes - 256)
# The pause in which the connection's own threads finish earlier work.
SETTLED_S = 0.01


def over_http() -> Iterator[HttpBomb]:
    """Yields bombs for every route."""
    return map(HttpBomb, http_bombs(create_app({}).routes))


def over_grpc() -> Iterator[GrpcBomb]:
    """Yields bombs for every method, small ones and the largest allowed. Only one is in memory at a time."""
    for size in GRPC_BYTES:
        for bomb in grpc_bombs(size):
            yield GrpcBomb(bomb, compressed=False)
            if bomb.path.endswith("Infer"):  # the same code unpacks it for all methods
                yield GrpcBomb(bomb, compressed=True)


def measure(server: Server, watch: Helper, bomb: HttpBomb | GrpcBomb) -> tuple[float, float]:
    """Returns how many seconds the server stood still, and its memory relative to the request's size."""
    time.sleep(SETTLED_S)
    before = server.forget_peak()
    watch.tell("begin")
    watch.answer()
    answer_bytes = bomb.send(server)
    watch.tell("end")
    longest_s: float = watch.answer()
    taken = max(0, server.peak() - before - SMALL_BYTES)
    return longest_s, taken / max(bomb.size_bytes, answer_bytes)


def measured(
    rounds: int, over: Collection[str], only: str
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Returns for each bomb, by name, how many ms the server stood still, and its relative memory."""
    frozen: dict[str, list[float]] = {}
    taken: dict[str, list[float]] = {}
    makers: dict[str, Callable[[], Iterator[HttpBomb | GrpcBomb]]] = {"http": over_http, "grpc": over_grpc}
    with (
        contextlib.closing(Server()) as server,
        contextlib.closing(Helper("hostile.bomb_watch", str(server.port))) as watch,
    ):
        for protocol in over:
            for bomb in itertools.islice(makers[protocol](), WARM_UP):
                bomb.send(
                    server
                )  # objects that a server makes once for all requests do not count for a single one
            for bomb in makers[protocol]():
                if only in bomb.name:
                    values = [measure(server, watch, bomb) for _ in range(rounds)]
                    frozen[bomb.name] = [1e3 * seconds for seconds, _ in values]
                    taken[bomb.name] = [times for _, times in values]
    return frozen, taken


def section(title: str, values: dict[str, list[float]], unit: str) -> Section:
    """Makes a table of the largest medians."""
    table = Section(title, ["request", unit, ""])
    for name in sorted(values, key=lambda name: statistics.median(values[name]), reverse=True)[:SHOWN]:
        table.measured(name, values[name], unit)
    table.raw = values
    return table


def main() -> None:
    """Measures, prints and writes; the module describes it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_bombs", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="one round of five")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    parser.add_argument(
        "--over", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, metavar="PROTOCOL", help="http, grpc"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="of bombs with this in their name")
    options = parser.parse_args()
    rounds = 1 if options.quick else ROUNDS
    still, taken = measured(rounds, options.over, options.only)
    if not still:
        parser.error(f"no bomb has {options.only!r} in its name")
    frozen = section("How long the server stands still", still, "ms")
    memory = section("Memory that is taken, of the request's own size", taken, "sizes")
    frozen.verdict(
        "the longest, ms", max(map(statistics.median, still.values())), at_most=1e3 * MOST_FROZEN_S
    )
    memory.verdict(
        "the most, times", max(map(statistics.median, taken.values())), at_most=MOST_TIMES_ITS_SIZE
    )
    for table in (frozen, memory):
        harness.show(table)
    print(f"\n{len(still)} requests, {rounds} rounds")
    if options.json:
        harness.write_json(
            options.json, {"frozen": frozen, "memory": memory}, {"rounds": rounds, "bombs": len(still)}
        )


if __name__ == "__main__":
    main()
