"""The engine: a model as a thread-safe, parallel, self-batching function, ``paddleinfer.Engine``.

``engine`` opens and ends it, ``calls`` has what is called, ``generations`` reload, ``generation`` one load,
and ``introspection`` what an engine says of itself.
May import: backends, models, tracing, diagnosis.
"""
