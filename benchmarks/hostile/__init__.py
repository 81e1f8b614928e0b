"""Provides hostile clients, and the servers that they attack."""
