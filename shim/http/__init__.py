"""Serves HTTP: the Starlette application, the fast path beside it, and uvicorn's protocol with our limits.

May import: protocol, service, sockets.
"""
