"""What an engine's instances drive: Paddle's predictors (``paddle``) or a Python callable.

A backend turns options and a ModelSpec into instances of the compiled core. May import: models, the core.
"""
