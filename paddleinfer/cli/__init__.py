"""The command ``paddleinfer``: one module a sub-command, found by its name.

``main`` parses and dispatches; ``output`` and ``progress`` are how all of them speak.
May import: everything but the server.
"""
