"""The functions of Ops that users write: how each is called, and what it gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import listed, shown
from paddleinfer.serving.pipeline.errors import CustomExceptionCode, OpError
from paddleinfer.serving.pipeline.op import Op

__all__ = ["Hook"]

_FURTHER: Final = ("data_id", "log_id")
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Hook:
    """One function of a class of Ops, such as ``preprocess``.

    Its older forms are told by their parameters: without ``data_id``, and without either number. Where it
    gives its first value alone, and no tuple, the others are what they are by default.

    Parameters
    ----------
    op
        Of the class.
    name
        Of the function.
    takes
        How many values it gets before the two numbers.
    gives
        What its tuple has: a name for each place, and what stands there by default.

    Raises
    ------
    ConfigError
        Its parameters are none of these.
    """

    def __init__(self, op: Op, name: str, takes: int, gives: tuple[tuple[str, Any], ...]) -> None:
        self._name = name
        self._op_name = op.name
        self._gives = gives
        function: Callable[..., Any] = getattr(op, name)
        if inspect.iscoroutinefunction(function):
            raise ConfigError(f"{name} of Op {op.name!r} must be a plain function, not an async one")
        parameters = list(inspect.signature(function).parameters.values())
        positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
        if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
            self._further: tuple[str, ...] = _FURTHER
        elif takes <= len(positional) <= takes + len(_FURTHER):
            named = tuple(parameter.name for parameter in positional[takes:])
            self._further = _FURTHER[2 - len(named) :] if named != ("data_id",) else named
        else:
            raise ConfigError(
                f"{name} of Op {op.name!r} takes {len(positional)} values beside self, and is given {takes}, "
                f"or as many and {listed(_FURTHER)}"
            )

    def __call__(self, op: Op, given: tuple[Any, ...], data_id: int, log_id: int) -> tuple[Any, ...]:
        """Calls it.

        Raises
        ------
        OpError
            It gave something else, or the number of an error of the product's, which is neither None nor 0.
        """
        numbers = {"data_id": data_id, "log_id": log_id}
        result = getattr(op, self._name)(*given, *(numbers[name] for name in self._further))
        values = (
            result if isinstance(result, tuple) else (result, *(default for _, default in self._gives[1:]))
        )
        if len(values) != len(self._gives):
            raise self._wrong(result)
        err_no, sentence = values[-2:]
        if err_no in (None, 0):
            return values
        if type(err_no) is not int:
            raise self._wrong(result)
        raise OpError(err_no, str(sentence or ""), is_of_product=True)

    def _wrong(self, result: Any) -> OpError:
        wanted = ", ".join(name for name, _ in self._gives)
        return OpError(
            CustomExceptionCode.TYPE_ERROR.value,
            f"{self._name} of Op {self._op_name!r} must give ({wanted}), and gave {shown(result)}",
        )
