"""Reads and checks requests of the Open Inference Protocol, and writes its responses, in bytes and JSON.

It knows neither sockets nor engines. May import: paddleinfer's errors and models, the requests of ``serve``.
"""
