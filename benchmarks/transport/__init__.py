"""Measures what each way to a model costs a caller: in process, HTTP, gRPC."""
