"""Where the time goes, and what follows: on made-up requests, and on engines that are bound on purpose."""

from __future__ import annotations

import time

import pytest
from engine_helpers import double, engine_of, rows

import paddleinfer
from paddleinfer.diagnosis import Diagnosis, diagnose
from paddleinfer.settings import Settings
from paddleinfer.trace import TracedRequest, TracedRun

US = 1_000


def requests(count: int, **stages_us: int) -> list[TracedRequest]:
    """Requests whose stages take so many microseconds."""
    made = []
    for number in range(1, count + 1):
        instants = [1_000 * US]
        for stage in ("submit", "queue", "gather", "run", "scatter", "deliver"):
            instants.append(instants[-1] + stages_us.get(stage, 1) * US)
        made.append(TracedRequest(number, 1, *instants, hold_ns=0, rows=1, outcome="result"))
    return made


def runs(sizes: dict[int, int], count: int = 5) -> list[TracedRun]:
    """Runs of so many rows -> microseconds each."""
    return [
        TracedRun(number, 0, 0, 0, us * US, us * US, size, size, size, 0, "idle", False)
        for number, (size, us) in enumerate(list(sizes.items()) * count, start=1)
    ]


def diagnosed(
    traced: list[TracedRequest],
    ran: list[TracedRun],
    *,
    outer_us: dict[str, list[float]] | None = None,
    instances: int = 1,
    cores: int = 1,
    legacy: bool = False,
) -> Diagnosis:
    settings = Settings()
    settings.put("instances", instances, "option")
    settings.put("ir_optim", False, "default")
    return diagnose(traced, ran, outer_us or {}, settings, cores, legacy)


@pytest.mark.parametrize(
    ("stage", "verdict"),
    [
        ("submit", "communication-bound"),
        ("deliver", "communication-bound"),
        ("queue", "queue-bound"),
        ("run", "computation-bound"),
        ("scatter", "computation-bound"),
    ],
)
def test_the_group_that_takes_most_binds(stage: str, verdict: str) -> None:
    diagnosis = diagnosed(requests(10, **{stage: 500}), runs({1: 500}))
    assert diagnosis.verdict == verdict
    assert f"most of it {stage} (500 us a request)" in diagnosis.evidence
    assert sum(diagnosis.shares.values()) == pytest.approx(1)
    assert diagnosis.advice


def test_what_a_server_adds_counts_as_communication() -> None:
    traced = requests(4, run=100)
    assert diagnosed(traced, runs({1: 100})).verdict == "computation-bound"
    outer_us = {"decode": [80.0] * 4, "encode": [60.0] * 4}
    diagnosis = diagnosed(traced, runs({1: 100}), outer_us=outer_us)
    assert diagnosis.verdict == "communication-bound"
    assert [stage.stage for stage in diagnosis.stages][:2] == ["decode", "submit"]


def test_the_gain_of_larger_batches_is_what_their_runs_give() -> None:
    diagnosis = diagnosed(requests(5, run=100), runs({1: 100, 4: 100}))
    # 5 rows in 200 us now, 4 in 100 then.
    assert "runs have 2.5 rows on average, and those of 4 rows give 1.6 times" in diagnosis.advice[0]


def test_idle_cores_are_worth_instances() -> None:
    diagnosis = diagnosed(requests(5, run=100), runs({1: 100}), cores=4)
    assert "instances=4 gives up to 4.0 times" in diagnosis.advice[0]
    diagnosis = diagnosed(requests(5, run=100), runs({1: 100}), instances=4, cores=4)
    assert "a GPU, or more cores" in diagnosis.advice[0]


def test_a_legacy_model_without_passes_is_told_of_them() -> None:
    assert "ir_optim=True" in diagnosed(requests(5, run=100), runs({1: 100}), legacy=True).advice[-1]


def test_nothing_is_known_before_the_first_result_and_without_records() -> None:
    with engine_of() as engine:
        assert engine.diagnose().verdict == "unknown" and "no request" in str(engine.diagnose())
    with (
        engine_of(trace_requests=0) as engine,
        pytest.raises(paddleinfer.ConfigError, match="trace_requests=0"),
    ):
        engine.diagnose()


def test_a_flooded_engine_is_queue_bound_and_a_slow_lone_model_computation_bound() -> None:
    """Real clock: the model sleeps, so that the shares are far apart."""

    def slow(inputs: dict[str, object]) -> object:
        time.sleep(0.02)
        return double(inputs)  # type: ignore[arg-type]

    with engine_of(slow, batchable=False) as engine:
        engine.infer({"x": rows()})
        assert engine.diagnose().verdict == "computation-bound"
    with engine_of(slow, batchable=False) as engine:
        futures = [engine.submit({"x": rows()}) for _ in range(60)]
        for future in futures:
            future.result()
        diagnosis = engine.diagnose()
    assert diagnosis.verdict == "queue-bound" and diagnosis.requests == 60
    assert "queue" in diagnosis.evidence
