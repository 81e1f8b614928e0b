"""Paddle: found, configured, its known faults worked around, and driven through its own C++ API.

Only this package and ``paddleinfer.demo`` import paddle, and only inside functions.
May import: models, the core.
"""
