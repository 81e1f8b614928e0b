"""Loads for whatever answers requests: callers who wait for their answers, or arrivals at a rate.

The command and the demo drive engines with it. May import: errors.
"""
