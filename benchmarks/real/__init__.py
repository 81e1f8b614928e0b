"""Runs PaddleOCR's models: one predictor, and ways to serve pages and lines."""
