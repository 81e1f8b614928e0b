"""Hostile clients, and the servers that they are sent to."""
