"""Measures many callers of one engine, in threads and tasks, and other ways to serve them."""
