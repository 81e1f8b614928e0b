"""Opens the sockets a server listens on, TCP and Unix, and limits its open descriptors.

May import: service and the server's options.
"""
