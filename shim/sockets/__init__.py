"""The sockets a server listens on, TCP and Unix, and how many descriptors it may have open.

May import: service and the server's options.
"""
