"""Makes the inputs of a load's requests by the command line: random arrays, or rows of files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from paddleinfer.cli.arrays import random_inputs, read_inputs
from paddleinfer.errors import ConfigError
from paddleinfer.models.spec import TensorSpec
from paddleinfer.traffic.load_inputs import LoadInputs, inputs_in_turn

__all__ = ["inputs_of"]


def inputs_of(options: argparse.Namespace, wanted: Sequence[TensorSpec]) -> LoadInputs:
    """Makes the inputs that ``--input``, ``--shape`` and ``--rows`` describe.

    Raises
    ------
    ConfigError, InvalidInput
        They do not fit the model or each other, or the model has no inputs.
    """
    if not wanted:
        raise ConfigError(f"{options.model} has no inputs, so there is nothing to load it with")
    if not options.input:
        return LoadInputs(random_inputs(wanted, options.shape, options.rows))
    if options.shape:
        raise ConfigError("--shape is for random inputs, and --input gives the arrays: give one of them")
    return inputs_in_turn(read_inputs(options.input, wanted), wanted, options.rows)
