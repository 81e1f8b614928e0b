"""A service: functions around engines, which any number of threads and tasks may call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError
from paddleinfer.models.spec import TensorSpec
from paddleinfer.sentences import listed, shown
from paddleinfer.serve.answer import Answer
from paddleinfer.serve.calls import ServiceCalls
from paddleinfer.serve.diagnosis import ServiceDiagnosis, diagnose_service
from paddleinfer.serve.engines import EngineOfService, Engines
from paddleinfer.serve.functions import Functions, is_async
from paddleinfer.serve.limits import ServiceLimits
from paddleinfer.serve.request import Request
from paddleinfer.serve.tensors import Declared, declared

__all__ = ["Service"]

Preprocess = Callable[[Request], Any]
Postprocess = Callable[[Any, Request], Any]


class Service:
    """What a client asks, made into what an engine takes, and its results into what the client gets.

    Either derive a class, or give functions. With one engine between them these are ``preprocess`` and
    ``postprocess``; any other pipeline is one function, ``handle``, which calls the engines by name. Each may
    be a plain function or an ``async def``: plain ones run in the threads of a pool, or on the thread that
    calls ``call``; coroutines run on the event loop of ``acall``.

    Parameters
    ----------
    engines
        An open engine, or several by name. They stay their giver's to close. None: the server's, which gives
        them to the service.
    name
        In sentences, metrics and the log.
    engine
        The name of the engine between ``preprocess`` and ``postprocess``, where there are several.
    preprocess, postprocess, handle
        Functions in the place of the methods: ``preprocess(request)`` gives the engine's inputs,
        ``postprocess(results, request)`` the answer, ``handle(request, engines)`` does all.
    inputs, outputs
        In the place of the class's.
    limits
        How much it takes on at once.

    Raises
    ------
    ConfigError
        The arguments contradict each other; the sentence says how.
    """

    engine: str | None = None
    limits: ServiceLimits = ServiceLimits()
    inputs: ClassVar[Declared | None] = None
    """Name -> (dtype, shape), such as ``{"text": ("bytes", (-1,))}``, together with `outputs`: with them the
    service is a model over the Open Inference Protocol. A request's value is a dict of arrays then (BYTES are
    arrays of ``bytes``), and its answer a dict of what makes arrays."""
    outputs: ClassVar[Declared | None] = None
    """As `inputs`."""

    def __init__(
        self,
        engines: Engine | Mapping[str, Engine] | None = None,
        *,
        name: str | None = None,
        engine: str | None = None,
        preprocess: Preprocess | None = None,
        postprocess: Postprocess | None = None,
        handle: Callable[[Request, Engines], Any] | None = None,
        inputs: Declared | None = None,
        outputs: Declared | None = None,
        limits: ServiceLimits | None = None,
    ) -> None:
        if handle is not None and (preprocess is not None or postprocess is not None):
            raise ConfigError(
                "handle does all of a request: give it, or preprocess and postprocess, not both"
            )
        for what, function in (("preprocess", preprocess), ("postprocess", postprocess), ("handle", handle)):
            if function is not None and not callable(function):
                raise ConfigError(f"{what} must be a function, not {shown(function)}")
        if limits is not None and not isinstance(limits, ServiceLimits):
            raise ConfigError(f"limits must be ServiceLimits, not {shown(limits)}")
        if engine is not None:
            self.engine = engine
        self.name = name or type(self).__name__
        self.engines = Engines({})
        """By name: ``self.engines.det``."""
        self._has_engines = False
        self._engine_name = ""
        functions = self._functions(preprocess, postprocess, handle)
        tensors = _tensors(
            self.inputs if inputs is None else inputs, self.outputs if outputs is None else outputs
        )
        self._calls = ServiceCalls(self.name, functions, limits or self.limits, *tensors)
        if engines is not None:
            self.use(engines)

    def _functions(
        self,
        preprocess: Preprocess | None,
        postprocess: Postprocess | None,
        handle: Callable[[Request, Engines], Any] | None,
    ) -> Functions:
        if handle is not None:
            given = handle
            if is_async(given):

                async def handling(request: Request) -> Any:
                    return await given(request, self.engines)

                return Functions(handle=handling, engine=self._engine)
            return Functions(handle=lambda request: given(request, self.engines), engine=self._engine)
        kind = type(self)

        def overrides(name: str) -> bool:
            return getattr(kind, name) is not getattr(Service, name)

        if kind.handle is not Service.handle:
            if overrides("preprocess") or overrides("postprocess"):
                raise ConfigError(
                    f"{kind.__name__} has handle, which does all of a request, "
                    "so its preprocess and postprocess would never be called"
                )
            return Functions(handle=self.handle, engine=self._engine)
        is_own = preprocess is not None or overrides("preprocess")
        return Functions(
            preprocess=preprocess or (self.preprocess if overrides("preprocess") else _value_of),
            postprocess=postprocess or (self.postprocess if overrides("postprocess") else _results_of),
            engine=self._engine,
            checks_inputs=is_own,
        )

    # -- what a class of its own says

    def preprocess(self, request: Request) -> Any:
        """What the engine is to be given for a request, as ``Engine.infer`` takes it: by default its value.

        Raises
        ------
        InvalidInput
            To be raised where the client has asked for what cannot be had; the client gets the sentence.
        """
        return request.value

    def postprocess(self, results: Any, request: Request) -> Any:
        """The answer, of the engine's results (name -> array): by default these."""
        return results

    def handle(self, request: Request) -> Any:
        """All of a request, in the place of the two others: it calls ``self.engines.NAME.infer(…)``.

        As an ``async def`` it awaits ``self.engines.NAME.ainfer(…)``. A class's own has
        nothing to call this one for.

        Raises
        ------
        TypeError
            It was called all the same.
        """
        raise TypeError(
            f"{type(self).__name__}.handle calls Service.handle, which does nothing: "
            "call an engine, as self.engines.NAME.infer(…)"
        )

    def prediction(self, answer: Any) -> Mapping[str, Any]:
        """What a client of Paddle Serving's pipelines gets for an answer: keys and their values.

        A value is a text, or what JSON can say. By default these are the entries of a dict, and of anything
        else ``result``.
        """
        value = answer.value if isinstance(answer, Answer) else answer
        return value if isinstance(value, Mapping) else {"result": value}

    # -- calls

    def call(self, request: Any, *, timeout: float | None = None) -> Any:
        """The answer to a request, from any thread. Plain functions run on this thread, in their turn.

        Parameters
        ----------
        request
            A Request, or its value.
        timeout
            Seconds until its deadline. None: ``limits.timeout_s``.

        Raises
        ------
        ServiceError
            A function of the service failed; ``__cause__`` says of what.
        QueueFull
            ``limits.max_requests`` run and wait.
        DeadlineExceeded
            The deadline passed.
        EngineClosed
            The service is closed, or an engine is.
        InvalidInput, ModelError
            As a function or an engine raises it.
        """
        return self._ready().call(request, timeout)

    async def acall(
        self, request: Any, *, timeout: float | None = None, finish: Callable[[Any], Any] | None = None
    ) -> Any:
        """The answer to a request, from an event loop. Plain functions run in the pool's threads.

        Parameters
        ----------
        request, timeout
            As of ``call``.
        finish
            A last function, of the answer, which runs where the one before it did; what it gives is the
            answer then.

        Raises
        ------
        ServiceError, QueueFull, DeadlineExceeded, EngineClosed, InvalidInput, ModelError
            As of ``call``.
        """
        return await self._ready().acall(request, timeout, finish)

    def in_thread(self, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Runs a plain function in the pool, in its turn, for an ``async def`` that would block the loop."""
        return self._ready().in_thread(function, *args)

    # -- its engines, and its end

    def use(self, engines: Engine | Mapping[str, Engine], name: str | None = None) -> None:
        """Gives the service its engines, and its name in sentences; a server does so before it serves.

        Raises
        ------
        ConfigError
            It has engines, or needs to know which of several runs between ``preprocess`` and ``postprocess``.
        """
        calls = self._made()
        if self._has_engines:
            raise ConfigError(f"the service {self.name} has its engines")
        if isinstance(engines, Engine):
            engines = {self.engine or "engine": engines}
        if not isinstance(engines, Mapping):
            raise ConfigError(f"a service takes an Engine, or a dict of them, not {shown(engines)}")
        if not calls.functions.is_whole:
            if self.engine is None and len(engines) != 1:
                raise ConfigError(
                    f"the service {self.name} must say which engine runs between preprocess and postprocess: "
                    f"engine=… names one of {listed(engines)}"
                )
            if self.engine is not None and self.engine not in engines:
                raise ConfigError(
                    f"the service {self.name} names the engine {shown(self.engine)}, "
                    f"and there is {listed(engines)}"
                )
            self._engine_name = next(iter(engines)) if self.engine is None else self.engine
        self.engines = Engines(engines)
        self._has_engines = True
        if name is not None:
            self.rename(name)

    def rename(self, name: str) -> None:
        """Another name in sentences, metrics and the log, such as a server's."""
        self.name = self._made().name = name

    @property
    def has_engines(self) -> bool:
        """Whether it was given its engines, so that the server's are none of its affair."""
        self._made()
        return self._has_engines

    @property
    def described(self) -> str:
        """Its functions and its engines, in a few words."""
        names = self._made().functions.names
        around = f" around {listed(self.engines)}" if len(self.engines) else ""
        return f"{', '.join(names)}{around}"

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests."""
        return self._made().closed

    def stats(self) -> dict[str, Any]:
        """Counts of requests by outcome, and durations of requests and of their stages (nanoseconds)."""
        return self._made().statistics.as_dict()

    def diagnose(self) -> ServiceDiagnosis:
        """What binds the last requests: functions, engines, the wait for a turn, or reading and writing."""
        calls = self._made()
        return diagnose_service(calls.statistics.recent(), calls.limits, list(self.engines))

    @property
    def calls(self) -> ServiceCalls:
        """What the server and the diagnosis look into."""
        return self._made()

    def close(self, drain: bool = True, timeout: float | None = 30.0) -> None:
        """Takes no more requests, lets accepted ones end, and ends the threads. The engines stay open.

        Parameters
        ----------
        drain
            False: those that wait for a turn end with EngineClosed.
        timeout
            Seconds after which those that are left end so, too. A function that runs then goes on to its end.
        """
        self._made().close(drain, timeout)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Service {self.name}: {listed(self.engines)}>"

    def _engine(self) -> EngineOfService:
        return self.engines[self._engine_name]

    def _made(self) -> ServiceCalls:
        calls: ServiceCalls | None = self.__dict__.get("_calls")
        if calls is None:
            kind = type(self).__name__
            raise ConfigError(f"{kind}.__init__ must call super().__init__() before it is used")
        return calls

    def _ready(self) -> ServiceCalls:
        calls = self._made()
        if not self._has_engines and not calls.functions.is_whole:
            raise ConfigError(f"the service {self.name} has no engine: give it one, Service(engine)")
        return calls


# What the methods do by default, for other processes to find.


def _value_of(request: Request) -> Any:
    return request.value


def _results_of(results: Any, request: Request) -> Any:
    return results


def _tensors(
    inputs: Declared | None, outputs: Declared | None
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    if inputs is None and outputs is None:
        return (), ()
    if inputs is None or outputs is None:
        raise ConfigError("inputs and outputs are declared together, or neither")
    return declared(inputs, "inputs"), declared(outputs, "outputs")
