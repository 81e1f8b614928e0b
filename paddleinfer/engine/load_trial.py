"""Loads a model in another process first, so that a program that crashes Paddle does so there.

Paddle checks little of what it reads. A damaged program can end a process by a signal, without an exception.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace

from paddleinfer import errors
from paddleinfer.child_process import CRASHES, NotStarted, ended, python_code, read_order, run_python
from paddleinfer.config import EngineConfig
from paddleinfer.engine.opening import Opening
from paddleinfer.errors import ModelLoadError
from paddleinfer.sentences import shortened

__all__ = ["run", "try_load"]

_LONGEST_S = 600.0
_MOST_ANSWER_BYTES = 1 << 16
# The child writes these before it loads, and before its answer.
_BEGUN = b"!"
_CHILD = python_code("paddleinfer.engine.load_trial")


def try_load(
    path: str | os.PathLike[str],
    config: EngineConfig,
    opening: Opening,
    *,
    child: str = _CHILD,
    longest_s: float = _LONGEST_S,
) -> None:
    """Loads and checks a model in a child process, and returns when it did.

    Parameters
    ----------
    path, config
        The arguments of ``Engine``.
    opening
        The load that this trial belongs to; its end ends the child.
    child
        The command that the child runs.
    longest_s
        Seconds that it may take.

    Raises
    ------
    ModelLoadError, ConfigError, OutOfMemory, ThreadStartError
        It cannot be loaded; the sentence is the child's, or says how the child ended.
    EngineClosed
        The load was ended meanwhile.
    """
    answered, answers = os.pipe()
    with os.fdopen(answered, "rb") as reader:
        order = (os.fspath(path), _lone(config), answers)
        try:
            code, _ = run_python(child, order, opening.ended_by, longest_s=longest_s, kept_open=(answers,))
        except NotStarted as error:
            raise ModelLoadError(f"{_cannot_try(path)}: {error}") from error
        except subprocess.TimeoutExpired:
            raise ModelLoadError(
                f"{path} was not loaded within {longest_s:g} s by the process that tried it"
            ) from None
        finally:
            os.close(answers)
        answer = reader.read(_MOST_ANSWER_BYTES)
    _raise_of(path, code, answer)


def _cannot_try(path: object) -> str:
    return f'{path} cannot be tried in another process (check_load="process")'


def _lone(config: EngineConfig) -> EngineConfig:
    """Returns the options of the trial: the first instance may crash, and the row that checks it."""
    return replace(
        config,
        runtime=replace(config.runtime, instances=1),
        check_load="here",
        warmup=False,
        max_memory_bytes=None,
    )


def _raise_of(path: object, code: int, answer: bytes) -> None:
    begun = answer.startswith(_BEGUN)
    if code == 0 and begun and len(answer) > len(_BEGUN):
        kind, sentence = json.loads(answer[len(_BEGUN) :])
        if kind is None:
            return
        raise getattr(errors, kind)(sentence)
    how = ended(code)
    if code < 0 and -code not in CRASHES:
        why = ", as the system does where memory is short" if -code == signal.SIGKILL else ""
        raise ModelLoadError(
            f"the process that tried to load {path} was ended {how} from outside{why}; that says nothing of "
            "the model, so load it again"
        )
    if not begun:
        raise ModelLoadError(f"{_cannot_try(path)}: it ended {how} before it began")
    raise ModelLoadError(
        f"{path} ended the process that tried to load it {how}; its program or parameters are damaged, or "
        "Paddle cannot run them"
    )


def run() -> None:
    """Runs in the child: reads the order from standard input, and writes the answer to a pipe."""
    path, config, answers = read_order()
    os.write(answers, _BEGUN)
    answer = _answer_of(path, config)
    os.write(answers, json.dumps(answer).encode())  # it fits into the pipe
    os._exit(0)  # the trial is over: how Paddle's process exits does not matter


def _answer_of(path: str, config: EngineConfig) -> tuple[str | None, str]:
    from paddleinfer.engine.engine import Engine

    try:
        Engine(path, config).close(timeout=_LONGEST_S)
    except (errors.ModelLoadError, errors.ConfigError, errors.OutOfMemory, errors.ThreadStartError) as error:
        return type(error).__name__, shortened(str(error))
    except Exception as error:
        why = shortened(f"{type(error).__name__}: {error}")
        return "ModelLoadError", f"{path} cannot be loaded: {why}"
    return None, ""
