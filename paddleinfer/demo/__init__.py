"""The demo does the main job on real input: it trains a model, exports it, and classifies from many threads.

``python -m paddleinfer.demo`` or ``paddleinfer demo``. May import: the engine, export, traffic,
and paddle inside functions.
"""
