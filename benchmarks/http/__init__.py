"""The server over HTTP and gRPC, beside other servers."""
