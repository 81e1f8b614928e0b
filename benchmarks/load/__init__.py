"""The load generator for calls in one process: callers in a closed loop, or arrivals at a rate."""
