"""The server under more load than it can serve, on the real clock: statuses, latencies, memory, a signal."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from pathlib import Path

import pytest
from engine_helpers import PATIENCE_S, SOON_S
from http_load import Ends, load
from http_loaded_server import CAPACITY_PER_S
from http_processes import Server, started

CONNECTIONS = 500
DEADLINE_S = 0.5
DOCUMENTED = {200, 429, 504}
SCRIPT = Path(__file__).parents[1].joinpath("support", "http_loaded_server.py")

pytestmark = pytest.mark.stress


def port_of(server: Server) -> int:
    return int(server.url.rsplit(":", 1)[1])


def resident_bytes(server: Server) -> int:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def counts_at_end(server: Server) -> dict[str, int]:
    server.process.send_signal(signal.SIGTERM)
    output, _ = server.process.communicate(timeout=PATIENCE_S)
    assert server.process.returncode == 0
    counted: dict[str, int] = json.loads(output.splitlines()[-1])
    return counted


def test_twice_the_load_that_can_be_served_gets_documented_answers(stress_seconds: float) -> None:
    with started(SCRIPT) as server:
        asyncio.run(load(port_of(server), CONNECTIONS, 2 * CAPACITY_PER_S, 3.0, DEADLINE_S))  # a warm-up
        before = resident_bytes(server)
        ends = asyncio.run(
            load(port_of(server), CONNECTIONS, 2 * CAPACITY_PER_S, stress_seconds / 2, DEADLINE_S)
        )
        grown = resident_bytes(server) / before
        counted = counts_at_end(server)
    assert set(ends.statuses) <= DOCUMENTED
    assert (ends.wrong, ends.broken) == (0, 0)
    assert ends.statuses[429] > 0 and ends.statuses[200] > 0
    # The client shares the machine's cores, so its own delays are in here.
    assert max(ends.latencies_s) < DEADLINE_S + SOON_S
    assert grown < 1.1
    assert counted["errors"] == counted["closed"] == 0


def test_a_signal_under_load_loses_no_accepted_request() -> None:
    found: list[Ends] = []
    with started(SCRIPT) as server:
        loading = threading.Thread(
            target=lambda: found.append(
                asyncio.run(load(port_of(server), 100, 2 * CAPACITY_PER_S, 3.0, DEADLINE_S))
            )
        )
        loading.start()
        loading.join(1.5)
        counted = counts_at_end(server)
        loading.join(PATIENCE_S)
    (ends,) = found
    assert set(ends.statuses) <= DOCUMENTED
    assert ends.wrong == 0
    # Whoever was accepted has its answer; a connection that was idle may be closed as its next request comes.
    assert counted["results"] == ends.statuses[200]
    assert counted["closed"] == counted["errors"] == 0
