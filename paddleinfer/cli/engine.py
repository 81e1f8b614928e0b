"""Reads a model and an engine's options from the command line."""

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
    """Adds the argument for a model's directory."""
    parser.add_argument(
        "model", metavar="DIR", type=model_path, help="a model's directory, file or file stem"
    )


def model_path(text: str) -> Path:
    """Makes a path, as argparse expects it; ``Path("")`` would be the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("must be a model's directory, file or file stem, not empty")
    return Path(text)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Adds every option of ``Engine`` that text can express."""
    for title, flags in engine_flags().items():
        add_flags(parser, title, flags)


def engine_config(options: argparse.Namespace) -> EngineConfig:
    """Returns the options as given, else from the environment, else the defaults.

    Raises
    ------
    ConfigError
        An option is wrong.
    """
    flags = [flag for group in engine_flags().values() for flag in group]
    return EngineConfig.from_options({**from_environment(os.environ, flags), **given_flags(options, flags)})


def open_engine(path: Path, config: EngineConfig) -> Engine:
    """Opens an engine. Ctrl-C waits until it is open, because Paddle breaks if its load is interrupted."""
    with defer_sigint():
        engine = Engine(path, config=config)
    return engine
