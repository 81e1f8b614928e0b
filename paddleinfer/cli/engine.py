"""A model and an engine's options on the command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from paddleinfer.config import EngineConfig
from paddleinfer.engine.engine import Engine
from paddleinfer.engine.lifecycle import defer_sigint
from paddleinfer.options.flags import add_flags, engine_flags, from_environment, given_flags

__all__ = ["add_engine_options", "add_model", "engine_config", "model_path", "open_engine"]


def add_model(parser: argparse.ArgumentParser) -> None:
    """The directory of a model."""
    parser.add_argument(
        "model", metavar="DIR", type=model_path, help="a model's directory, file or file stem"
    )


def model_path(text: str) -> Path:
    """A path, as argparse wants it; ``Path("")`` would be the directory one is in."""
    if not text:
        raise argparse.ArgumentTypeError("must be a model's directory, file or file stem, not empty")
    return Path(text)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Every option of ``Engine`` that a line of text can give."""
    for title, flags in engine_flags().items():
        add_flags(parser, title, flags)


def engine_config(options: argparse.Namespace) -> EngineConfig:
    """The options as given, else from the environment, else the defaults.

    Raises
    ------
    ConfigError
        One is wrong.
    """
    flags = [flag for group in engine_flags().values() for flag in group]
    return EngineConfig.from_options({**from_environment(os.environ, flags), **given_flags(options, flags)})


def open_engine(path: Path, config: EngineConfig) -> Engine:
    """An engine; Ctrl-C waits until it is open, for Paddle breaks when it is interrupted while it loads."""
    with defer_sigint():
        engine = Engine(path, config=config)
    return engine
