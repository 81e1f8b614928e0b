"""Policies under more requests than can be served."""
