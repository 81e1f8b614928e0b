"""Generates load within one process: callers in a closed loop, or arrivals at a rate."""
