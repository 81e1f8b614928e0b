"""OpenTelemetry spans for an engine's requests (``pip install 'paddleinfer[otel]'``).

``instrument(engine)`` turns them on. May import: the engine.
"""

from paddleinfer.otel.instrument import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]
