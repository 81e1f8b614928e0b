"""A directory becomes a ModelSpec: its files, tensors and parameters, and whether requests may share a run.

Nothing here imports Paddle or the compiled core: a program is read from its bytes.
May import: errors, config.
"""
