"""The engines of a service, by name, as its functions call them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import listed, shown
from paddleinfer.serve.observing import telling
from paddleinfer.serve.run import CURRENT, Run

if TYPE_CHECKING:
    from paddleinfer.engine.engine import Engine

__all__ = ["EngineOfService", "Engines"]


class EngineOfService:
    """An engine as a service's functions see it: all of an Engine, with the request's deadline and priority.

    ``infer`` and ``ainfer`` end with the request's deadline, and while ``infer`` waits another function of
    the service may run.
    """

    __slots__ = ("_engine", "_name")

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    def infer(
        self,
        inputs: Any,
        *,
        timeout: float | None = None,
        outputs: Sequence[str] | None = None,
        priority: int | None = None,
        return_info: bool = False,
    ) -> Any:
        """As ``Engine.infer``; without a `priority` it has the request's."""
        run = CURRENT.get()
        options = _options(run, outputs, priority, return_info)
        if run is None:
            return self._engine.infer(inputs, timeout=timeout, **options)
        with run.waiting():
            options["timeout"] = run.timeout_s(timeout)
            if run.observer is None:
                return self._engine.infer(inputs, **options)
            options["return_info"] = True
            with telling(run.observer, self._name) as end:
                results, info = self._engine.infer(inputs, **options)
                end(info)
            return (results, info) if return_info else results

    async def ainfer(
        self,
        inputs: Any,
        *,
        timeout: float | None = None,
        outputs: Sequence[str] | None = None,
        priority: int | None = None,
        return_info: bool = False,
    ) -> Any:
        """As ``Engine.ainfer``; without a `priority` it has the request's."""
        run = CURRENT.get()
        options = _options(run, outputs, priority, return_info)
        if run is None:
            return await self._engine.ainfer(inputs, timeout=timeout, **options)
        run.begin_wait("infer")
        try:
            options["timeout"] = run.timeout_s(timeout)
            if run.observer is None:
                return await self._engine.ainfer(inputs, **options)
            options["return_info"] = True
            with telling(run.observer, self._name) as end:
                results, info = await self._engine.ainfer(inputs, **options)
                end(info)
            return (results, info) if return_info else results
        finally:
            run.end_wait()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __repr__(self) -> str:
        return repr(self._engine)


def _options(
    run: Run | None, outputs: Sequence[str] | None, priority: int | None, return_info: bool
) -> dict[str, Any]:
    options: dict[str, Any] = {"outputs": outputs, "return_info": return_info}
    if priority is not None:
        options["priority"] = priority
    elif run is not None:
        options["priority"] = run.priority
    return options


class Engines:
    """Engines by name: ``engines.det``, or ``engines["det"]`` for a name that is no identifier.

    A mapping that gives another engine for a name later, as a server's does after a reload, is asked anew
    each time.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    def __getitem__(self, name: str) -> EngineOfService:
        try:
            return EngineOfService(self._engines[name], name)
        except KeyError:
            raise ConfigError(
                f"the service has no engine {shown(name)}; its engines are {listed(self._engines)}"
            ) from None

    def __getattr__(self, name: str) -> EngineOfService:
        if name.startswith("_") or name not in self._engines:
            raise AttributeError(
                f"the service has no engine {shown(name)}; its engines are {listed(self._engines)}"
            )
        return EngineOfService(self._engines[name], name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._engines)

    def __len__(self) -> int:
        return len(self._engines)

    def __contains__(self, name: object) -> bool:
        return name in self._engines

    def __repr__(self) -> str:
        return f"<Engines {listed(self._engines)}>"
