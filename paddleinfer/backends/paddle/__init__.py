"""Finds and configures Paddle, works around its known faults, and drives it through its own C++ API.

Only this package and ``paddleinfer.demo`` import paddle, and only inside functions.
May import: models, the core.
"""
