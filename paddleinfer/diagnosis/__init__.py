"""Where requests spend their time, what binds them, and what would make them faster, with figures.

Works on a trace alone; ``Engine.diagnose()`` hands it one. May import: tracing.
"""
