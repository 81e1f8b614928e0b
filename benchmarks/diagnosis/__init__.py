"""Measures whether the advice of a diagnosis gains what it predicts."""
