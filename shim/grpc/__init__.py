"""gRPC: the services, their messages, limits and statuses, over ``grpc.aio``.

May import: protocol, service, sockets.
"""
