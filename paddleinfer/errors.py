"""The errors paddleinfer raises: one tree, and the matching builtin where there is one."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from paddleinfer.sentences import printable, shortened

if TYPE_CHECKING:
    from paddleinfer.explanation import InferInfo

__all__ = [
    "Cancelled",
    "ConfigError",
    "DeadlineExceeded",
    "EngineClosed",
    "InvalidInput",
    "ModelError",
    "ModelLoadError",
    "OutOfMemory",
    "PaddleInferError",
    "QueueFull",
    "ServiceError",
    "ThreadStartError",
]


class PaddleInferError(Exception):
    """Base of everything paddleinfer raises on purpose."""

    def __str__(self) -> str:
        """Returns the sentence, `printable` and `shortened`."""
        return shortened(printable(shortened(super().__str__())))


class InvalidInput(PaddleInferError, ValueError):
    """The caller's tensors do not fit the model; nothing was queued."""


class ConfigError(PaddleInferError, ValueError):
    """An option is unknown, out of range, or not possible with the installed Paddle."""


class ModelLoadError(PaddleInferError):
    """A directory is not a model, or Paddle could not load it."""


class QueueFull(PaddleInferError):
    """The engine refused a request because too much is queued; trying again later may work.

    Attributes
    ----------
    retry_after_s
        Seconds after which the queue is expected to have room.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[QueueFull], tuple[str, float]]:
        return type(self), (str(self), self.retry_after_s)


class DeadlineExceeded(PaddleInferError, TimeoutError):
    """The request's deadline passed before its result was there.

    Attributes
    ----------
    shed
        Whether it was dropped before it ran because no result could be in time. It is dropped at once where
        no run could meet the deadline at all.
    """

    def __init__(self, message: str, *, shed: bool = False) -> None:
        super().__init__(message)
        self.shed = shed


class Cancelled(PaddleInferError, CancelledError):
    """The request was cancelled before it ran."""


class EngineClosed(PaddleInferError, RuntimeError):
    """The engine is closed, was closed while the request waited, or belongs to another process.

    Attributes
    ----------
    accepted
        Whether the request had been queued, so that it may have run.
    """

    def __init__(self, message: str, *, accepted: bool = False) -> None:
        super().__init__(message)
        self.accepted = accepted


class ModelError(PaddleInferError, RuntimeError):
    """The model failed on this request; ``__cause__`` holds the original error where there is one.

    Attributes
    ----------
    info
        Why the request went as it did, where its call asked for that with ``return_info=True``; else None.
    """

    info: InferInfo | None = None


class OutOfMemory(ModelError, MemoryError):
    """There was no memory to queue or to run this request; one of fewer rows, or a later one, may run."""


class ServiceError(PaddleInferError, RuntimeError):
    """A function of a service failed on this request; ``__cause__`` is what it raised, and the log has it.

    Attributes
    ----------
    stage
        Which function: "preprocess", "postprocess" or "handle".
    """

    def __init__(self, message: str, *, stage: str = "handle") -> None:
        super().__init__(message)
        self.stage = stage


class ThreadStartError(PaddleInferError, RuntimeError):
    """The system gave no further thread; those started for the purpose were ended, and nothing was queued."""

    @classmethod
    def of(cls, purpose: str, reason: object) -> ThreadStartError:
        """Makes the error from what the thread was for and what the system said."""
        return cls(
            f"no thread could be started for {purpose} ({reason}): the process has as many as it may, or no "
            "memory for another; use fewer instances and engines, or raise the limit (ulimit -u, or the "
            "container's pids limit)"
        )
