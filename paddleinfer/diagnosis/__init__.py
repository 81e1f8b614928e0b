"""Finds where requests spend their time, what binds them, and what would make them faster, with figures.

It needs only a trace; ``Engine.diagnose()`` passes it one. May import: tracing.
"""
