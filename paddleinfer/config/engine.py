"""All options of an engine, grouped or as keywords."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from paddleinfer.config.batching import BatchingKeywords, BatchingOptions
from paddleinfer.config.checks import (
    check_bool,
    check_choice,
    check_int,
    check_timeout,
    checked_file,
    checked_origins,
    checked_shapes,
)
from paddleinfer.config.runtime import RuntimeKeywords, RuntimeOptions
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["EngineConfig", "EngineOptions", "option_names"]

CheckLoad = Literal["auto", "here", "process"]

CHECKS_OF_LOADS = ("auto", "here", "process")
Origin = Literal["option", "tuned"]
ORIGINS = ("option", "tuned")
# How many characters of an unknown name are compared with the options' names.
_MOST_COMPARED = 100


class EngineOptions(RuntimeKeywords, BatchingKeywords, total=False):
    """Every option of an engine as a keyword of ``Engine(path, **options)``, for type checkers.

    RuntimeOptions, BatchingOptions and EngineConfig describe each one, its default and its limits.
    """

    strict_dtypes: bool
    check: bool
    example_shapes: Mapping[str, Sequence[int]]
    verify_inputs: str | os.PathLike[str] | None
    check_load: CheckLoad
    warmup: bool
    default_timeout: float | None
    max_memory_bytes: int | None
    trace_requests: int
    cache_bytes: int
    tuning_file: str | os.PathLike[str] | None


@dataclass(frozen=True)
class EngineConfig:
    """All options of an engine, grouped.

    Raises
    ------
    ConfigError
        An option is out of range; the sentence says what would be right.
    """

    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    """What Paddle is told, and how its predictors are driven."""
    batching: BatchingOptions = field(default_factory=BatchingOptions)
    """How requests are merged."""
    strict_dtypes: bool = False
    """Refuse every conversion of an input's dtype."""
    check: bool = True
    """Run a row of made-up values at load where input sizes are known, and refuse a model that fails."""
    example_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Input -> its sizes beyond the rows, for the check at load and for warm-ups."""
    verify_inputs: str | None = None
    """A file of arrays on which another backend's answers are compared with Paddle's; None makes some up."""
    check_load: CheckLoad = "auto"
    """"process" tries a load in another process first, "here" does not; "auto" does in a serving server."""
    warmup: bool = False
    """Run every batch size on every instance before the engine is ready."""
    default_timeout: float | None = None
    """Seconds from submission to result for calls that give no ``timeout``; None waits."""
    max_memory_bytes: int | None = None
    """Bytes that this process may have in memory once a model is loaded, by estimate; None: any number."""
    trace_requests: int = 4096
    """How many recent requests, and runs, to remember for ``Engine.diagnose``; 0 records nothing at all."""

    cache_bytes: int = 0
    """Bytes of results to keep for requests that are equal in every byte; 0 keeps none."""
    tuning_file: str | None = "auto"
    """A file of ``paddleinfer tune``: "auto" is paddleinfer.toml beside the model, if there; None is none."""
    origins: Mapping[str, Origin] = field(
        default_factory=dict, repr=False, compare=False, metadata={"is_option": False}
    )
    """Option -> who gave it, also where it equals the default. It is no option; ``from_options`` fills it."""

    def __post_init__(self) -> None:
        if not isinstance(self.runtime, RuntimeOptions):
            raise ConfigError(f"runtime must be RuntimeOptions, not {shown(self.runtime)}")
        if not isinstance(self.batching, BatchingOptions):
            raise ConfigError(f"batching must be BatchingOptions, not {shown(self.batching)}")
        check_bool("strict_dtypes", self.strict_dtypes)
        check_bool("check", self.check)
        check_choice("check_load", self.check_load, CHECKS_OF_LOADS)
        check_bool("warmup", self.warmup)
        object.__setattr__(self, "example_shapes", checked_shapes(self.example_shapes))
        object.__setattr__(self, "verify_inputs", checked_file("verify_inputs", self.verify_inputs))
        check_timeout("default_timeout", self.default_timeout)
        if self.max_memory_bytes is not None:
            check_int("max_memory_bytes", self.max_memory_bytes, 1, 1 << 50)
        check_int("trace_requests", self.trace_requests, 0, 10_000_000)
        check_int("cache_bytes", self.cache_bytes, 0, 1 << 50)
        object.__setattr__(self, "tuning_file", checked_file("tuning_file", self.tuning_file))
        object.__setattr__(self, "origins", checked_origins(self.origins, option_names(), ORIGINS))

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], origins: Mapping[str, Origin] | None = None
    ) -> EngineConfig:
        """The flat keywords of ``Engine(path, **options)``, sorted into their groups.

        Without `origins` all of them count as given by the caller.
        """
        groups: dict[str, dict[str, Any]] = {"runtime": {}, "batching": {}, "engine": {}}
        places = option_names()
        for name, value in options.items():
            if name not in places:
                close = difflib.get_close_matches(name[:_MOST_COMPARED], places, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ConfigError(f"there is no option {shown(name)}{hint}")
            groups[places[name]][name] = value
        return cls(
            runtime=RuntimeOptions(**groups["runtime"]),
            batching=BatchingOptions(**groups["batching"]),
            **groups["engine"],
            origins=dict.fromkeys(options, "option") if origins is None else origins,
        )

    def gives(self, name: str) -> bool:
        """Tells whether the caller gave this option: by name, or as a value that is not the default."""
        return name in self.origins or self.flat()[name] != EngineConfig().flat()[name]

    def flat(self) -> dict[str, Any]:
        """Option name -> value, over all groups."""
        own = {name: getattr(self, name) for name, group in option_names().items() if group == "engine"}
        return {
            **{f.name: getattr(self.runtime, f.name) for f in dataclasses.fields(self.runtime)},
            **{f.name: getattr(self.batching, f.name) for f in dataclasses.fields(self.batching)},
            **own,
        }


def option_names() -> dict[str, str]:
    """Option name -> "runtime", "batching" or "engine"."""
    names = {f.name: "runtime" for f in dataclasses.fields(RuntimeOptions)}
    names.update({f.name: "batching" for f in dataclasses.fields(BatchingOptions)})
    own = (
        f.name
        for f in dataclasses.fields(EngineConfig)
        if f.name not in ("runtime", "batching") and f.metadata.get("is_option", True)
    )
    names.update(dict.fromkeys(own, "engine"))
    return names
