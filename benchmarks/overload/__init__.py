"""Measures policies under more requests than can be served."""
