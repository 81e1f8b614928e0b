"""Drives anything that answers requests, by callers who wait for their answers or by arrivals at a rate.

The command and the demo drive engines with it. May import: errors.
"""
