"""Serves gRPC over ``grpc.aio``: the services, their messages, limits and statuses.

May import: protocol, service, sockets.
"""
