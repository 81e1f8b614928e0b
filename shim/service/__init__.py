"""What one server serves on any wire: models, their loads and reloads, a request's way through an engine.

May import: protocol, and the engine's public API.
"""
