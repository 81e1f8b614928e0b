"""The engine: a model as a thread-safe, parallel, self-batching function, ``paddleinfer.Engine``.

``engine`` opens and closes it, ``calls`` has its calls, ``generations`` reloads it, ``generation`` is one
load, and ``introspection`` describes an engine.
May import: backends, models, tracing, diagnosis.
"""
