"""Measures what paddleinfer costs and gains; see README.md."""
