"""Reads the text of pictures with PaddleOCR's models: a service around the engines ``det`` and ``rec``.

``Ocr`` is the service; it shows how a pipeline of several models is written. NumPy and Pillow do all that
stands around the models. May import: ``serve``.
"""

from paddleinfer.ocr.service import Ocr

__all__ = ["Ocr"]
