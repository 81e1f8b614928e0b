"""HTTP: the Starlette application, the fast path beside it, and uvicorn's protocol with this server's limits.

May import: protocol, service, sockets.
"""
