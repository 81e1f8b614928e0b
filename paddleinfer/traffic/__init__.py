"""Drives anything that answers requests, by callers who wait for their answers or by arrivals at a rate.

The command, the demo and the tuner drive engines with it. May import: errors, sentences, models.
"""
