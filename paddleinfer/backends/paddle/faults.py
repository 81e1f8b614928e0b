"""Lists known faults of Paddle: which versions have them, how a model is recognised, and the workaround.

Faults that cannot be recognised before a run are left to the fall-back in ``runtime``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from paddleinfer.models.pir import all_operators
from paddleinfer.models.program_blocks import blocks_of

__all__ = ["KNOWN_FAULTS", "FaultContext", "KnownFault", "Workaround", "workarounds_for"]

Operators = list[dict[str, Any]]


@dataclass(frozen=True)
class FaultContext:
    """What decides whether a fault is met: Paddle, the options in force, the processor, the model."""

    version: tuple[int, ...]
    onednn: bool
    """Whether oneDNN's kernels are in use."""
    ir_optim: bool
    legacy: bool
    """Whether the program is a ProgramDesc and not a ``.json`` one."""
    processor: frozenset[str]
    """The flags of ``/proc/cpuinfo``."""
    program: bytes
    """The whole program file."""


@dataclass(frozen=True)
class Workaround:
    """What makes a model run in spite of a fault."""

    fault: str
    """The name of the fault in KNOWN_FAULTS."""
    sentence: str
    """What is done and why, for ``effective_config()``."""
    about: str = "onednn"
    """The option whose line in ``effective_config()`` shows the sentence."""
    without_onednn: bool = False
    """Whether nothing may run on oneDNN."""
    program: bytes | None = None
    """The program to load instead of the model's own."""
    without_file: Workaround | None = None
    """The workaround to use where no file can be written for the program."""
    delete_passes: tuple[str, ...] = ()
    """Passes that Paddle must not run."""
    renew_predictors: bool = False
    """Whether oneDNN's kernel cache is emptied by making an instance's predictor again."""


@dataclass(frozen=True)
class KnownFault:
    """One line of the table."""

    name: str
    versions: str
    """The versions of Paddle that have it, in words."""
    symptom: str
    """What Paddle does without the workaround."""
    find: Callable[[FaultContext], Workaround | None]
    """Returns the workaround if the model would meet the fault, else None."""


def workarounds_for(context: FaultContext) -> list[Workaround]:
    """Returns one workaround for each known fault that the model would meet."""
    found = []
    for fault in KNOWN_FAULTS:
        workaround = fault.find(context)
        if workaround is not None:
            found.append(workaround)
            context = replace(context, onednn=context.onednn and not workaround.without_onednn)
    return found


# -- interpolation under oneDNN

_PLACEMENT_PASS: Final = "onednn_placement_pass"
_PLACED_INTERPOLATIONS = ("1.nearest_interp", "1.bilinear_interp")
# oneDNN has no kernel for it. Paddle's own library has one function for all kinds, chosen by interp_method.
_UNPLACED_INTERPOLATION = "1.bicubic_interp"
_INTERPOLATED_BY_ALL = frozenset(("0.t_f32", "0.t_f16"))
# oneDNN has no kernels for these, so Paddle uses its own.
_NEVER_PLACED = frozenset(("0.t_f64", "0.t_i32", "0.t_i64"))


def _interpolation(context: FaultContext) -> Workaround | None:
    affected = context.version[:2] == (3, 3) and context.onednn and not context.legacy
    if not affected or b"_interp" not in context.program:
        return None
    document = json.loads(context.program)
    found = [
        op
        for op in all_operators(document)
        if op["#"] in _PLACED_INTERPOLATIONS and _element(op) not in _NEVER_PLACED
    ]
    if not found:
        return None
    names = ", ".join(sorted({op["#"].partition(".")[2] for op in found}))
    them = names if len(found) == 1 else f"{names} ({len(found)} operators)"
    why = f"Paddle {'.'.join(map(str, context.version))} cannot run {them} on oneDNN"
    coarse = Workaround(
        "onednn-interp",
        f"{why}, so its {_PLACEMENT_PASS} is left out and only fused operators stay on oneDNN",
        delete_passes=(_PLACEMENT_PASS,),
    )
    if any(_element(op) not in _INTERPOLATED_BY_ALL for op in found):
        return coarse
    for op in found:
        op["#"] = _UNPLACED_INTERPOLATION
    return Workaround(
        "onednn-interp",
        f"{why}, so Paddle's own kernels do; the rest stays on oneDNN",
        program=json.dumps(document).encode(),
        without_file=coarse,
    )


# -- channels last under oneDNN

_CHANNELS_LAST = re.compile(rb"N(?:HWC|DHWC|WC|LC)")
_LAYOUT_ATTRIBUTES = ("data_format", "data_layout")


def _channels_last(context: FaultContext) -> Workaround | None:
    # A legacy program uses oneDNN with ir_optim only.
    affected = context.onednn and context.version[:1] == (3,) and (context.ir_optim or not context.legacy)
    if not affected or _CHANNELS_LAST.search(context.program) is None:
        return None
    layouts = _legacy_layouts if context.legacy else _layouts
    found = sorted({name for name, layout in layouts(context.program) if _is_channels_last(layout)})
    if not found:
        return None
    return Workaround(
        "onednn-channels-last",
        f"off, because Paddle mistakes the layout of channels-last operators ({', '.join(found)}) on oneDNN",
        without_onednn=True,
    )


def _is_channels_last(layout: str) -> bool:
    return _CHANNELS_LAST.fullmatch(layout.encode()) is not None


def _layouts(program: bytes) -> Iterator[tuple[str, str]]:
    """Yields operators with their layouts, from a ``.json`` program."""
    for op in all_operators(json.loads(program)):
        for attribute in op.get("A", ()):
            if isinstance(attribute, dict) and attribute["N"] in _LAYOUT_ATTRIBUTES:
                yield op["#"].partition(".")[2], str(attribute["AT"].get("D"))


def _legacy_layouts(program: bytes) -> Iterator[tuple[str, str]]:
    """Yields operators with their layouts, from a legacy program."""
    for block in blocks_of(program):
        for op in block.messages(4, *(name.encode() for name in _LAYOUT_ATTRIBUTES)):
            for attribute in op.messages(4, *(name.encode() for name in _LAYOUT_ATTRIBUTES)):
                if attribute.text(1) in _LAYOUT_ATTRIBUTES:
                    yield op.text(3), "".join(attribute.texts(5))


def _element(op: dict[str, Any]) -> str:
    """Returns the element type of an operator's first output."""
    kind = op["O"][0]["TT"]
    return str(kind["D"][0]["#"]) if kind["#"] == "0.t_dtensor" else ""


# -- if and while under oneDNN


def _inner_blocks(context: FaultContext) -> Workaround | None:
    affected = context.onednn and (context.ir_optim or not context.legacy)
    if not affected or not _has_inner_blocks(context):
        return None
    if context.legacy:
        return Workaround(
            "onednn-inner-blocks",
            "off, because threads that Paddle begins for a legacy model with if or while empty oneDNN's "
            "kernel cache for all models when they end",
            without_onednn=True,
        )
    return Workaround(
        "onednn-inner-blocks",
        "where its kernel cache is to be emptied an instance's predictor is made again, because Paddle frees "
        "only a part of what a model with if or while has put into it",
        renew_predictors=True,
    )


def _has_inner_blocks(context: FaultContext) -> bool:
    if context.legacy:
        return len(blocks_of(context.program)) > 1
    if context.program.count(b'"regions"') < 2:
        return False
    return any(op.get("regions") for op in all_operators(json.loads(context.program)))


# -- instructions that the processor lacks

# This is the only pass that Paddle builds for AVX-512 alone.
_AVX512_PASS: Final = "self_attention_fuse_pass"


def _avx512(context: FaultContext) -> Workaround | None:
    affected = context.version[:2] == (2, 6) and context.ir_optim and context.legacy
    if not affected or "avx512f" in context.processor:
        return None
    return Workaround(
        "avx512-pass",
        f"without Paddle's {_AVX512_PASS}, whose instructions (AVX-512) this processor lacks",
        about="ir_optim",
        delete_passes=(_AVX512_PASS,),
    )


KNOWN_FAULTS: Final = (
    KnownFault(
        name="onednn-channels-last",
        versions="3",
        symptom="operators on NHWC data fail on oneDNN, or give wrong results without an error",
        find=_channels_last,
    ),
    KnownFault(
        name="onednn-interp",
        versions="3.3",
        symptom="every run of nearest_interp or bilinear_interp of a .json program fails with Unimplemented",
        find=_interpolation,
    ),
    KnownFault(
        name="onednn-inner-blocks",
        versions="2.6 and 3",
        symptom="in models with if or while shapes seen before fail once oneDNN's cache is emptied",
        find=_inner_blocks,
    ),
    KnownFault(
        name="avx512-pass",
        versions="2.6",
        symptom="a load with ir_optim ends the process with SIGILL on a processor without AVX-512",
        find=_avx512,
    ),
)
