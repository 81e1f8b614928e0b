"""Runs one model on each installed runtime: bare from two threads, and through an engine."""
