"""Serves models over any protocol: their loads and reloads, and each request's course through an engine.

May import: protocol, and the engine's public API.
"""
