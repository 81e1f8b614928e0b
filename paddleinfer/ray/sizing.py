"""What a replica asks of Ray, and how many requests it may hold, by the options of its engine."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from paddleinfer.config import EngineConfig
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["ReplicaSize", "replica_size"]

# Of the batches of each instance one runs and one waits, or the instance has nothing to do while answers
# travel. Two more let the engine itself order and shed what waits: it knows the deadlines, and Serve's router
# does not.
_BATCHES_PER_INSTANCE = 4


@dataclass(frozen=True)
class ReplicaSize:
    """The engine of one replica, and what that replica needs."""

    config: EngineConfig
    """The options, with ``instances`` and ``device`` as they fit what Ray gives."""
    instances: int
    num_cpus: float
    num_gpus: float
    max_ongoing_requests: int
    """Requests that one replica may have at once."""


def replica_size(
    config: EngineConfig, num_cpus: float | None = None, num_gpus: float | None = None
) -> ReplicaSize:
    """Fits an engine's options and what a replica reserves to each other.

    Without ``instances`` there are as many as the CPUs allow; without `num_cpus` as many CPUs are reserved as
    the instances' threads need. On GPUs a replica has one instance for each device unless told otherwise.

    Raises
    ------
    ConfigError
        A number is not positive, or the devices are not those that Ray would give.
    """
    for name, number in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
        if number is not None and not (_is_number(number) and 0 < number < math.inf):
            raise ConfigError(f"{name} must be a number above 0, not {shown(number)}")
    devices = _devices(config, num_gpus)
    threads = config.runtime.cpu_threads
    given = config.runtime.instances
    if given != "auto":
        instances = int(given)
    else:
        instances = len(devices) if devices else max(1, int(num_cpus or 0) // threads)
    if num_cpus is None:
        num_cpus = 1.0 if devices else float(instances * threads)
    changed: dict[str, Any] = {"instances": instances, **({"device": devices} if devices else {})}
    fitted = dataclasses.replace(
        config,
        runtime=dataclasses.replace(config.runtime, **changed),
        origins={**config.origins, **dict.fromkeys(changed, "option")},
    )
    most = _BATCHES_PER_INSTANCE * instances * config.batching.most_rows
    gpus = float(len(devices)) if num_gpus is None else float(num_gpus)
    return ReplicaSize(fitted, instances, float(num_cpus), gpus, most)


def _devices(config: EngineConfig, num_gpus: float | None) -> tuple[str, ...]:
    """The GPUs of one replica as the replica sees them; none without GPUs."""
    given = config.runtime.devices
    on_gpu = given[0].startswith("gpu")
    if num_gpus is not None and not on_gpu:
        if config.gives("device"):
            raise ConfigError(f"a replica on {_as_option(given)} uses no GPU; leave num_gpus out")
        return tuple(f"gpu:{number}" for number in range(math.ceil(num_gpus)))
    if not on_gpu:
        return ()
    count = len(given) if num_gpus is None else math.ceil(num_gpus)
    seen = tuple(f"gpu:{number}" for number in range(count))
    if set(given) != set(seen):
        raise ConfigError(
            f"Ray numbers the GPUs of each replica from 0, so the device of one with {count} is "
            f"{_as_option(seen)}, not {_as_option(given)}"
        )
    return seen


def _as_option(devices: tuple[str, ...]) -> str:
    """The devices as they are written in an option."""
    return repr(",".join(devices))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
