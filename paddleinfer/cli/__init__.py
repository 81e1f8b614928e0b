"""The command ``paddleinfer``: each sub-command is the module of its name.

``main`` parses and dispatches; ``output`` and ``progress`` print for all of them.
May import: everything but the server.
"""
