"""What a replica reserves, and how many requests it may hold."""

from __future__ import annotations

from typing import Any

import pytest

from paddleinfer import ConfigError, EngineConfig
from paddleinfer.ray.sizing import replica_size


def config(**options: Any) -> EngineConfig:
    return EngineConfig.from_options(options)


def test_without_options_a_replica_has_one_cpu_and_one_instance() -> None:
    size = replica_size(config())
    assert (size.config.runtime.instances, size.num_cpus, size.num_gpus) == (1, 1.0, 0.0)


@pytest.mark.parametrize(
    ("options", "num_cpus", "instances", "reserved"),
    [
        ({"instances": 3}, None, 3, 3.0),
        ({"instances": 3, "cpu_threads": 2}, None, 3, 6.0),
        ({}, 4, 4, 4.0),
        ({"cpu_threads": 4}, 8, 2, 8.0),
        ({"cpu_threads": 4}, 2, 1, 2.0),
        ({"cpu_threads": 4}, None, 1, 4.0),
        ({}, 0.5, 1, 0.5),
        ({"instances": 2}, 1, 2, 1.0),
    ],
)
def test_cpus_follow_the_threads_and_instances_the_cpus(
    options: dict[str, Any], num_cpus: float | None, instances: int, reserved: float
) -> None:
    size = replica_size(config(**options), num_cpus)
    assert (size.config.runtime.instances, size.num_cpus) == (instances, reserved)


@pytest.mark.parametrize(
    ("options", "num_gpus", "devices", "reserved"),
    [
        ({"device": "gpu:0"}, None, ("gpu:0",), 1.0),
        ({"device": ["gpu:0", "gpu:1"]}, None, ("gpu:0", "gpu:1"), 2.0),
        ({}, 2, ("gpu:0", "gpu:1"), 2.0),
        ({}, 0.5, ("gpu:0",), 0.5),
        ({"device": "gpu:0"}, 0.25, ("gpu:0",), 0.25),
    ],
)
def test_gpus_follow_the_devices_and_devices_the_gpus(
    options: dict[str, Any], num_gpus: float | None, devices: tuple[str, ...], reserved: float
) -> None:
    size = replica_size(config(**options), num_gpus=num_gpus)
    assert (size.config.runtime.devices, size.num_gpus, size.num_cpus) == (devices, reserved, 1.0)
    assert size.config.runtime.instances == len(devices)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 4 * 32),
        ({"instances": 2}, 4 * 2 * 32),
        ({"max_batch_size": 8}, 4 * 8),
        ({"allowed_batch_sizes": [1, 4, 16]}, 4 * 16),
    ],
)
def test_a_replica_may_hold_four_full_batches_for_each_instance(options: dict[str, Any], most: int) -> None:
    assert replica_size(config(**options)).max_ongoing_requests == most


def test_what_was_fitted_counts_as_given() -> None:
    fitted = replica_size(config(max_batch_size=8), num_cpus=2).config
    assert fitted.gives("instances") and fitted.gives("max_batch_size") and not fitted.gives("device")


@pytest.mark.parametrize(
    ("options", "given", "says"),
    [
        ({}, {"num_cpus": 0}, "num_cpus must be a number above 0, not 0"),
        ({}, {"num_cpus": "2"}, "num_cpus must be a number above 0, not '2'"),
        ({}, {"num_gpus": True}, "num_gpus must be a number above 0, not True"),
        ({"device": "gpu:1"}, {}, "the device of one with 1 is 'gpu:0', not 'gpu:1'"),
        ({"device": ["gpu:0", "gpu:1"]}, {"num_gpus": 1}, "with 1 is 'gpu:0', not 'gpu:0,gpu:1'"),
        ({"device": "cpu"}, {"num_gpus": 1}, "a replica on 'cpu' uses no GPU; leave num_gpus out"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replica_size(config(**options), **given)
