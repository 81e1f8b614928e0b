"""The main job on real input: a model is trained, exported, and classifies from many threads at once.

``python -m paddleinfer.demo`` or ``paddleinfer demo``. May import: the engine, export, traffic,
and paddle inside functions.
"""
