"""The Open Inference Protocol in bytes and JSON: requests read and checked, responses written.

Knows neither sockets nor engines. May import: paddleinfer's errors and models, and the requests of ``serve``.
"""
