"""What one name of a server stands for: a model, its versions, or variants that share its requests."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Final, cast

from paddleinfer.config import EngineConfig, is_int
from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError
from paddleinfer.models.spec import ModelFormat, ModelSpec, TensorSpec
from paddleinfer.sentences import shown

from ..protocol.errors import RequestError
from .latencies import Latencies
from .stage_log import StageLog
from .versions import VersionPolicy, version_directories

__all__ = [
    "VERSION",
    "ModelSource",
    "Served",
    "ServedModel",
    "check_name",
    "check_weight",
    "served_under",
    "served_version",
]

VERSION: Final = "1"
"""The version of a model that has none, for the protocol requires one. Its generation counts loads."""

_MOST_WEIGHT: Final = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_name(name: str) -> str:
    """Returns the name if a URL can contain it; raises ConfigError otherwise."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise ConfigError(
            f"a model's name is made of letters, digits, '.', '_' and '-', which {shown(name)} is not"
        )
    if name == "stats":
        raise ConfigError("a model cannot be named 'stats': /v2/models/stats is the statistics of all")
    return name


def check_weight(variant: str, weight: object) -> None:
    """Raises ConfigError, which names the variant, for what is no weight."""
    if not is_int(weight) or not 0 <= cast("int", weight) <= _MOST_WEIGHT:
        raise ConfigError(f"{variant} needs a weight from 0 to {_MOST_WEIGHT}, not {shown(weight)}")


@dataclass(frozen=True)
class ModelSource:
    """A model's path and options; the model is opened and closed with the server."""

    path: Path
    """The path that ``Engine`` gets."""
    config: EngineConfig = field(default_factory=EngineConfig)
    """The options of its engine."""
    version_policy: VersionPolicy = field(default_factory=VersionPolicy)
    """Which versions are served, where the path has no model but directories with numbers."""
    weight: int | None = None
    """For one of several variants of a name: its share of the requests is this over the sum of all."""
    pinned: bool = False
    """Whether it is never unloaded to make room for others, within ``max_loaded_bytes``."""


Served = Engine | ModelSource | Sequence[ModelSource]
"""What is served under one name."""


@dataclass(eq=False)
class ServedModel:
    """One version of a model of the server."""

    name: str
    source: ModelSource | None
    """The source; None for an engine that was given open, and that its owner closes."""
    engine: Engine | None = None
    version: str = VERSION
    label: str = ""
    """Its name in metrics and logs: the model's, and its version where the model has several."""
    weight: int | None = None
    """The weight of a variant; None: its model has none."""
    state: str = "UNAVAILABLE"
    """The state in Triton's repository index: LOADING, READY, UNLOADING or UNAVAILABLE."""
    reason: str = "not loaded yet"
    failed: bool = False
    """Whether it could not be opened: the others are served, and nobody waits for it."""
    loads_on_demand: bool = False
    """Whether the next request for it loads it, while it is not loaded."""
    dropped: bool = False
    """Whether it is no longer one of its model's versions: requests in flight end, and it is closed."""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """The lock that is held while it is loaded or unloaded."""
    is_service: bool = False
    """Its engine stands for a service, which is neither loaded nor traced."""
    waiting: int = 0
    """How many requests wait to load or unload it."""
    awaited: int = 0
    """How many requests for inference wait until it is loaded."""
    in_use: int = 0
    """How many requests for inference it has, from before they are decoded until they are encoded."""
    stage_log: StageLog = field(default_factory=StageLog)
    config: EngineConfig | None = None
    """The configuration of an engine that was opened here: the source's, or a client's."""
    spec: ModelSpec | None = None
    """What its files said when they were last read for a load on demand."""
    latencies: Latencies = field(default_factory=Latencies)
    """The durations of requests with a result, over HTTP and gRPC, from last byte to answer."""
    on_use: Callable[[ServedModel], None] | None = None
    """It is called as each request for inference begins."""
    _unused: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.label = self.label or self.name

    @property
    def ready(self) -> bool:
        """Whether it accepts requests: it is loaded, or the next one loads it."""
        return self.is_loaded or self.loads_on_demand

    @property
    def is_loaded(self) -> bool:
        """Whether a request need not wait for a load."""
        return self.engine is not None and self.state == "READY" and not self.engine.closed

    @property
    def is_kept(self) -> bool:
        """Whether it cannot be unloaded now: requests wait for it, or it is being loaded or unloaded."""
        return self.awaited > 0 or self.waiting > 0 or self.changing.locked()

    def check_accepts(self) -> None:
        """Raises RequestError 503 if requests for it would be refused."""
        if not (self.loads_on_demand or (self.engine is not None and self.state == "READY")):
            raise self.not_ready()

    def not_ready(self) -> RequestError:
        """Makes the error of a request that it does not accept."""
        return RequestError(
            HTTPStatus.SERVICE_UNAVAILABLE, f"model {self.label!r} is not ready: {self.reason}"
        )

    def open_engine(self) -> Engine:
        """Returns the engine; raises RequestError 503 while there is none.

        While the model is being unloaded, it is there for the requests that hold it.
        """
        if self.engine is None or self.state not in ("READY", "UNLOADING"):
            raise self.not_ready()
        return self.engine

    # What it is, which is known although it is not loaded

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """The inputs; raises RequestError 503 if they are not known."""
        return self.open_engine().inputs if self._described is None else self._described.inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """The outputs; raises RequestError 503 if they are not known."""
        return self.open_engine().outputs if self._described is None else self._described.outputs

    @property
    def format(self) -> ModelFormat:
        """The form of its program; raises RequestError 503 if it is not known."""
        return self.open_engine().model.format if self._described is None else self._described.format

    @property
    def _described(self) -> ModelSpec | None:
        return self.spec if self.loads_on_demand and self.engine is None else None

    @property
    def default_timeout_s(self) -> float | None:
        """The time that a request has which does not say so itself."""
        config = self.config or (None if self.source is None else self.source.config)
        return None if config is None else config.default_timeout

    # Requests that use it

    def hold(self) -> bool:
        """Keeps it loaded until let_go(); returns False while it is not loaded, or is being unloaded."""
        if self.engine is None or self.state != "READY":
            return False
        self.in_use += 1
        if self.on_use is not None:
            self.on_use(self)
        return True

    def let_go(self) -> None:
        """Ends a hold()."""
        self.in_use -= 1
        if not self.in_use:
            self._unused.set()

    async def unused(self, timeout_s: float) -> bool:
        """Waits so many seconds until nobody holds it; tells whether nobody does."""
        if self.in_use:
            self._unused.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._unused.wait(), timeout_s)
        return not self.in_use


def served_under(name: str, given: Served) -> list[ServedModel]:
    """The versions that a name stands for, the highest last.

    Raises
    ------
    ConfigError
        The name cannot stand in a URL, or what is given is nothing that can be served.
    ModelLoadError
        A version that is to be served is not there.
    """
    check_name(name)
    if isinstance(given, ModelSource):
        return _versions_of(name, given)
    if isinstance(given, Engine):
        return [ServedModel(name, None, given, state="READY", reason="")]
    if isinstance(given, list | tuple):
        return _variants_of(name, given)
    raise ConfigError(
        f"model {name!r} must be an Engine or a ModelSource, or a list of ModelSources with weights, "
        f"not {given!r}"
    )


def _versions_of(name: str, source: ModelSource) -> list[ServedModel]:
    """Of a model's directory those that are served, the highest last; of any other path the model itself."""
    chosen = source.version_policy.chosen(source.path)
    if not chosen:
        return [ServedModel(name, source)]
    return [served_version(name, source, number, path) for number, path in chosen.items()]


def served_version(name: str, source: ModelSource, number: int, path: Path) -> ServedModel:
    """Makes one version of the model in the directory of `source`."""
    return ServedModel(name, replace(source, path=path), version=str(number), label=f"{name}/{number}")


def _variants_of(name: str, sources: Sequence[ModelSource]) -> list[ServedModel]:
    """Each is a version, in this order from 1."""
    if not sources or not all(isinstance(source, ModelSource) for source in sources):
        raise ConfigError(f"the variants of model {name!r} must be ModelSources, not {shown(sources)}")
    for source in sources:
        check_weight(f"each variant of model {name!r}", source.weight)
        if version_directories(source.path):
            raise ConfigError(
                f"a variant of model {name!r} is one model, and {source.path} has versions; name one of them"
            )
    if not any(source.weight for source in sources):
        raise ConfigError(f"at least one variant of model {name!r} needs a weight above 0")
    return [
        ServedModel(name, source, version=str(number), label=f"{name}/{number}", weight=source.weight)
        for number, source in enumerate(sources, 1)
    ]
