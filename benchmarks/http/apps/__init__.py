"""Servers that bench_http compares with, each started in a process (and an environment) of its own."""
