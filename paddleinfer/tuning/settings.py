"""Which settings are tried: stage by stage, each around the best of the stages before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from paddleinfer.config import PadAxis

__all__ = ["STAGES", "Facts", "Setting"]

_BATCH_SIZES = (1, 4, 8, 16, 64, 128)
_MOST_THREAD_PLANS = 5


@dataclass(frozen=True)
class Setting:
    """Options that differ from those that the search began with."""

    changes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{name}={_text(value)}" for name, value in self.changes.items()) or "defaults"

    @property
    def distance(self) -> int:
        """How far it is from the defaults: one for each option, and one more for another backend."""
        return len(self.changes) + ("backend" in self.changes)

    def with_changes(self, **changes: Any) -> Setting:
        """Returns this setting with further changes; None takes one back."""
        merged = {**self.changes, **changes}
        return Setting({name: value for name, value in merged.items() if value is not None})


@dataclass(frozen=True)
class Facts:
    """What there is to choose from."""

    backends: tuple[str, ...] = ("paddle",)
    """Those that are installed and may run the model."""
    legacy: bool = False
    """Whether graph passes are an option's choice: the model is a legacy program."""
    cores: int = 1
    """Those that the process may use."""
    amd: bool = False
    """Whether the processor is AMD's."""
    rows_at_once: int | None = None
    """The most rows that can wait at once, by the load; None if nothing limits them."""
    merges: bool = True
    """Whether requests may share a run."""
    pad: tuple[PadAxis, ...] = ()
    """The axes that are padded."""
    fixed: frozenset[str] = frozenset()
    """Options that the caller gave, which stay as they are."""
    in_force: Mapping[str, Any] = field(default_factory=dict)
    """Option -> what the defaults came to for this model."""

    def backend_of(self, setting: Setting) -> str:
        """Returns the backend of a setting."""
        return str(setting.changes.get("backend", self.in_force.get("backend", "paddle")))

    def free(self, *options: str) -> bool:
        """Tells whether none of these options was given."""
        return not self.fixed.intersection(options)


def runtimes(facts: Facts, best: Setting) -> list[Setting]:
    """Other backends, and Paddle with the other setting of oneDNN and of its graph passes."""
    found: list[Setting] = []
    flips: list[dict[str, Any]] = []
    if facts.free("onednn"):
        flips.append({"onednn": not facts.in_force.get("onednn", True)})
    if facts.free("ir_optim") and facts.legacy:
        # Without passes a legacy program runs without oneDNN's kernels, so oneDNN is flipped with them, too.
        flips += [{"ir_optim": True}, *({"ir_optim": True, **flip} for flip in flips)]
    if facts.backend_of(best) == "paddle":
        found += [best.with_changes(**flip) for flip in flips]
    if facts.free("backend"):
        found += [Setting({"backend": name}) for name in facts.backends if name != "paddle"]
    return found


def threads(facts: Facts, best: Setting) -> list[Setting]:
    """Cores as instances, as threads of one instance, and between."""
    if not facts.free("instances", "cpu_threads") or facts.cores == 1:
        return []
    cores = facts.cores
    plans = [(cores, 1), (1, cores), (1, 1), (max(1, cores // 2), 2), (2, cores // 2)]
    usual = (facts.in_force.get("instances", cores), 1)
    found = []
    for instances, each in dict.fromkeys(plans):
        if (instances, each) != usual and instances * each <= cores:
            found.append(best.with_changes(instances=instances, cpu_threads=each if each > 1 else None))
    return found[:_MOST_THREAD_PLANS]


def batch_sizes(facts: Facts, best: Setting) -> list[Setting]:
    """Smaller and larger batches, as far as the load can fill them."""
    if not facts.merges or not facts.free("max_batch_size", "allowed_batch_sizes", "preferred_batch_sizes"):
        return []
    usual = facts.in_force.get("max_batch_size", 32)
    most = facts.rows_at_once
    sizes = [size for size in _BATCH_SIZES if size != usual and (most is None or size <= most)]
    if most is not None and most <= usual:
        sizes = [size for size in sizes if size < most]  # more than all that wait is like the usual size
    return [best.with_changes(max_batch_size=size) for size in sizes]


def host(facts: Facts, best: Setting) -> list[Setting]:
    """Settings of the whole process, which act on Paddle."""
    if facts.backend_of(best) != "paddle":
        return []
    found = []
    if facts.free("eager_deletion"):
        found.append(best.with_changes(eager_deletion=not facts.in_force.get("eager_deletion", False)))
    uses_mkl = best.changes.get("onednn", facts.in_force.get("onednn", True)) is False
    if facts.free("mkl_amd") and uses_mkl and facts.amd:
        found.append(best.with_changes(mkl_amd=False))
    return found


def paddings(facts: Facts, best: Setting) -> list[Setting]:
    """Half and double the multiples to which axes are padded."""
    found = []
    for factor in (0.5, 2.0):
        pads = tuple(_scaled(pad, factor) for pad in facts.pad)
        if pads != facts.pad:
            found.append(best.with_changes(pad=pads))
    return found


def _scaled(pad: PadAxis, factor: float) -> PadAxis:
    multiple = int(pad.multiple * factor)
    return replace(pad, multiple=multiple) if not pad.sizes and multiple > 1 else pad


STAGES: Mapping[str, Callable[[Facts, Setting], Iterable[Setting]]] = {
    "backend, oneDNN and graph passes": runtimes,
    "instances and threads": threads,
    "batch size": batch_sizes,
    "settings of the process": host,
    "padding": paddings,
}
"""What each stage is about -> what it tries, around the best so far."""


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(f"multiples of {pad.multiple}" for pad in value)
    return str(value)
