"""Measures the server over HTTP and gRPC, and other servers."""
